"""Connection tracking of TCP: states, windows, resets, what is INVALID. Every step shows the connection table.

The node has a rule that needs connection tracking, counts each state that rules see, and lets everything pass.
"""

from judge.node import Node
from judge.scenario import scenario
from judge.talk import Talk, echo
from scapy.layers.inet import TCP
from scapy.packet import Raw

COUNT_STATES = """
    -A FORWARD -m conntrack --ctstate INVALID -m comment --comment invalid
    -A FORWARD -m conntrack --ctstate NEW -m comment --comment new
    -A FORWARD -m conntrack --ctstate ESTABLISHED -m comment --comment established
    -A FORWARD -m conntrack --ctstate RELATED -m comment --comment related
    -A FORWARD -m conntrack --ctstate UNTRACKED -m comment --comment untracked
"""


def tracked(node: Node, **options: int) -> Talk:
    """A conversation through a router that tracks connections."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    return Talk(client, server, **options)


def timeouts(node: Node, **seconds: int) -> None:
    node.sysctl(
        "\n".join(f"net.netfilter.nf_conntrack_tcp_timeout_{name} = {value}" for name, value in seconds.items())
    )


@scenario(families=(4, 6))
def nothing_is_tracked_without_a_rule(node: Node) -> None:
    """Connections are tracked only where a rule needs it."""
    client, server = node.router()
    node.rules("-A FORWARD -p tcp")
    Talk(client, server).open()


@scenario(families=(4, 6))
def handshake_data_and_close(node: Node) -> None:
    """SYN_SENT, SYN_RECV, ESTABLISHED and ASSURED on the third packet; FIN_WAIT, LAST_ACK, TIME_WAIT."""
    talk = tracked(node)
    talk.open()
    talk.client("PA", b"GET / HTTP/1.0\r\n\r\n")
    talk.server("A")
    talk.server("PA", b"HTTP/1.0 200 OK\r\n\r\nhello")
    talk.client("A")
    talk.client("FA")
    talk.server("FA")
    talk.client("A")


@scenario()
def server_closes_first(node: Node) -> None:
    """FIN of the server, ACK, FIN of the client: FIN_WAIT, CLOSE_WAIT, LAST_ACK, TIME_WAIT."""
    talk = tracked(node)
    talk.open()
    talk.server("FA")
    talk.client("A")
    talk.client("FA")
    talk.server("A")


@scenario()
def both_close_at_once(node: Node) -> None:
    """FINs that cross: FIN_WAIT, LAST_ACK, and TIME_WAIT with the ACKs."""
    talk = tracked(node)
    talk.open()
    talk.client("FA")
    talk.server("FA", ack=talk.client_seq - 1)
    talk.client("A")
    talk.server("A")


@scenario()
def half_close(node: Node) -> None:
    """The client has closed, the server goes on sending: CLOSE_WAIT stays."""
    talk = tracked(node)
    talk.open()
    talk.client("FA")
    talk.server("A")
    for _ in range(3):
        talk.server("PA", b"more")
        talk.client("A")


@scenario()
def syn_retransmitted(node: Node) -> None:
    """A repeated SYN does not renew the timeout."""
    talk = tracked(node)
    timeouts(node, syn_sent=20)
    talk.client("S")
    node.wait(2.2)
    talk.client("S", seq=1000)
    talk.client("S", seq=1000)


@scenario()
def syn_with_another_sequence(node: Node) -> None:
    """A second SYN with a higher sequence number starts the window anew."""
    talk = tracked(node)
    talk.client("S")
    talk.client("S", seq=90_000)
    talk.server("SA", ack=90_001)
    talk.client("A", seq=90_001)


@scenario()
def synack_retransmitted(node: Node) -> None:
    """A repeated SYN-ACK in SYN_RECV and in ESTABLISHED."""
    talk = tracked(node)
    talk.client("S")
    talk.server("SA")
    talk.server("SA", seq=500_000)
    talk.client("A")
    talk.server("SA", seq=500_000)
    talk.client("A")


@scenario()
def simultaneous_open(node: Node) -> None:
    """SYNs that cross: SYN_SENT2, SYN_RECV, ESTABLISHED."""
    talk = tracked(node)
    talk.client("S")
    talk.server("S")
    talk.client("SA", seq=1000)
    talk.server("SA", seq=500_000)
    talk.client("A")


@scenario()
def reset_answers_the_syn(node: Node) -> None:
    """RST for the SYN: the entry is gone at once."""
    talk = tracked(node)
    talk.client("S")
    talk.server("RA", seq=0)


@scenario()
def reset_of_the_client_before_an_answer(node: Node) -> None:
    """RST of the client itself before any answer: the entry is gone too."""
    talk = tracked(node)
    talk.client("S")
    talk.client("R")


@scenario()
def reset_after_the_synack(node: Node) -> None:
    """RST in SYN_RECV: CLOSE for ten seconds."""
    talk = tracked(node)
    talk.client("S")
    talk.server("SA")
    talk.client("R")


@scenario()
def reset_in_established(node: Node) -> None:
    """RST with the right sequence number closes; packets after it are still let through."""
    talk = tracked(node)
    talk.open()
    talk.client("PA", b"x")
    talk.server("A")
    talk.client("R")
    talk.server("PA", b"late")
    talk.client("A")


@scenario()
def reset_inside_the_window_does_not_close(node: Node) -> None:
    """RST with another number inside the window passes, and the connection stays ESTABLISHED (challenge ACK)."""
    talk = tracked(node)
    talk.open()
    talk.server("PA", b"x")
    talk.client("A")
    talk.server("R", seq=talk.server_seq + 100)
    talk.client("A")


@scenario()
def reset_with_an_old_number_is_invalid(node: Node) -> None:
    """RST with a number below what has been acknowledged is INVALID."""
    talk = tracked(node)
    talk.open()
    talk.server("PA", b"0123456789")
    talk.client("A")
    talk.server("R", seq=talk.server_seq - 5)


@scenario()
def old_reset_with_ignore_invalid_rst(node: Node) -> None:
    """tcp_ignore_invalid_rst=1: the same RST is not INVALID."""
    talk = tracked(node)
    node.sysctl("net.netfilter.nf_conntrack_tcp_ignore_invalid_rst = 1")
    talk.open()
    talk.server("PA", b"0123456789")
    talk.client("A")
    talk.server("R", seq=talk.server_seq - 5)


@scenario()
def reset_far_beyond_the_window(node: Node) -> None:
    """RST far outside the window is INVALID."""
    talk = tracked(node)
    talk.open()
    talk.server("R", seq=talk.server_seq + 1_000_000)
    talk.client("R", seq=talk.client_seq + 1_000_000)


@scenario(families=(4, 6))
def picked_up_in_mid_stream(node: Node) -> None:
    """An ACK without a handshake is taken as ESTABLISHED: 300 s, and the full time after the third packet."""
    talk = tracked(node)
    talk.client("A")
    talk.server("A")
    talk.client("PA", b"data")
    talk.server("A")


@scenario()
def mid_stream_with_loose_off(node: Node) -> None:
    """tcp_loose=0: an ACK without a handshake is INVALID."""
    talk = tracked(node)
    node.sysctl("net.netfilter.nf_conntrack_tcp_loose = 0")
    talk.client("A")
    talk.client("PA", b"data")
    talk.server("A")


@scenario()
def invalid_beginnings(node: Node) -> None:
    """SYN-ACK, FIN, RST or no flag as the first packet: INVALID, no entry."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    for port, flags in enumerate(("SA", "FA", "F", "R", "RA", ""), 40000):
        client.send(TCP(sport=port, dport=80, flags=flags, seq=1000, ack=77 if "A" in flags else 0), to=server)


