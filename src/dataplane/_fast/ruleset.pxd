"""The rules of one host and one family, compiled: tables, chains, rules and the tests that a rule makes.

Everything here but counters and states is written once, by dataplane.datapath.compile_rules, and never changes after.
The rows are the kernel-side mirror of `iptables-save`; how a row is evaluated is in rules.pxd.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from dataplane._fast.conncount cimport Conncount
from dataplane._fast.hashlimit cimport HashlimitTable
from dataplane._fast.ipset cimport IpSet
from dataplane._fast.recent cimport RecentList

cpdef enum TableKind:
    TABLE_RAW = 0
    TABLE_MANGLE = 1
    TABLE_NAT = 2
    TABLE_FILTER = 3
    TABLE_SECURITY = 4
    TABLE_COUNT = 5

cpdef enum CtState:
    """Bits of FIELD_CTSTATE: how rules see the packet's connection."""
    STATE_INVALID = 1
    STATE_ESTABLISHED = 2
    STATE_RELATED = 4
    STATE_NEW = 8
    STATE_UNTRACKED = 16
    STATE_SNAT = 32
    STATE_DNAT = 64

cpdef enum CtField:
    """The words of a connection that a rule can compare. Addresses take four words; an IPv4 address is in the first."""
    CT_ORIG_SRC = 0
    CT_ORIG_DST = 4
    CT_REPLY_SRC = 8
    CT_REPLY_DST = 12
    CT_ORIG_SPORT = 16
    CT_ORIG_DPORT
    CT_REPLY_SPORT
    CT_REPLY_DPORT
    CT_PROTOCOL
    CT_STATUS
    CT_EXPIRES              # whole seconds left; 0 until the connection is confirmed
    CT_DIRECTION            # 0 original, 1 reply
    CT_MARK

cpdef enum OpKind:
    """One test. pool: index of its constants; count: how many; state: index of its mutable words."""
    OP_WORD = 0             # (field[field] & a) - b <= c, unsigned
    OP_HEADER               # the transport header holds `count` bytes; invert: of TCP
    OP_BITMAP               # field[field] is a bit set in the pool
    OP_ANY_OF               # one of the pool's (field, mask, low, span)
    OP_PORTS                # pool: 1 source, 2 destination, 3 either; then (low, span) of each range
    OP_ADDRESS              # four words from `field` on: pool has the mask, then the value
    OP_ADDRESS_RANGE        # four words from `field` on: pool has the first address, then the last
    OP_ADDRESS_TYPE         # pool: field of the address, bits by RouteType, 1 limited to the device in, 2 out
    OP_CT_WORD              # pool: CtField, mask, low, span, value without a connection
    OP_CT_ADDRESS           # pool: CtField, value without a connection, mask, value
    OP_STATISTIC_RANDOM     # pool: threshold of 31 bits
    OP_STATISTIC_NTH        # pool: last number; state: number of the packet before
    OP_RECENT               # pool: RecentFlag, field of the address, seconds, hits; state: index of the list
    OP_LIMIT                # pool: cost and full credit; state: credit, tick
    OP_HASHLIMIT            # state: index of the table
    OP_CONNLIMIT            # pool: field of the address, four words of mask, limit; state: index of the counts
    OP_CONNBYTES            # pool: 0 packets 1 bytes 2 bytes a packet; 0 original 1 reply 2 both; low and high
    OP_SET                  # pool: index of the set, SetUse
    OP_RPFILTER             # pool: RpfilterFlag
    OP_U32                  # pool: as match_u32 says
    OP_TCP_OPTION           # pool: option
    OP_TCP_MSS              # pool: low, high
    OP_SCTP_CHUNKS          # pool: 0 any, 1 all, 2 only; 8 words of types; then type << 16 | flag mask << 8 | flags
    OP_MAC                  # pool: two words
    OP_CT_LABEL             # pool: which of 128 labels, whether to set it
    OP_SOCKET               # pool: SocketFlag
    OP_IPVS                 # pool: IpvsAsk, which are inverted, protocol, port, template's port, direction, Forward, mask, address
    OP_PAYLOAD              # as OP_WORD, of the transport header: where it is cut short, of the bytes that are there
    OP_NFT_LIMIT            # pool: cost and full credit in ns, high word first; state: credit, time

cpdef enum IpvsAsk:
    ASK_IPVS = 1
    ASK_PROTOCOL = 2
    ASK_ADDRESS = 4
    ASK_PORT = 8
    ASK_DIRECTION = 16
    ASK_METHOD = 32
    ASK_CONTROL = 64        # the virtual port of the template that controls it

cpdef enum RecentFlag:
    RECENT_CHECK = 1
    RECENT_SET = 2
    RECENT_UPDATE = 4
    RECENT_REMOVE = 8
    RECENT_TTL = 16
    RECENT_REAP = 32

