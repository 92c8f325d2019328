"""The multicast groups that a host's interfaces have joined.

Sources: net/ipv4/igmp.c (ip_check_mc_rcu), net/ipv6/mcast.c (ipv6_chk_mcast_addr), RFC 4291 section 2.8.
"""

from libc.stdint cimport int32_t, uint32_t
from libc.stdlib cimport bsearch
from libc.string cimport memcmp, memcpy, memset

from dataplane._fast.fib cimport LocalAddress
from dataplane._fast.interface cimport Interface
from dataplane._fast.network cimport Group, Host


cdef inline int group_order(const void *a, const void *b) noexcept nogil:
    return memcmp(a, b, sizeof(Group))


cdef inline void group_set(Group *group, int32_t slot, int family, const uint32_t *address) noexcept nogil:
    """Words of `address`, host order: 4, or 1 and three zeros."""
    memset(group, 0, sizeof(Group))
    group.slot = slot
    group.family = family
    memcpy(group.address, address, 16 if family == 6 else 4)


cdef inline bint group_told(const Host *host, const Interface *interface, int family, const uint32_t *address) noexcept nogil:
    cdef Group key
    if host.group_count <= 0:
        return False
    group_set(&key, interface.slot, family, address)
    return bsearch(&key, host.groups, <size_t>host.group_count, sizeof(Group), group_order) != NULL


cdef inline bint group_joined4(const Host *host, const Interface *interface, uint32_t group) noexcept nogil:
    """All hosts, and what was told."""
    return group == 0xE0000001U or group_told(host, interface, 4, &group)


cdef inline bint group_joined6(const Host *host, const Interface *interface, const uint32_t *group) noexcept nogil:
    """All nodes; the solicited-node groups of the interface's addresses, and as a router of its subnets' anycast
    addresses; all routers, as a dump tells. Where none does, a router is taken to have been one before its links came
    up: it listens to ff02::2, but neither to ff01::2 nor ff05::2."""
    cdef int32_t i
    cdef const LocalAddress *local
    if group[1] == 0 and group[2] == 0 and (group[0] == 0xFF020000U or group[0] == 0xFF010000U) and group[3] == 1:
        return True
    if group_told(host, interface, 6, group):
        return True
    if group[0] != 0xFF020000U or group[1]:
        return False
    if group[2] == 0:
        return group[3] == 2 and interface.router6 and host.group_count < 0
    if group[2] != 1 or group[3] >> 24 != 0xFF:
        return False
    if interface.proxy_ndp:     # the groups of the addresses that it speaks for
        return True
    for i in range(host.fib.address_count):
        local = &host.fib.addresses[i]
        if local.family != 6 or local.slot != interface.slot:
            continue
        if (local.address[3] ^ group[3]) & 0xFFFFFF == 0:
            return True
        if interface.router6 and local.prefix_length <= 104 and group[3] & 0xFFFFFF == 0:
            return True
    return False