@scenario()
def invalid_flags(node: Node) -> None:
    """Combinations of flags that no TCP sends are INVALID; PSH, ECE and CWR do not matter, URG does."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    for port, flags in enumerate(
        ("SF", "SR", "SFR", "FR", "FPU", "SFRPAUEC", "SU", "SEC", "SP", "AU", "FAU", "PU", "U"), 40000
    ):
        client.send(TCP(sport=port, dport=80, flags=flags, seq=1000), to=server)


@scenario()
def bad_header_is_invalid(node: Node) -> None:
    """A wrong checksum, a data offset below 5 or beyond the segment: INVALID, and forwarded."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    client.send(TCP(sport=40000, dport=80, flags="S", chksum=0xBAD), to=server).only(server)
    client.send(TCP(sport=40001, dport=80, flags="S", dataofs=4), to=server).only(server)
    client.send(TCP(sport=40002, dport=80, flags="S", dataofs=15), to=server).only(server)
    client.send(Raw(bytes(TCP(sport=40003, dport=80, flags="S"))[:12]), to=server, proto=6).only(server)


@scenario()
def bad_checksum_with_checking_off(node: Node) -> None:
    """nf_conntrack_checksum=0: a wrong checksum does not matter."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    node.sysctl("net.netfilter.nf_conntrack_checksum = 0")
    client.send(TCP(sport=40000, dport=80, flags="S", chksum=0xBAD), to=server).only(server)


@scenario()
def data_beyond_the_window(node: Node) -> None:
    """Data that begins beyond the receiver's window is INVALID; what overshoots by less than a window passes."""
    talk = tracked(node, window=1000)
    talk.open()
    talk.client("PA", bytes(900))
    talk.client("PA", bytes(900), seq=talk.client_seq)
    talk.client("PA", b"far", seq=talk.client_seq + 50_000)
    talk.server("A")


