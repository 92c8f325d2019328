"""Changing a host of a running walk: interfaces come and go, routes are laid anew, entries are forgotten.

Nothing moves that a packet on its way may refer to: an interface that goes keeps its slot, down and without a wire.
"""

from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from dataplane._fast.address cimport address_words
from dataplane._fast.fdb cimport Fdb, FdbEntry, Remote
from dataplane._fast.host cimport CompiledHost
from dataplane._fast.interface cimport Interface
from dataplane._fast.neighbour cimport NUD_FAILED, Neighbour, neighbour_find
from dataplane._fast.network cimport Host
from dataplane._fast.walk cimport Walk


def add_interface(CompiledHost compiled not None, str name):
    """Give the host one more interface, which is down until it is set; its slot."""
    cdef Host *host = compiled.host
    cdef int32_t slot = host.interface_count
    cdef Interface *grown = <Interface *>realloc(host.interfaces, (slot + 1) * sizeof(Interface))
    if grown == NULL:
        raise MemoryError
    memset(&grown[slot], 0, sizeof(Interface))
    grown[slot].slot = slot
    grown[slot].master = grown[slot].peer_host = grown[slot].peer_slot = grown[slot].place = -1
    host.interfaces = grown
    host.interface_count = slot + 1
    host.fib.interfaces = grown
    host.fib.interface_count = slot + 1
    compiled.interface_names = (*compiled.interface_names, name)
    return slot


def remove_interface(CompiledHost compiled not None, int slot):
    """Take an interface away: down, without a wire, in no bridge; what the bridge had learnt behind it is forgotten."""
    cdef Interface *interface = interface_at(compiled, slot)
    interface.up = 0
    interface.peer_host = interface.peer_slot = -1
    interface.master = -1
    interface.place = -1
    fdb_forget(&compiled.host.fdb, slot, True, 0)


def set_up(CompiledHost compiled not None, int slot, bint up):
    """Set an interface up or down; down, what a bridge had learnt behind it is forgotten (br_stp_disable_port)."""
    cdef Interface *interface = interface_at(compiled, slot)
    interface.up = up
    if not up:
        fdb_forget(&compiled.host.fdb, slot, False, 0)


def cut(Walk walk not None, int host, int slot):
    """Take the wire of an interface away, at both ends."""
    cdef Interface *near = walk.at(host, slot)
    cdef Interface *far
    if near.peer_host >= 0:
        far = walk.at(near.peer_host, near.peer_slot)
        far.peer_host = far.peer_slot = -1
    near.peer_host = near.peer_slot = -1


def clear_routes(CompiledHost compiled not None):
    """Forget every route; they are given anew, then indexed."""
    cdef Host *host = compiled.host
    free(host.fib.routes)
    free(host.fib.hops)
    free(host.fib.buckets)
    free(host.fib.lengths)
    host.fib.routes = NULL
    host.fib.hops = NULL
    host.fib.buckets = NULL
    host.fib.lengths = NULL
    host.fib.route_count = host.fib.route_room = host.fib.hop_count = host.fib.hop_room = 0
    host.fib.bucket_mask = 0
    host.fib.lengths_count = 0


def forget_neighbour(CompiledHost compiled not None, int slot, address):
    """Delete a neighbour: the next packet to it asks for it again. True where there was one."""
    cdef uint32_t words[4]
    cdef int family = address_words(address, words)
    cdef Neighbour *n = neighbour_find(&compiled.host.neighbours, family, words, slot, False)
    if n == NULL:
        return False
    # A timer may still look at the entry, so it stays, as one that was never found.
    n.state = NUD_FAILED
    n.mac = 0
    return True


def forget_vxlan_entry(CompiledHost compiled not None, int slot, uint64_t mac):
    """Delete the entry of a MAC address at a VXLAN device."""
    return fdb_forget(&compiled.host.vxlan_fdb, slot, True, mac) > 0


cdef Interface *interface_at(CompiledHost compiled, int slot) except NULL:
    if not 0 <= slot < compiled.host.interface_count:
        raise IndexError(f"no interface {slot}")
    return &compiled.host.interfaces[slot]


cdef int32_t fdb_forget(Fdb *fdb, int32_t slot, bint fixed, uint64_t mac) noexcept:
    """Drop the entries at a port or device, the fixed ones too if asked; with `mac` only that one's. How many."""
    cdef uint32_t i
    cdef FdbEntry **link
    cdef FdbEntry *e
    cdef Remote *r
    cdef Remote *after
    cdef int32_t found = 0
    if fdb.buckets == NULL:
        return 0
    for i in range(fdb.mask + 1):
        link = &fdb.buckets[i]
        while link[0] != NULL:
            e = link[0]
            if (e.port == slot if mac == 0 else e.device == slot and e.mac == mac) and (fixed or not e.fixed):
                link[0] = e.next
                r = e.remotes
                while r != NULL:
                    after = r.next
                    free(r)
                    r = after
                free(e)
                fdb.count -= 1
                found += 1
            else:
                link = &e.next
    return found
