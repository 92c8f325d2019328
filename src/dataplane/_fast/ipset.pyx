"""A host's sets as a Python object: it owns their memory."""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from dataplane._fast.ipset cimport KEY_WORDS, IpSet, SetMember, set_add, set_clear, set_find, set_remove


@cython.final
cdef class CompiledSets:
    """The sets of one host, by index; `names` has their names.

    sets: for each (name, settings), where settings are the fields of IpSet that are not state: parts, dimensions,
    family, net, counters, timeouts, skbinfo, mask (four words, or None), timeout (ns), low, high, limit.
    """

    def __cinit__(self, sets):
        cdef IpSet *s
        cdef int32_t i, at
        sets = tuple(sets)
        self.names = tuple([name for name, _ in sets])
        self.count = len(sets)
        self.sets = <IpSet *>calloc(self.count + 1, sizeof(IpSet))
        if self.sets == NULL:
            raise MemoryError
        for i, (_, settings) in enumerate(sets):
            s = &self.sets[i]
            s.parts = settings["parts"]
            s.dimensions = settings["dimensions"]
            s.family = settings["family"]
            s.net = settings["net"]
            s.counters = settings["counters"]
            s.timeouts = settings["timeouts"]
            s.skbinfo = settings["skbinfo"]
            if settings["mask"] is not None:
                s.masked = 1
                for at in range(4):
                    s.address_mask[at] = settings["mask"][at]
            s.timeout = settings["timeout"]
            s.low = settings["low"]
            s.high = settings["high"]
            s.limit = settings["limit"]

    def __dealloc__(self):
        cdef int32_t i
        if self.sets != NULL:
            for i in range(self.count):
                set_clear(&self.sets[i])
            free(self.sets)

    cdef IpSet *known(self, int32_t index) except NULL:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return &self.sets[index]

    def add(
        self, int32_t index, key, *, int64_t expires=0, uint64_t packets=0, uint64_t bytes=0, bint nomatch=False,
        uint32_t mark=0, uint32_t mark_mask=0,
    ):
        """Add a member.

        key: ten words in host order: address, protocol << 16 | port, second address, prefix lengths. expires: ns from
        the first packet on, 0 for never. False when the set is full. Raises ValueError for a prefix length that
        cannot be.
        """
        cdef IpSet *s = self.known(index)
        cdef uint32_t words[10]
        cdef SetMember *m
        cdef int i
        if len(key) != KEY_WORDS:
            raise ValueError("a key has ten words")
        for i in range(KEY_WORDS):
            words[i] = key[i]
        if (words[9] & 0xFF) > 128 or words[9] >> 8 > 128:
            raise ValueError("no such prefix length")
        m = set_find(s, words)
        if m == NULL:
            m = set_add(s, words)
        if m == NULL:
            return False
        m.expires = expires
        m.packets = packets
        m.bytes = bytes
        m.nomatch = nomatch
        m.mark = mark
        m.mark_mask = mark_mask
        return True

    def remove(self, int32_t index, key):
        """Remove a member, as `add` was given it; False when there is none."""
        cdef IpSet *s = self.known(index)
        cdef uint32_t words[10]
        cdef SetMember *m
        cdef int i
        if len(key) != KEY_WORDS:
            raise ValueError("a key has ten words")
        for i in range(KEY_WORDS):
            words[i] = key[i]
        m = set_find(s, words)
        if m == NULL:
            return False
        set_remove(s, m)
        return True

    def fill_list(self, int32_t index, members):
        """Say which sets a list holds: (index, expires in ns, packets, bytes, mark, mask of the mark), in order."""
        cdef IpSet *s = self.known(index)
        cdef int32_t i
        rows = tuple(members)
        free(s.list)
        free(s.list_members)
        s.list = <int32_t *>calloc(len(rows) + 1, sizeof(int32_t))
        s.list_members = <SetMember *>calloc(len(rows) + 1, sizeof(SetMember))
        if s.list == NULL or s.list_members == NULL:
            raise MemoryError
        s.list_count = len(rows)
        for i, (member, expires, packets, size, mark, mark_mask) in enumerate(rows):
            self.known(member)
            s.list[i] = member
            s.list_members[i].expires = expires
            s.list_members[i].packets = packets
            s.list_members[i].bytes = size
            s.list_members[i].mark = mark
            s.list_members[i].mark_mask = mark_mask

    def members(self, int32_t index, int64_t now=0):
        """The members of a set that have not expired, in no order: (key, ns left, packets, bytes, nomatch).

        Of a list, (index of the set, ns left, packets, bytes, False). Nothing is left of what never expires.
        """
        cdef IpSet *s = self.known(index)
        cdef SetMember *m
        cdef uint32_t row
        cdef int32_t at
        found = []
        # Until a packet has started the clock, what is kept is the time left.
        now = now if s.started else 0
        for at in range(s.list_count):
            m = &s.list_members[at]
            if s.list[at] >= 0 and (m.expires == 0 or m.expires > now):
                found.append((s.list[at], m.expires - now if m.expires else 0, m.packets, m.bytes, False))
        if s.rows == NULL:
            return found
        for row in range(s.mask + 1):
            m = s.rows[row]
            while m != NULL:
                if m.expires == 0 or m.expires > now:
                    key = tuple([m.key[at] for at in range(KEY_WORDS)])
                    found.append((key, m.expires - now if m.expires else 0, m.packets, m.bytes, bool(m.nomatch)))
                m = m.next
        return found
