"""Link-layer headers: from a link type and the first bytes to the network header.

Sources: the LINKTYPE_ list of tcpdump.org (pcap-linktype(7)), IEEE 802.3, 802.1Q and 802.1ad.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from dataplane._fast.wire cimport ETH_HLEN, ETH_P_8021AD, ETH_P_8021Q, ETH_P_IP, ETH_P_IPV6, load16, load32

cpdef enum LinkType:
    """The link types that are read, by their LINKTYPE_ values."""
    LINKTYPE_NULL = 0           # BSD loopback: address family in the byte order of the machine that captured
    LINKTYPE_ETHERNET = 1
    LINKTYPE_RAW_BSD = 12       # DLT_RAW of most systems: written by tools that store DLT_ values
    LINKTYPE_RAW_OPENBSD = 14   # DLT_RAW of OpenBSD
    LINKTYPE_RAW = 101
    LINKTYPE_LOOP = 108         # OpenBSD loopback: address family in network byte order
    LINKTYPE_LINUX_SLL = 113
    LINKTYPE_IPV4 = 228
    LINKTYPE_IPV6 = 229
    LINKTYPE_LINUX_SLL2 = 276

cdef enum:
    NO_NETWORK = 0xFFFF
    ETH_P_802_3_MIN = 0x0600    # below it, the field is an IEEE 802.3 length
    ETH_P_802_2 = 0x0004        # what Linux calls a frame with an 802.2 header
    SLL_HLEN = 16
    SLL2_HLEN = 20
    # ARPHRD_ values whose "protocol" of a cooked header is no ethertype
    ARPHRD_IEEE80211_RADIOTAP = 803
    ARPHRD_NETLINK = 824


cdef inline bint link_type_known(uint32_t link_type) noexcept nogil:
    return (
        link_type == LINKTYPE_ETHERNET or link_type == LINKTYPE_RAW or link_type == LINKTYPE_RAW_BSD
        or link_type == LINKTYPE_RAW_OPENBSD or link_type == LINKTYPE_IPV4 or link_type == LINKTYPE_IPV6
        or link_type == LINKTYPE_NULL or link_type == LINKTYPE_LOOP or link_type == LINKTYPE_LINUX_SLL
        or link_type == LINKTYPE_LINUX_SLL2
    )


cdef inline uint16_t family_ethertype(uint32_t family) noexcept nogil:
    """AF_INET is 2 everywhere; AF_INET6 is 10 on Linux, 24 on NetBSD and OpenBSD, 28 on FreeBSD, 30 on Darwin."""
    if family == 2:
        return ETH_P_IP
    if family == 10 or family == 24 or family == 28 or family == 30:
        return ETH_P_IPV6
    return 0


cdef inline void link_decode(
    const uint8_t *data, uint32_t length, uint16_t link_type, uint16_t *network, uint16_t *protocol
) noexcept nogil:
    """Find the network header.

    network:  OUT offset of the network header from `data`; NO_NETWORK when the link header is cut short or its protocol
              is not told by an ethertype
    protocol: OUT ethertype of that header behind all 802.1Q and 802.1ad tags, host order; 0 with NO_NETWORK. An
              802.3 frame (a length instead of an ethertype) has ETH_P_802_2 here, as Linux classifies it.
    """
    cdef uint32_t at
    cdef uint32_t value
    cdef uint16_t kind
    network[0] = NO_NETWORK
    protocol[0] = 0
    if link_type == LINKTYPE_ETHERNET:
        if length < ETH_HLEN:
            return
        at = ETH_HLEN
        kind = load16(data + 12)
    elif link_type == LINKTYPE_RAW or link_type == LINKTYPE_RAW_BSD or link_type == LINKTYPE_RAW_OPENBSD:
        if length == 0:
            return
        value = data[0] >> 4
        if value == 4:
            network[0] = 0
            protocol[0] = ETH_P_IP
        elif value == 6:
            network[0] = 0
            protocol[0] = ETH_P_IPV6
        return
    elif link_type == LINKTYPE_IPV4 or link_type == LINKTYPE_IPV6:
        network[0] = 0
        protocol[0] = ETH_P_IP if link_type == LINKTYPE_IPV4 else ETH_P_IPV6
        return
    elif link_type == LINKTYPE_NULL or link_type == LINKTYPE_LOOP:
        if length < 4:
            return
        value = load32(data)
        kind = family_ethertype(value)
        if kind == 0 and link_type == LINKTYPE_NULL:
            # A family is a small number: in the wrong byte order it is a multiple of 2^24.
            kind = family_ethertype(value >> 24) if value & 0xFFFFFFU == 0 else 0
        if kind != 0:
            network[0] = 4
            protocol[0] = kind
        return
    elif link_type == LINKTYPE_LINUX_SLL:
        if length < SLL_HLEN:
            return
        value = load16(data + 2)
        if value == ARPHRD_NETLINK or value == ARPHRD_IEEE80211_RADIOTAP:
            return
        at = SLL_HLEN
        kind = load16(data + 14)
    elif link_type == LINKTYPE_LINUX_SLL2:
        if length < SLL2_HLEN:
            return
        value = load16(data + 8)
        if value == ARPHRD_NETLINK or value == ARPHRD_IEEE80211_RADIOTAP:
            return
        at = SLL2_HLEN
        kind = load16(data)
    else:
        return
    while kind == ETH_P_8021Q or kind == ETH_P_8021AD:
        if at + 4 > length or at + 4 >= NO_NETWORK:
            return
        kind = load16(data + at + 2)
        at += 4
    if kind < ETH_P_802_3_MIN and link_type == LINKTYPE_ETHERNET:
        kind = ETH_P_802_2
    network[0] = <uint16_t>at
    protocol[0] = kind
