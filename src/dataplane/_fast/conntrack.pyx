"""The connections of one host as Python sees them; the engine is in conntrack_*.pxd, track.pxd and nat.pxd."""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memset

from dataplane._fast.address cimport words_address
from dataplane._fast.conntrack cimport (
    Conn, STATUS_CONFIRMED, STATUS_DYING, Tuple,
)
from dataplane._fast.conntrack_table cimport table_free
from dataplane._fast.wire cimport IPPROTO_SCTP, IPPROTO_TCP

TCP_STATES = (
    "NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE", "SYN_SENT2",
)
SCTP_STATES = (
    "NONE", "CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED", "SHUTDOWN_SENT", "SHUTDOWN_RECD",
    "SHUTDOWN_ACK_SENT", "HEARTBEAT_SENT",
)


cdef object tuple_row(const Tuple *tuple):
    return (words_address(tuple.src, tuple.family), words_address(tuple.dst, tuple.family), tuple.sport, tuple.dport)


@cython.final
cdef class ConnectionTable:
    """The connection table of one host. Times are ns; maximum: nf_conntrack_max, 0 for no limit."""

    def __cinit__(
        self, *, tcp_timeouts, int64_t udp_timeout=30_000_000_000, int64_t udp_stream_timeout=120_000_000_000,
        int64_t icmp_timeout=30_000_000_000, int64_t icmp6_timeout=30_000_000_000,
        int64_t generic_timeout=600_000_000_000, int64_t gre_timeout=30_000_000_000,
        int64_t gre_stream_timeout=180_000_000_000, sctp_timeouts=(), int64_t maximum=262144,
        int64_t buckets=262144,
        bint accounting=True, bint timestamp=False, bint checksum=True,
        bint tcp_loose=True, bint tcp_be_liberal=False, bint tcp_ignore_invalid_rst=False, int tcp_max_retrans=3,
        uint64_t seed=0,
    ):
        """tcp_timeouts: 14 times by TcpState (TCP_RETRANSMITTED and TCP_UNACKNOWLEDGED included); sctp_timeouts: 9 by
        SctpState."""
        cdef int i
        memset(&self.table, 0, sizeof(self.table))
        for i, value in enumerate(tcp_timeouts):
            self.table.settings.tcp_timeout[i] = value
        for i, value in enumerate(sctp_timeouts):
            self.table.settings.sctp_timeout[i] = value
        self.table.settings.udp_timeout = udp_timeout
        self.table.settings.udp_stream_timeout = udp_stream_timeout
        self.table.settings.icmp_timeout = icmp_timeout
        self.table.settings.icmp6_timeout = icmp6_timeout
        self.table.settings.generic_timeout = generic_timeout
        self.table.settings.gre_timeout = gre_timeout
        self.table.settings.gre_stream_timeout = gre_stream_timeout
        self.table.settings.maximum = maximum
        self.table.settings.buckets = <uint32_t>min(max(buckets, 1), 0xFFFFFFFF)
        self.table.settings.accounting = accounting
        self.table.settings.timestamp = timestamp
        self.table.settings.checksum = checksum
        self.table.settings.tcp_loose = tcp_loose
        self.table.settings.tcp_be_liberal = tcp_be_liberal
        self.table.settings.tcp_ignore_invalid_rst = tcp_ignore_invalid_rst
        self.table.settings.tcp_max_retrans = tcp_max_retrans
        self.table.seed = seed * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF

    def __dealloc__(self):
        table_free(&self.table)

    @property
    def count(self):
        """Connections in the table and on packets, as nf_conntrack_count says; expired ones count until reclaimed."""
        return self.table.count

    def statistics(self):
        """As `conntrack -S` counts."""
        return {
            "found": self.table.found, "invalid": self.table.invalid, "insert": self.table.inserted,
            "insert_failed": self.table.insert_failed, "drop": self.table.dropped,
            "early_drop": self.table.early_dropped, "clash_resolve": self.table.clash_resolved,
        }

    def rows(self, int64_t now):
        """The connections that live at `now`, in the order in which they began.

        A row: (protocol number, family, timeout left in ns, state name or None, status bits, mark, uses, original,
        reply, packets of both, bytes of both, when it began in ns, zone, ZoneFlag bits). Packets, bytes and beginning
        are None where the host does not keep them (nf_conntrack_acct, nf_conntrack_timestamp). A direction: (source,
        destination, source key, destination key); for ICMP the source key is the id, the destination key type << 8 |
        code.
        """
        cdef int32_t i, j, last
        cdef Conn *c
        rows = []
        # Until a packet has started the clock, what is kept is the time left.
        now = 0 if self.table.waiting else now
        for i in range(self.table.pool.chunk_count):
            last = 256 if i < self.table.pool.chunk_count - 1 else self.table.pool.used
            for j in range(last):
                c = &self.table.pool.chunks[i][j]
                if c.uses <= 0 or not c.status & STATUS_CONFIRMED or c.status & STATUS_DYING or c.expires <= now:
                    continue
                state = None
                if c.tuple[0].proto == IPPROTO_TCP:
                    state = TCP_STATES[c.tcp.state]
                elif c.tuple[0].proto == IPPROTO_SCTP:
                    state = SCTP_STATES[c.sctp.state]
                rows.append((c.id, (
                    c.tuple[0].proto, c.tuple[0].family, c.expires - now, state, c.status, c.mark, c.uses,
                    tuple_row(&c.tuple[0]), tuple_row(&c.tuple[1]),
                    (c.packets[0], c.packets[1]) if self.table.settings.accounting else None,
                    (c.bytes[0], c.bytes[1]) if self.table.settings.accounting else None,
                    c.began if self.table.settings.timestamp else None,
                    c.zone.id, c.zone.flags,
                )))
        return [row for _, row in sorted(rows, key=lambda pair: pair[0])]
