"""What rules ask of a packet's connection of IPVS (net/netfilter/xt_ipvs.c)."""

from libc.stdint cimport uint16_t, uint32_t, uint8_t

from dataplane._fast.ipvs cimport IpvsConn
from dataplane._fast.ipvs_conn cimport conn_out
from dataplane._fast.packet cimport (
    CT_ESTABLISHED_REPLY, FIELD_DPORT, FIELD_DST, FIELD_L4, FIELD_PROTO, FIELD_SPORT, FIELD_SRC, Packet,
)
from dataplane._fast.rule_connection cimport match_address
from dataplane._fast.rule_context cimport RuleContext
from dataplane._fast.ruleset cimport (
    ASK_ADDRESS, ASK_CONTROL, ASK_DIRECTION, ASK_IPVS, ASK_METHOD, ASK_PORT, ASK_PROTOCOL,
)
from dataplane._fast.wire cimport IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP


cdef inline bint refuses(const uint32_t *pool, uint32_t ask, bint holds) noexcept nogil:
    return pool[0] & ask != 0 and holds == (pool[1] & ask != 0)


cdef inline bint match_ipvs(const Packet *p, const uint32_t *pool, const RuleContext *context) noexcept nogil:
    """Whether IPVS has seen to the packet; and, of requests alone, what their connection is."""
    cdef uint32_t proto = p.field[<int>FIELD_PROTO]
    cdef const IpvsConn *c
    if pool[0] == ASK_IPVS:
        return p.ipvs != (pool[1] & ASK_IPVS)
    if not p.ipvs or refuses(pool, ASK_PROTOCOL, proto == pool[2]):
        return False
    if context.ipvs == NULL or not p.field[<int>FIELD_L4] or (proto != IPPROTO_TCP and proto != IPPROTO_UDP and proto != IPPROTO_SCTP):
        return False
    # It is looked for as if its server had sent it: no answer is found, as that has the service's address by now.
    c = conn_out(
        context.ipvs, <uint8_t>proto, p.family, &p.field[<int>FIELD_DST], <uint16_t>p.field[<int>FIELD_DPORT],
        &p.field[<int>FIELD_SRC], <uint16_t>p.field[<int>FIELD_SPORT])
    if c == NULL:
        return False
    if refuses(pool, ASK_PORT, c.virtual_port == pool[3]):
        return False
    if refuses(pool, ASK_CONTROL, c.control != NULL and c.control.virtual_port == pool[4]):
        return False
    if pool[0] & ASK_DIRECTION and (p.ct == NULL or (p.ctinfo >= CT_ESTABLISHED_REPLY) != (pool[5] != 0)):
        return False
    if refuses(pool, ASK_METHOD, c.forward == pool[6]):
        return False
    return not refuses(pool, ASK_ADDRESS, match_address(c.virtual, pool + 7))
