"""Forwarding databases: the bridges' MAC to port, the VXLAN devices' MAC to remote.

Sources: net/bridge/br_fdb.c, drivers/net/vxlan/vxlan_core.c.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

cdef struct Remote:
    # One destination of a VXLAN entry.
    uint32_t address[4]
    uint8_t family          # 0: unspecified, the frame goes nowhere
    uint16_t port           # 0: the device's
    uint32_t vni            # 0: the device's
    int32_t slot            # -1: the device's
    Remote *next

cdef struct FdbEntry:
    uint64_t mac
    int32_t device          # slot of the bridge or the VXLAN device
    int32_t port            # bridge: slot of the port, or of the bridge itself; VXLAN: unused
    uint16_t vlan
    uint8_t local           # bridge: the frame goes up the stack
    uint8_t fixed           # never aged; of a VXLAN device also never learnt over
    uint8_t sticky          # bridge: stays at its port
    int64_t updated         # ns; 0: from before the first frame
    int64_t used
    Remote *remotes         # VXLAN
    FdbEntry *next

cdef struct Fdb:
    FdbEntry **buckets
    uint32_t mask
    int32_t count
    int32_t limit
    uint64_t refused        # entries that were not made because the table was full
    int64_t started         # when an entry's age was first asked for; 0: not yet


cdef inline int64_t fdb_age(Fdb *fdb, int64_t since, int64_t now) noexcept nogil:
    """How long ago `since` was; what a dump brought along counts from the first frame on."""
    if fdb.started == 0:
        fdb.started = now
    return now - (since if since else fdb.started)


cdef inline uint32_t fdb_hash(uint64_t mac, int32_t device) noexcept nogil:
    return <uint32_t>(((mac ^ (<uint64_t>device << 48)) * 0x9E3779B97F4A7C15ULL) >> 32)


cdef inline FdbEntry *fdb_find(const Fdb *fdb, int32_t device, uint64_t mac, uint16_t vlan) noexcept nogil:
    cdef FdbEntry *e
    if fdb.buckets == NULL:
        return NULL
    e = fdb.buckets[fdb_hash(mac, device) & fdb.mask]
    while e != NULL:
        if e.mac == mac and e.device == device and e.vlan == vlan:
            return e
        e = e.next
    return NULL


cdef inline int fdb_grow(Fdb *fdb) noexcept nogil:
    cdef uint32_t size = 2 * (fdb.mask + 1) if fdb.buckets != NULL else 8
    cdef uint32_t i, at
    cdef FdbEntry *e
    cdef FdbEntry *following
    cdef FdbEntry **buckets = <FdbEntry **>calloc(size, sizeof(FdbEntry *))
    if buckets == NULL:
        return -1
    if fdb.buckets != NULL:
        for i in range(fdb.mask + 1):
            e = fdb.buckets[i]
            while e != NULL:
                following = e.next
                at = fdb_hash(e.mac, e.device) & (size - 1)
                e.next = buckets[at]
                buckets[at] = e
                e = following
        free(fdb.buckets)
    fdb.buckets = buckets
    fdb.mask = size - 1
    return 0


cdef inline FdbEntry *fdb_create(Fdb *fdb, int32_t device, uint64_t mac, uint16_t vlan) noexcept nogil:
    """A new entry; NULL when the table is full or memory is out."""
    cdef FdbEntry *e
    cdef uint32_t at
    if fdb.count >= fdb.limit:
        fdb.refused += 1
        return NULL
    if fdb.buckets == NULL or <uint32_t>fdb.count > fdb.mask:
        if fdb_grow(fdb) < 0:
            return NULL
    e = <FdbEntry *>calloc(1, sizeof(FdbEntry))
    if e == NULL:
        return NULL
    e.mac = mac
    e.device = device
    e.vlan = vlan
    at = fdb_hash(mac, device) & fdb.mask
    e.next = fdb.buckets[at]
    fdb.buckets[at] = e
    fdb.count += 1
    return e


cdef inline Remote *fdb_add_remote(FdbEntry *e) noexcept nogil:
    """A new destination behind the last one."""
    cdef Remote *r = <Remote *>calloc(1, sizeof(Remote))
    cdef Remote **at = &e.remotes
    if r == NULL:
        return NULL
    r.slot = -1
    while at[0] != NULL:
        at = &at[0].next
    at[0] = r
    return r


cdef inline void fdb_free(Fdb *fdb) noexcept nogil:
    cdef uint32_t i
    cdef FdbEntry *e
    cdef FdbEntry *following
    cdef Remote *r
    cdef Remote *after
    if fdb.buckets == NULL:
        return
    for i in range(fdb.mask + 1):
        e = fdb.buckets[i]
        while e != NULL:
            following = e.next
            r = e.remotes
            while r != NULL:
                after = r.next
                free(r)
                r = after
            free(e)
            e = following
    free(fdb.buckets)
    memset(fdb, 0, sizeof(Fdb))