cpdef enum TargetKind:
    TARGET_CONTINUE = 0     # no target, or one that changes nothing that is modelled
    TARGET_ACCEPT
    TARGET_DROP
    TARGET_RETURN
    TARGET_JUMP
    TARGET_GOTO
    # that end the walk, and that the caller acts on
    TARGET_REJECT           # value: ICMP type << 8 | code; flags: REJECT_TCP_RESET
    TARGET_DNAT             # flags: NatFlag; a: first address, b: last; min_port, max_port, base_port
    TARGET_SNAT
    TARGET_MASQUERADE
    TARGET_REDIRECT
    TARGET_NETMAP           # a and b: first and last address of the network
    # that change the packet, its connection or an event log, and go on
    TARGET_MARK             # mark = (mark & ~mask) ^ value
    TARGET_CONNMARK         # flags: 0 set, 1 save, 2 restore; value, mask; min_port: shift, max_port: 1 to the right
    TARGET_NOTRACK
    TARGET_TTL              # flags: 0 set, 1 add, 2 subtract; value
    TARGET_TOS              # tos = (tos & ~mask) ^ value
    TARGET_TCPMSS           # value: MSS; flags: 1 from the MTU of the path
    TARGET_LOG
    TARGET_NFLOG
    TARGET_TRACE
    TARGET_SET              # value, mask, a: where the pool has a set to add to, to take from, to map by, plus one; 0: none
    TARGET_ZONE             # value: zone; flags: ZoneFlag

cpdef enum SocketFlag:
    SOCKET_TRANSPARENT = 1
    SOCKET_NO_WILDCARD = 2  # --nowildcard: do not ignore sockets bound to every address

cpdef enum RpfilterFlag:
    RPFILTER_LOOSE = 1
    RPFILTER_VALID_MARK = 2
    RPFILTER_ACCEPT_LOCAL = 4

cpdef enum NatFlag:
    """NF_NAT_RANGE_ flags of the kernel."""
    NAT_MAP_IPS = 1
    NAT_PORTS = 2           # min_port and max_port are given
    NAT_RANDOM = 4
    NAT_PERSISTENT = 8
    NAT_RANDOM_FULLY = 16
    NAT_PORT_OFFSET = 32    # base_port is given
    NAT_NETMAP = 64

cpdef enum:
    REJECT_TCP_RESET = 1

cdef packed struct Op:
    # One test, 16 bytes. What a, b and c hold is said beside OpKind; where it is (pool, count, state) in that order.
    uint8_t kind            # OpKind
    uint8_t field           # Field
    uint8_t invert          # not of OP_WORD: the complement of a range is a range
    uint8_t reserved
    uint32_t a
    uint32_t b
    uint32_t c

cdef packed struct Rule:
    # 32 bytes, two to a cache line. The first three words are a test that the rule fails unless it holds, chosen to
    # decide most rules at once; the whole of the tests, in the kernel's order, is at first_op.
    uint32_t mask
    uint32_t low
    uint32_t span
    uint8_t field           # Field
    uint8_t target          # TargetKind
    uint16_t op_count
    int32_t first_op
    int32_t argument        # chain of a jump or goto; target row; -1
    int32_t run             # the run of rules that it belongs to; -1
    uint16_t skip           # ops that the inline test already answers
    uint16_t reserved

cdef packed struct Run:
    # Consecutive rules whose inline tests ask one word for one value each. Its keys, value << 32 | rule, are sorted.
    int32_t first_key
    int32_t key_count
    int32_t end             # one past its last rule
    uint32_t field

cdef packed struct Target:
    # What an extension target needs; each kind gives the words its own meaning.
    uint8_t kind            # TargetKind
    uint8_t flags
    uint16_t min_port
    uint16_t max_port
    uint16_t base_port
    uint32_t value
    uint32_t mask
    uint32_t a0             # first address
    uint32_t a1
    uint32_t a2
    uint32_t a3
    uint32_t b0             # last address
    uint32_t b1
    uint32_t b2
    uint32_t b3

cdef packed struct Chain:
    int32_t first_rule
    int32_t rule_count
    uint8_t policy          # TargetKind: ACCEPT or DROP of a base chain, RETURN of a user chain
    uint8_t table           # TableKind
    uint16_t reserved

cdef packed struct Table:
    # The chains at the hooks, by Hook; -1 where the table has none.
    int32_t base0
    int32_t base1
    int32_t base2
    int32_t base3
    int32_t base4
    uint8_t present
    uint8_t uses_state      # a rule asks for FIELD_CTSTATE
    uint16_t nft            # its rules are nftables': what tells of a broken packet, and when it is dropped, is another

cdef struct RuleSet:
    # Frozen; may be shared by hosts with the same rules.
    const Op *ops
    const Rule *rules
    const Run *runs
    const uint64_t *keys    # of all runs
    const Target *targets
    const Chain *chains
    const uint32_t *pool
    Table tables[5]         # by TableKind
    # This host's own.
    uint64_t *counters      # packets and bytes of each rule
    uint64_t *policies      # packets and bytes of each chain's policy
    uint64_t *state         # of ops that remember
    RecentList *recent      # by the state word of OP_RECENT
    HashlimitTable *hashlimits
    Conncount *conncounts
    IpSet *sets             # of the host, not owned
    int32_t *stack          # two words for each level of the deepest chain of jumps
