"""The tests that rules make: one inline function for each kind of row (ruleset.pxd, OpKind), and the choice between
them.

The functions stand in rule_bytes, rule_connection, rule_route and rule_memory; here are those on header words alone.
Sources: net/ipv4/netfilter/ip_tables.c, net/netfilter/xt_tcpudp.c, xt_multiport.c, xt_iprange.c, nft_payload.c.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t

from dataplane._fast.chance cimport CHOICE_STATISTIC, chance_draw
from dataplane._fast.packet cimport FIELD_DPORT, FIELD_FRAGMENT, FIELD_L4, FIELD_SPORT, FIELD_TCP_FLAGS, Packet
from dataplane._fast.rule_bytes cimport match_chunks, match_mac, match_tcp_mss, match_tcp_option, match_u32
from dataplane._fast.rule_connection cimport match_address, match_connbytes, match_ct_address, match_ct_label, match_ct_word
from dataplane._fast.rule_context cimport DROP, NO, RuleContext, YES
from dataplane._fast.rule_ipvs cimport match_ipvs
from dataplane._fast.rule_memory cimport (
    match_connlimit, match_hashlimit, match_limit, match_nft_limit, match_nth, match_recent, match_set,
)
from dataplane._fast.rule_route cimport match_address_type, match_rpfilter
from dataplane._fast.rule_socket cimport match_socket
from dataplane._fast.ruleset cimport (
    OP_ADDRESS, OP_ADDRESS_RANGE, OP_ADDRESS_TYPE, OP_ANY_OF, OP_BITMAP, OP_CONNBYTES, OP_CONNLIMIT, OP_CT_ADDRESS,
    OP_CT_LABEL, OP_CT_WORD, OP_HASHLIMIT, OP_HEADER, OP_IPVS, OP_LIMIT, OP_MAC, OP_NFT_LIMIT, OP_PAYLOAD, OP_PORTS,
    OP_RECENT, OP_RPFILTER, OP_SCTP_CHUNKS, OP_SET, OP_SOCKET, OP_STATISTIC_NTH, OP_STATISTIC_RANDOM, OP_TCP_MSS,
    OP_TCP_OPTION, OP_U32, Op, RuleSet,
)
from dataplane._fast.wire cimport load16


cdef inline uint8_t match_header(const Packet *p, uint32_t length, bint tcp) noexcept nogil:
    """xt_tcpudp.c, xt_sctp.c, ip_tables.c (icmp), xt_multiport.c: where the header should be and is not, drop."""
    cdef uint32_t fragment = p.field[<int>FIELD_FRAGMENT]
    if fragment:
        # A fragment that starts inside the TCP flags can only be an attack (RFC 1858).
        return DROP if tcp and fragment == 1 and p.family == 4 else NO
    if p.transport == NULL or p.tail - p.transport < <int64_t>length:
        return DROP
    return YES


cdef inline bint match_payload(const Packet *p, const Op *op) noexcept nogil:
    """A word of the transport header, whatever of the header is missing behind it.

    nft_payload_fast_eval does not ask whether there is one: in a later fragment it reads what comes after the IP header,
    and of IPv6 the IP header itself.
    """
    cdef uint32_t field = op.field, value
    cdef const uint8_t *at = p.transport
    cdef int64_t room
    if p.field[<int>FIELD_L4]:
        value = p.field[field]
    else:
        if p.field[<int>FIELD_FRAGMENT]:
            at = p.net + (p.net[0] & 15) * 4 if p.family == 4 else p.net
        if at == NULL:
            return False
        room = p.tail - at
        if field == FIELD_SPORT and room >= 2:
            value = load16(at)
        elif field == FIELD_DPORT and room >= 4:
            value = load16(at + 2)
        elif field == FIELD_TCP_FLAGS and room >= 14:
            value = at[13]
        else:
            return False
    return ((value & op.a) - op.b) <= op.c


cdef inline bint match_any(const Packet *p, const uint32_t *pool, uint32_t count) noexcept nogil:
    cdef uint32_t i
    for i in range(0, count, 4):
        if ((p.field[pool[i]] & pool[i + 1]) - pool[i + 2]) <= pool[i + 3]:
            return True
    return False


cdef inline uint8_t match_ports(const Packet *p, const uint32_t *pool, uint32_t count, uint8_t invert) noexcept nogil:
    """xt_multiport.c: asks for the four bytes of the ports alone, also where the rest of the header is missing."""
    cdef uint8_t answer = match_header(p, 4, False)
    cdef uint32_t sport, dport, i
    if answer != YES:
        return answer
    sport = load16(p.transport)
    dport = load16(p.transport + 2)
    for i in range(1, count, 2):
        if ((pool[0] & 1 and sport - pool[i] <= pool[i + 1]) or (pool[0] & 2 and dport - pool[i] <= pool[i + 1])):
            return not invert
    return invert


cdef inline int compare_address(const uint32_t *a, const uint32_t *b) noexcept nogil:
    cdef int i
    for i in range(4):
        if a[i] != b[i]:
            return -1 if a[i] < b[i] else 1
    return 0


cdef inline bint match_address_range(const uint32_t *address, const uint32_t *pool) noexcept nogil:
    """xt_iprange.c."""
    return compare_address(address, pool) >= 0 and compare_address(address, pool + 4) <= 0


cdef inline uint8_t op_other(RuleSet *rules, const Op *op, Packet *p, RuleContext *context) noexcept nogil:
    """Every test but OP_WORD. NO, YES or DROP."""
    cdef const uint32_t *pool = rules.pool + op.a
    cdef uint8_t kind = op.kind
    cdef uint8_t invert = op.invert
    cdef uint32_t value
    if kind == OP_PAYLOAD:
        return match_payload(p, op)
    if kind == OP_HEADER:
        return match_header(p, op.b, invert)
    if kind == OP_BITMAP:
        value = p.field[op.field]
        if value >> 5 >= op.b:
            return invert
        return ((pool[value >> 5] >> (value & 31)) & 1) != invert
    if kind == OP_ANY_OF:
        return match_any(p, pool, op.b) != invert
    if kind == OP_PORTS:
        return match_ports(p, pool, op.b, invert)
    if kind == OP_ADDRESS:
        return match_address(&p.field[op.field], pool) != invert
    if kind == OP_ADDRESS_RANGE:
        return match_address_range(&p.field[op.field], pool) != invert
    if kind == OP_ADDRESS_TYPE:
        return match_address_type(p, pool, context) != invert
    if kind == OP_CT_WORD:
        return match_ct_word(p, pool, context.now, invert)
    if kind == OP_CT_ADDRESS:
        return match_ct_address(p, pool, invert)
    if kind == OP_STATISTIC_RANDOM:
        return ((chance_draw(context.chance, CHOICE_STATISTIC) & 0x7FFFFFFFU) < pool[0]) != invert
    if kind == OP_STATISTIC_NTH:
        return match_nth(rules.state + op.c, pool[0]) != invert
    if kind == OP_RECENT:
        return match_recent(p, pool, rules.recent + rules.state[op.c], context.now, invert)
    if kind == OP_LIMIT:
        return match_limit(rules.state + op.c, pool, context.now)
    if kind == OP_NFT_LIMIT:
        return match_nft_limit(rules.state + op.c, pool, context.now)
    if kind == OP_TCP_OPTION:
        return match_tcp_option(p, pool[0], invert)
    if kind == OP_TCP_MSS:
        return match_tcp_mss(p, pool, invert)
    if kind == OP_SCTP_CHUNKS:
        return match_chunks(p, pool, op.b, invert)
    if kind == OP_SOCKET:
        return match_socket(p, pool[0], context) != invert
    if kind == OP_RPFILTER:
        return match_rpfilter(p, pool[0], context) != invert
    if kind == OP_CT_LABEL:
        return match_ct_label(p, pool) != invert
    if kind == OP_CONNBYTES:
        return match_connbytes(p, pool, invert)
    if kind == OP_HASHLIMIT:
        return match_hashlimit(p, rules.hashlimits + rules.state[op.c], context.now, invert)
    if kind == OP_CONNLIMIT:
        return match_connlimit(p, pool, rules.conncounts + rules.state[op.c], context, invert)
    if kind == OP_SET:
        return match_set(p, rules.sets, pool, context.now) != invert
    if kind == OP_U32:
        return match_u32(p, pool, op.b) != invert
    if kind == OP_IPVS:
        return match_ipvs(p, pool, context)
    if kind == OP_MAC:
        return match_mac(p, pool, invert)
    return NO
