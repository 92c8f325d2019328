"""What the TCP tracker believes: resets and challenges, windows, pick-up in mid-stream, retransmissions, options."""

from judge.node import Node
from judge.scenario import scenario
from judge.talk import Talk

from scenarios.conntrack_states import answered, begun, established, server_waits_for_the_last_ack
from scenarios.conntrack_tcp import COUNT_STATES, timeouts, tracked


@scenario()
def challenge_ack_to_a_syn_in_last_ack(node: Node) -> None:
    """A SYN in LAST_ACK is answered by a challenge ACK, which does not end the connection."""
    talk = tracked(node)
    server_waits_for_the_last_ack(talk)
    talk.client("S", seq=9_000_000)
    talk.server("A")
    talk.client("R", seq=talk.server_seq)
    talk.client("S", seq=9_000_000)
    talk.server("SA", seq=1, ack=9_000_001)


@scenario()
def challenge_ack_in_syn_sent(node: Node) -> None:
    """The server still has an old connection: its ACK is let through, the client's RST with that number closes."""
    talk = tracked(node)
    talk.client("S", seq=9_000_000)
    talk.server("A", ack=1234)
    talk.client("R", seq=1234)
    talk.client("S", seq=9_000_000)


@scenario()
def challenge_ack_in_syn_sent_with_another_reset(node: Node) -> None:
    """After an unexpected ACK in SYN_SENT, RSTs with other numbers."""
    talk = tracked(node)
    talk.client("S", seq=9_000_000)
    talk.server("A", ack=1234)
    talk.client("R", seq=4321)
    talk.server("R", seq=7, ack=0)


@scenario()
def reset_that_answers_an_ignored_syn(node: Node) -> None:
    """SYN in ESTABLISHED, and a RST that acknowledges it: closes although outside the window."""
    talk = tracked(node)
    talk.open()
    talk.client("S", seq=9_000_000)
    talk.server("RA", seq=0, ack=9_000_001)


@scenario()
def reset_that_does_not_answer_an_ignored_syn(node: Node) -> None:
    """The same with another acknowledgement."""
    talk = tracked(node)
    talk.open()
    talk.client("S", seq=9_000_000)
    talk.server("RA", seq=0, ack=9_000_002)
    talk.server("RA", seq=0, ack=9_000_000)


@scenario()
def reset_that_answers_a_picked_up_ack(node: Node) -> None:
    """A mid-stream ACK and the RST of a server that knows nothing of it."""
    talk = tracked(node)
    talk.client("A")
    talk.server("R", seq=talk.server_seq)
    talk.again(40001)
    talk.client("PA", b"data")
    talk.server("RA", seq=0, ack=talk.client_seq)


@scenario()
def reset_train(node: Node) -> None:
    """ACK and RST with one number beyond what was acknowledged: the RST closes."""
    talk = tracked(node)
    talk.open()
    talk.server("PA", b"0123456789")
    talk.server("A")
    talk.server("R", seq=talk.server_seq)
    talk.again(40001)
    talk.open()
    talk.server("PA", b"0123456789")
    talk.client("PA", b"x", ack=talk.server_seq - 10)
    talk.server("R", seq=talk.server_seq)


@scenario()
def resets_with_sequence_zero(node: Node) -> None:
    """RST with sequence number 0 in SYN_SENT, SYN_RECV and ESTABLISHED, from either side."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    port = 40000
    for way in (begun, answered, established):
        for side in ("client", "server"):
            for flags in ("R", "RA"):
                talk = Talk(client, server, sport=port)
                port += 1
                way(talk)
                getattr(talk, side)(flags, seq=0)


@scenario()
def resets_around_the_acknowledged(node: Node) -> None:
    """RSTs one below, at, one above what the peer has acknowledged, in ESTABLISHED, from either side."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    port = 40000
    for side in ("client", "server"):
        for off in (-1, 0, 1, 8191, 8192, 8193, 9000):
            talk = Talk(client, server, sport=port)
            port += 1
            talk.open()
            talk.client("PA", b"data")
            talk.server("PA", b"data")
            talk.client("A")
            getattr(talk, side)("R", seq=getattr(talk, f"{side}_seq") + off)