@scenario()
def acknowledgement_of_the_unsent(node: Node) -> None:
    """An ACK for data that the peer has not sent is INVALID."""
    talk = tracked(node)
    talk.open()
    talk.client("A", ack=talk.server_seq + 1)
    talk.client("A", ack=talk.server_seq + 100_000)
    talk.client("A")


@scenario()
def old_acknowledgement(node: Node) -> None:
    """An ACK from before the last 66000 bytes is let through without effect."""
    talk = tracked(node, window=65535)
    talk.open()
    for _ in range(60):
        talk.server("PA", bytes(1400))
        talk.client("A")
    talk.client("A", ack=talk.server_seq - 70_000)
    talk.client("A", ack=talk.server_seq - 60_000)


@scenario()
def retransmitted_data(node: Node) -> None:
    """Old data again passes; three repeated ACKs do not matter."""
    talk = tracked(node)
    talk.open()
    first = talk.client_seq
    talk.client("PA", b"0123456789")
    talk.client("PA", b"0123456789", seq=first)
    talk.server("A")
    talk.client("PA", b"0123456789", seq=first)
    for _ in range(3):
        talk.server("A")


@scenario()
def many_retransmissions_shorten_the_timeout(node: Node) -> None:
    """The same segment four times: the timeout falls to that of max_retrans."""
    talk = tracked(node)
    talk.open()
    first = talk.client_seq
    talk.client("PA", b"0123456789")
    for _ in range(4):
        talk.client("PA", b"0123456789", seq=first)
    talk.server("A")


@scenario()
def unacknowledged_data_shortens_the_timeout(node: Node) -> None:
    """While data waits for its ACK the timeout is 300 s; the ACK restores it."""
    talk = tracked(node)
    talk.open()
    talk.client("PA", b"data")
    talk.server("A")
    talk.server("PA", b"data")
    talk.client("A")


@scenario()
def zero_window_shortens_the_timeout(node: Node) -> None:
    """A closed window counts like waiting: 300 s until it opens."""
    talk = tracked(node)
    talk.open()
    talk.server("A", window=0)
    talk.client("A")
    talk.server("A")


@scenario()
def zero_window_probe(node: Node) -> None:
    """One byte beyond a closed window passes."""
    talk = tracked(node, window=100)
    talk.open()
    talk.client("PA", bytes(100))
    talk.server("A", window=0)
    talk.client("PA", b"p", seq=talk.client_seq)
    talk.client("PA", b"pp", seq=talk.client_seq)
    talk.server("A", window=100)


@scenario()
def keep_alive(node: Node) -> None:
    """A keep-alive (one byte back) and its answer renew the timeout."""
    talk = tracked(node)
    timeouts(node, established=50)
    talk.open()
    node.wait(2.2)
    talk.client("A", seq=talk.client_seq - 1)
    talk.server("A")


@scenario()
def window_scaling(node: Node) -> None:
    """Windows are scaled only when both sides offer it."""
    talk = tracked(node, window=1000)
    talk.client("S", options=[("WScale", 7)])
    talk.server("SA", options=[("WScale", 6)])
    talk.client("A")
    talk.client("PA", b"within", seq=talk.client_seq + 40_000)
    talk.server("A")


@scenario()
def window_scaling_by_one_side_only(node: Node) -> None:
    """An offer without an answer does not scale: the same data is INVALID."""
    talk = tracked(node, window=1000)
    talk.client("S", options=[("WScale", 7)])
    talk.server("SA")
    talk.client("A")
    talk.client("PA", b"outside", seq=talk.client_seq + 40_000)
    talk.server("A")


@scenario()
def selective_acknowledgement(node: Node) -> None:
    """The right edge of a SACK block counts as acknowledged for the window."""
    talk = tracked(node, window=2000)
    talk.client("S", options=[("SAckOK", b"")])
    talk.server("SA", options=[("SAckOK", b"")])
    talk.client("A")
    start = talk.client_seq
    talk.client("PA", bytes(500))
    talk.client("PA", bytes(500))
    talk.server("A", ack=start, options=[("NOP", None), ("NOP", None), ("SAck", (start + 500, start + 1000))])
    talk.server("A", ack=start, options=[("NOP", None), ("NOP", None), ("SAck", (start + 500, start + 90_000))])


@scenario()
def be_liberal(node: Node) -> None:
    """tcp_be_liberal=1: nothing is INVALID for being outside the window."""
    talk = tracked(node, window=1000)
    node.sysctl("net.netfilter.nf_conntrack_tcp_be_liberal = 1")
    talk.open()
    talk.client("PA", b"far", seq=talk.client_seq + 50_000)
    talk.server("A", ack=talk.client_seq + 90_000)
    talk.server("R", seq=talk.server_seq + 1_000_000)