@scenario()
def resets_around_the_acknowledged_in_syn_recv(node: Node) -> None:
    """RSTs around the expected number in SYN_RECV: no challenge there."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    port = 40000
    for side in ("client", "server"):
        for off in (-1, 0, 1, 8192, 8193):
            talk = Talk(client, server, sport=port)
            port += 1
            answered(talk)
            getattr(talk, side)("R", seq=getattr(talk, f"{side}_seq") + off)


@scenario()
def two_invalid_fins_shorten_the_timeout(node: Node) -> None:
    """A FIN out of the window from each side of an assured connection: the second lowers the timeout to 300 s."""
    talk = tracked(node)
    talk.open()
    talk.client("FA", seq=talk.client_seq + 1_000_000)
    talk.server("FA", seq=talk.server_seq + 1_000_000)
    talk.client("A")


@scenario()
def two_invalid_resets_shorten_the_timeout(node: Node) -> None:
    """The same with resets; two from one side do nothing."""
    talk = tracked(node)
    talk.open()
    talk.client("R", seq=talk.client_seq + 1_000_000)
    talk.client("R", seq=talk.client_seq + 1_000_000)
    talk.server("R", seq=talk.server_seq + 1_000_000)


@scenario()
def invalid_fins_of_a_connection_that_is_not_assured(node: Node) -> None:
    """Before it is assured a connection is not closed by what does not fit."""
    talk = tracked(node)
    talk.client("S")
    talk.server("SA")
    talk.client("FA", seq=talk.client_seq + 1_000_000)
    talk.server("FA", seq=talk.server_seq + 1_000_000)


@scenario()
def invalid_fins_with_little_time_left(node: Node) -> None:
    """With less than two minutes left the timeout stays."""
    talk = tracked(node)
    timeouts(node, established=100)
    talk.open()
    talk.client("FA", seq=talk.client_seq + 1_000_000)
    talk.server("FA", seq=talk.server_seq + 1_000_000)


@scenario()
def loose_pick_up_from_the_server(node: Node) -> None:
    """The first packet seen is the server's: it is the original direction then."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    talk = Talk(server, client, sport=80, dport=40000)
    talk.client("PA", b"data")
    talk.server("A")
    talk.client("PA", b"more")
    talk.client("FA")
    talk.server("FA")
    talk.client("A")


@scenario()
def loose_pick_up_takes_any_window(node: Node) -> None:
    """A picked-up connection is liberal: nothing is out of its window, in either direction."""
    talk = tracked(node, window=100)
    talk.client("A")
    talk.server("A")
    talk.client("PA", b"far", seq=talk.client_seq + 1_000_000)
    talk.server("PA", b"far", seq=talk.server_seq + 1_000_000, ack=talk.client_seq + 9_000_000)
    talk.server("R", seq=talk.server_seq + 5_000_000)


@scenario()
def loose_pick_up_and_a_syn(node: Node) -> None:
    """A SYN after a pick-up is ignored, its SYN-ACK starts over."""
    talk = tracked(node)
    talk.client("A")
    talk.client("S", seq=9_000_000)
    talk.server("SA", seq=7_000_000, ack=9_000_001)
    talk.client("A", seq=9_000_001, ack=7_000_001)


@scenario()
def strict_pick_up(node: Node) -> None:
    """tcp_loose=0: no kind of packet but a SYN starts a connection, and a whole one works as ever."""
    talk = tracked(node)
    node.sysctl("net.netfilter.nf_conntrack_tcp_loose = 0")
    for flags in ("A", "PA", "FA", "R", "RA", "SA", "U"):
        talk.client(flags)
    talk.again(40001)
    talk.open()
    talk.client("FA")
    talk.server("FA")
    talk.client("A")


@scenario()
def be_liberal_in_every_way(node: Node) -> None:
    """tcp_be_liberal=1: data beyond and before the window, acknowledgements of the unsent and of the forgotten."""
    talk = tracked(node, window=1000, client_isn=100_000)
    node.sysctl("net.netfilter.nf_conntrack_tcp_be_liberal = 1")
    talk.open()
    talk.client("PA", b"far", seq=talk.client_seq + 50_000)
    talk.client("PA", b"old", seq=talk.client_seq - 50_000)
    talk.client("A", ack=talk.server_seq + 70_000)
    talk.client("A", ack=talk.server_seq - 70_000)
    talk.client("PA", b"good")
    talk.server("A")
    talk.client("FA", seq=talk.client_seq + 1_000_000)
    talk.server("FA", seq=talk.server_seq + 1_000_000)


@scenario()
def be_liberal_and_resets(node: Node) -> None:
    """tcp_be_liberal=1 does not change what a RST must bear."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    node.sysctl("net.netfilter.nf_conntrack_tcp_be_liberal = 1")
    port = 40000
    for off in (-5, 0, 5, 1_000_000):
        talk = Talk(client, server, sport=port)
        port += 1
        talk.open()
        talk.server("PA", b"0123456789")
        talk.client("A")
        talk.server("R", seq=talk.server_seq + off)


@scenario()
def max_retrans_by_sysctl(node: Node) -> None:
    """tcp_max_retrans=1 and a short tcp_timeout_max_retrans: the second repetition shortens the time."""
    talk = tracked(node)
    node.sysctl("net.netfilter.nf_conntrack_tcp_max_retrans = 1")
    timeouts(node, max_retrans=40)
    talk.open()
    first = talk.client_seq
    talk.client("PA", b"0123456789")
    for _ in range(3):
        talk.client("PA", b"0123456789", seq=first)
    talk.server("A")
    talk.client("A")


@scenario()
def retransmissions_between_answers(node: Node) -> None:
    """Repetitions count only while they follow each other."""
    talk = tracked(node)
    node.sysctl("net.netfilter.nf_conntrack_tcp_max_retrans = 2")
    talk.open()
    first = talk.client_seq
    talk.client("PA", b"0123456789")
    for _ in range(3):
        talk.client("PA", b"0123456789", seq=first)
        talk.server("A", ack=first)


@scenario()
def unacknowledged_by_sysctl(node: Node) -> None:
    """A short tcp_timeout_unacknowledged: data from either side shortens the time until it is acknowledged."""
    talk = tracked(node)
    timeouts(node, unacknowledged=40)
    talk.open()
    talk.client("PA", b"0123456789")
    talk.server("PA", b"abc", ack=talk.client_seq - 5)
    talk.client("A")
    talk.server("A")


@scenario()
def options_cut_short(node: Node) -> None:
    """Window scale and SACK options with odd lengths, doubled, too large or behind the end of the list."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    for number, options in enumerate(
        (
            [("WScale", 15)],
            [("WScale", 2), ("WScale", 9)],
            [("EOL", None), ("WScale", 7)],
            [(3, b"\x07\x07")],
            [("NOP", None), ("NOP", None), (3, b"")],
            [(4, b"\x00"), ("WScale", 7)],
            [(77, b"abc"), ("WScale", 7)],
        )
    ):
        talk = Talk(client, server, sport=40000 + number, window=100)
        talk.client("S", options=options)
        talk.server("SA", options=options)
        talk.client("A")
        talk.client("PA", b"x", seq=talk.client_seq + 5_000)
        talk.server("A")