@scenario()
def syn_in_established(node: Node) -> None:
    """A SYN in an open connection passes and changes nothing; a challenge ACK and RST close it."""
    talk = tracked(node)
    talk.open()
    talk.client("S", seq=9_000_000)
    talk.server("A")
    talk.client("R", seq=talk.server_seq)


@scenario()
def synack_answers_a_syn_in_established(node: Node) -> None:
    """SYN and SYN-ACK in an open connection: the tracker follows the ends to the new connection."""
    talk = tracked(node)
    talk.open()
    talk.client("S", seq=9_000_000)
    talk.server("SA", seq=7_000_000, ack=9_000_001)
    talk.client("A", seq=9_000_001, ack=7_000_001)


@scenario()
def port_reused_in_time_wait(node: Node) -> None:
    """A SYN in TIME_WAIT makes a new connection in place of the old."""
    talk = tracked(node)
    talk.open()
    talk.client("FA")
    talk.server("FA")
    talk.client("A")
    talk.client("S", seq=9_000_000)
    talk.server("SA", ack=9_000_001)


@scenario()
def port_reused_after_the_server_closed(node: Node) -> None:
    """The server closed first: the same SYN in TIME_WAIT."""
    talk = tracked(node)
    talk.open()
    talk.server("FA")
    talk.client("FA")
    talk.server("A")
    talk.client("S", seq=9_000_000)


@scenario()
def port_reused_after_a_reset(node: Node) -> None:
    """A SYN in CLOSE: a new connection if the last packet of that side was the RST, else not."""
    talk = tracked(node)
    talk.open()
    talk.client("R")
    talk.client("S", seq=9_000_000)


@scenario()
def port_reused_after_a_reset_of_the_server(node: Node) -> None:
    """A SYN of the client in CLOSE after the server's RST."""
    talk = tracked(node)
    talk.open()
    talk.server("R")
    talk.client("S", seq=9_000_000)
    talk.server("SA", ack=9_000_001)
    talk.client("A", seq=9_000_001)


@scenario()
def syn_in_closing_states(node: Node) -> None:
    """A SYN in FIN_WAIT, CLOSE_WAIT and LAST_ACK passes and changes nothing."""
    talk = tracked(node)
    talk.open()
    talk.client("FA")
    talk.client("S", seq=9_000_000)
    talk.server("A")
    talk.client("S", seq=9_000_000)
    talk.server("FA")
    talk.client("S", seq=9_000_000)


@scenario()
def entry_expires(node: Node) -> None:
    """After its timeout an entry is gone, and the next packet starts over."""
    talk = tracked(node)
    timeouts(node, syn_sent=1)
    talk.client("S")
    node.wait(1.3)
    talk.server("SA")


@scenario()
def timeout_is_renewed(node: Node) -> None:
    """Each packet of an open connection renews its timeout."""
    talk = tracked(node)
    timeouts(node, established=40)
    talk.open()
    node.wait(2.2)
    talk.client("A")


@scenario()
def icmp_error_about_a_connection(node: Node) -> None:
    """Host unreachable about a SYN is RELATED, and leaves the connection as it is."""
    talk = tracked(node)
    request = talk.client("S").only(talk.far)
    talk.far.complain("host unreachable", request)


@scenario()
def dropped_packet_leaves_no_entry(node: Node) -> None:
    """A first packet that a rule drops leaves no connection."""
    client, server = node.router()
    node.rules(COUNT_STATES + "-A FORWARD -p tcp --dport 81 -j DROP")
    client.send(TCP(sport=40000, dport=81, flags="S"), to=server)
    client.send(TCP(sport=40000, dport=82, flags="S"), to=server)


@scenario()
def ttl_expiry_leaves_no_entry(node: Node) -> None:
    """A first packet that dies of its TTL leaves no connection."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    client.send(TCP(sport=40000, dport=80, flags="S"), to=server, ttl=1)


@scenario()
def without_accounting(node: Node) -> None:
    """nf_conntrack_acct=0: connections bear no counters."""
    talk = tracked(node)
    node.sysctl("net.netfilter.nf_conntrack_acct = 0")
    talk.open()


@scenario(families=(4, 6))
def connection_to_the_node(node: Node) -> None:
    """A SYN to the node itself: confirmed at INPUT, whether a socket takes it or not."""
    client, _ = node.router()
    node.listen("tcp", 80)
    node.rules("-A INPUT -m conntrack --ctstate NEW")
    client.send(TCP(sport=40000, dport=80, flags="S", seq=1), to=node.address("eth0"))
    client.send(TCP(sport=40001, dport=81, flags="S", seq=1), to=node.address("eth0")).only(client)


@scenario()
def first_packet_of_two_families(node: Node) -> None:
    """A ping beside a TCP connection: each protocol has its own entry."""
    talk = tracked(node)
    talk.open()
    talk.near.send(echo(4), to=talk.far)