@scenario()
def sack_blocks(node: Node) -> None:
    """SACK with several blocks, behind timestamps, with odd lengths; only after it was agreed."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    for number, agreed in enumerate((True, False)):
        talk = Talk(client, server, sport=40000 + number, window=4000)
        options = [("SAckOK", b"")] if agreed else []
        talk.client("S", options=options)
        talk.server("SA", options=options)
        talk.client("A")
        start = talk.client_seq
        for _ in range(4):
            talk.client("PA", bytes(500))
        stamp = ("Timestamp", (1, 2))
        talk.server("A", ack=start, options=[stamp, ("SAck", (start + 500, start + 1000, start + 1500, start + 2000))])
        talk.server("A", ack=start, options=[("SAck", (start + 500, start + 1000, start + 1500, start + 90_000))])
        talk.server("A", ack=start, options=[(5, b"\x00" * 7)])
        talk.server("A", ack=start, options=[("NOP", None), ("NOP", None), ("Timestamp", (1, 2))])


@scenario()
def window_grows_and_shrinks(node: Node) -> None:
    """What the server has promised stays promised: data inside the largest window that was offered."""
    talk = tracked(node, window=4000)
    talk.open()
    talk.server("A", window=1000)
    talk.client("PA", bytes(1400), seq=talk.client_seq + 2000)
    talk.client("PA", bytes(1400), seq=talk.client_seq + 6000)
    talk.server("A", window=60_000)
    talk.client("PA", bytes(1400), seq=talk.client_seq + 40_000)


@scenario()
def syn_with_an_acknowledgement_number(node: Node) -> None:
    """Fields that the flags make meaningless: an ack number without ACK, an urgent pointer without URG."""
    talk = tracked(node)
    talk.client("S", ack=12345, urgptr=9)
    talk.server("SA", urgptr=7)
    talk.client("A", urgptr=5)
    talk.client("R", ack=99)


@scenario()
def reset_of_the_side_whose_syn_was_ignored(node: Node) -> None:
    """A RST that acknowledges an ignored SYN counts only if it comes from the other side."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    for number, side in enumerate(("client", "server")):
        talk = Talk(client, server, sport=40000 + number)
        talk.open()
        talk.client("S", seq=900_000)
        getattr(talk, side)("RA", seq=900_000 if side == "client" else 0, ack=900_001)


@scenario()
def synack_of_the_client_starts_its_window_anew(node: Node) -> None:
    """A SYN-ACK of the client in SYN_RECV, ahead of its SYN: from there on its window counts."""
    talk = tracked(node, window=1000)
    talk.client("S")
    talk.server("SA")
    talk.client("SA", seq=66_000)
    talk.client("PA", b"data", seq=66_001)
    talk.client("PA", b"data", seq=1001)


@scenario()
def syn_without_options_keeps_the_offers(node: Node) -> None:
    """A later SYN without any option leaves window scaling and SACK as an earlier one offered them."""
    talk = tracked(node, window=1000)
    talk.client("S", options=[("WScale", 7), ("SAckOK", b"")])
    talk.client("S", seq=5000)
    talk.server("SA", ack=5001, options=[("WScale", 7), ("SAckOK", b"")])
    talk.client("A", seq=5001)
    talk.client("PA", b"far", seq=60_000)
    talk.server("A", ack=5001, options=[("NOP", None), ("NOP", None), ("SAck", (60_000, 90_000))])


@scenario()
def picked_up_connection_stays_liberal(node: Node) -> None:
    """A connection that was picked up and started over by SYN and SYN-ACK: what is still liberal."""
    talk = tracked(node, window=100)
    talk.client("A")
    talk.server("A")
    talk.client("S", seq=9_000_000)
    talk.server("SA", seq=7_000_000, ack=9_000_001)
    talk.client("A", seq=9_000_001, ack=7_000_001)
    talk.server("PA", b"far", seq=7_900_000, ack=9_000_001)
    talk.client("PA", b"far", seq=9_900_000, ack=7_000_001)
