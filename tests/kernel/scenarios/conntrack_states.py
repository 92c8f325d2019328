"""The TCP tracker transition by transition: every cell of its table that a first packet can lead to.

A connection is brought into a state by the packets of WAYS, and then one packet of each kind comes from either side,
each time to a connection of its own (another port), so that a difference names the cell.
"""

from collections.abc import Callable, Iterable

from judge.node import Node
from judge.scenario import scenario
from judge.talk import Talk

from scenarios.conntrack_tcp import COUNT_STATES, timeouts, tracked

# What may come, by the row of the table that it belongs to.
KINDS = ("S", "SA", "FA", "A", "R", "RA", "")


def begun(talk: Talk) -> None:
    talk.client("S")


def answered(talk: Talk) -> None:
    talk.client("S")
    talk.server("SA")


def established(talk: Talk) -> None:
    talk.open()


def client_closes(talk: Talk) -> None:
    talk.open()
    talk.client("FA")


def close_is_acknowledged(talk: Talk) -> None:
    client_closes(talk)
    talk.server("A")


def server_closes(talk: Talk) -> None:
    talk.open()
    talk.server("FA")


def server_waits_for_the_last_ack(talk: Talk) -> None:
    close_is_acknowledged(talk)
    talk.server("FA")


def closed(talk: Talk) -> None:
    server_waits_for_the_last_ack(talk)
    talk.client("A")


def closed_by_the_server(talk: Talk) -> None:
    server_closes(talk)
    talk.client("A")
    talk.client("FA")
    talk.server("A")


def reset_by_the_client(talk: Talk) -> None:
    talk.open()
    talk.client("R")


def reset_by_the_server(talk: Talk) -> None:
    talk.open()
    talk.server("R")


def syns_cross(talk: Talk) -> None:
    talk.client("S")
    talk.server("S")


def every_kind(node: Node, way: Callable[[Talk], None], sides: Iterable[str] = ("client", "server")) -> None:
    """After `way`, one segment of each kind with the next sequence number, from each side."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    node.look_at_every_step = False
    port = 40000
    for side in sides:
        for flags in KINDS:
            talk = Talk(client, server, sport=port)
            port += 1
            way(talk)
            getattr(talk, side)(flags)
    node.look()


def _every(way: Callable[[Talk], None], name: str, shows: str) -> None:
    def body(node: Node) -> None:
        every_kind(node, way)

    body.__name__ = f"every_packet_in_{name}"
    body.__doc__ = shows
    scenario(families=(4, 6) if way is established else (4,))(body)


_every(begun, "syn_sent", "SYN_SENT: one packet of each kind from each side.")


_every(answered, "syn_recv", "SYN_RECV: one packet of each kind from each side.")


_every(established, "established", "ESTABLISHED: one packet of each kind from each side.")


_every(
    client_closes, "fin_wait_of_the_client", "FIN_WAIT after the client's FIN: one packet of each kind from each side."
)


_every(
    server_closes, "fin_wait_of_the_server", "FIN_WAIT after the server's FIN: one packet of each kind from each side."
)


_every(close_is_acknowledged, "close_wait", "CLOSE_WAIT: one packet of each kind from each side.")


_every(server_waits_for_the_last_ack, "last_ack", "LAST_ACK: one packet of each kind from each side.")


_every(closed, "time_wait", "TIME_WAIT after the client closed first: one packet of each kind from each side.")


_every(closed_by_the_server, "time_wait_of_the_server", "TIME_WAIT after the server closed first: the same.")


_every(
    reset_by_the_client, "close_by_the_client", "CLOSE after the client's RST: one packet of each kind from each side."
)


_every(
    reset_by_the_server, "close_by_the_server", "CLOSE after the server's RST: one packet of each kind from each side."
)


_every(syns_cross, "syn_sent2", "SYN_SENT2: one packet of each kind from each side.")


@scenario()
def same_packet_twice_in_every_state(node: Node) -> None:
    """Every packet of a whole connection comes twice, as a network that duplicates would have it."""
    talk = tracked(node)
    for side, flags, data in (
        ("client", "S", b""),
        ("server", "SA", b""),
        ("client", "A", b""),
        ("client", "PA", b"question"),
        ("server", "PA", b"answer"),
        ("client", "A", b""),
        ("client", "FA", b""),
        ("server", "FA", b""),
        ("client", "A", b""),
    ):
        seq, ack = (talk.client_seq, talk.server_seq) if side == "client" else (talk.server_seq, talk.client_seq)
        send = getattr(talk, side)
        send(flags, data)
        send(flags, data, seq=seq, ack=ack if "A" in flags else 0)


@scenario()
def handshake_out_of_order(node: Node) -> None:
    """The client's data overtakes its final ACK, and its FIN overtakes the data."""
    talk = tracked(node)
    talk.client("S")
    talk.server("SA")
    talk.client("PA", b"data", seq=talk.client_seq)
    talk.client("FA", seq=talk.client_seq + 4)
    talk.client("A")
    talk.server("A", ack=talk.client_seq + 5)
    talk.server("FA", ack=talk.client_seq + 5)


@scenario()
def data_on_the_syn(node: Node) -> None:
    """Data in a SYN (TCP Fast Open) counts as sent; the SYN-ACK may acknowledge it or not."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    for port, acknowledged in ((40000, 1005), (40001, 1001), (40002, 1006)):
        talk = Talk(client, server, sport=port)
        talk.client("S", b"data")
        talk.server("SA", b"early", ack=acknowledged)
        talk.client("A")


@scenario()
def sequence_numbers_wrap(node: Node) -> None:
    """Data across 2**32 is inside the window."""
    talk = tracked(node, client_isn=0xFFFFFFF0, server_isn=0xFFFFFFFE)
    talk.client("S")
    talk.client_seq &= 0xFFFFFFFF
    talk.server("SA")
    talk.client("A")
    talk.client("PA", bytes(100))
    talk.client_seq &= 0xFFFFFFFF
    talk.server("PA", bytes(100))
    talk.server_seq &= 0xFFFFFFFF
    talk.client("A")
    talk.server("A")


@scenario()
def second_syn_before_an_answer(node: Node) -> None:
    """SYNs with higher, lower and equal numbers in SYN_SENT, then answers to each."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    for port, second in ((40000, 5000), (40001, 10), (40002, 1000)):
        for answer in (1001, second + 1):
            talk = Talk(client, server, sport=port)
            port += 10
            talk.client("S")
            talk.client("S", seq=second)
            talk.server("SA", ack=answer)
            talk.client("A", seq=answer)


@scenario()
def synack_with_a_wrong_acknowledgement(node: Node) -> None:
    """A SYN-ACK for something that was not sent: INVALID above, let through without effect below."""
    talk = tracked(node)
    talk.client("S")
    talk.server("SA", ack=talk.client_seq + 1)
    talk.server("SA", ack=talk.client_seq - 1)
    talk.server("SA", ack=2**32 - 100_000)
    talk.server("SA")


@scenario()
def simultaneous_open_with_a_bare_ack(node: Node) -> None:
    """Crossing SYNs, SYN-ACK of the client, ACK of the server: ESTABLISHED by the mark of the simultaneous open."""
    talk = tracked(node)
    talk.client("S")
    talk.server("S")
    talk.client("SA", seq=1000)
    talk.server("A")
    talk.client("A")
    talk.client("PA", b"data")


@scenario()
def simultaneous_open_answered_by_the_server_first(node: Node) -> None:
    """Crossing SYNs, SYN-ACK of the server first."""
    talk = tracked(node)
    talk.client("S")
    talk.server("S")
    talk.server("SA", seq=500_000)
    talk.client("SA", seq=1000)
    talk.client("A")
    talk.server("A")


@scenario()
def simultaneous_open_with_options(node: Node) -> None:
    """Crossing SYNs that offer window scaling and SACK."""
    talk = tracked(node, window=1000)
    options = [("WScale", 7), ("SAckOK", b"")]
    talk.client("S", options=options)
    talk.server("S", options=options)
    talk.client("SA", seq=1000, options=options)
    talk.server("SA", seq=500_000, options=options)
    talk.client("A")
    talk.client("PA", b"far", seq=talk.client_seq + 60_000)
    talk.server("A")


@scenario()
def timeouts_of_every_state(node: Node) -> None:
    """Each state has its sysctl."""
    talk = tracked(node)
    timeouts(
        node,
        syn_sent=111,
        syn_recv=112,
        established=11300,
        fin_wait=114,
        close_wait=115,
        last_ack=116,
        time_wait=117,
        close=118,
        max_retrans=119,
        unacknowledged=120,
    )
    closed(talk)
    talk.again(40001)
    syns_cross(talk)
    talk.again(40002)
    reset_by_the_server(talk)
    talk.again(40003)
    talk.client("A")


@scenario()
def renewed_in_every_state(node: Node) -> None:
    """Two seconds after it began each connection gets one more packet: which states renew their time."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    node.look_at_every_step = False
    ways = (
        (begun, "client", "S"),
        (answered, "server", "SA"),
        (established, "client", "A"),
        (client_closes, "client", "FA"),
        (close_is_acknowledged, "server", "A"),
        (server_waits_for_the_last_ack, "server", "FA"),
        (closed, "client", "A"),
        (reset_by_the_client, "client", "R"),
        (syns_cross, "client", "S"),
    )
    talks = []
    for number, (way, side, flags) in enumerate(ways):
        talk = Talk(client, server, sport=40000 + number)
        way(talk)
        talks.append((talk, side, flags))
    node.wait(2.3)
    for talk, side, flags in talks:
        back = {"S": 1, "SA": 1, "FA": 1}.get(flags, 0)
        getattr(talk, side)(flags, seq=getattr(talk, f"{side}_seq") - back)
    node.look()


@scenario()
def assured_only_by_the_third_packet(node: Node) -> None:
    """ASSURED comes with what follows SYN_RECV or ESTABLISHED after an answer: data, FIN and RST instead of the ACK."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    for number, (side, flags) in enumerate(
        (("client", "PA"), ("client", "FA"), ("client", "R"), ("server", "A"), ("server", "PA"), ("server", "FA"))
    ):
        talk = Talk(client, server, sport=40000 + number)
        answered(talk)
        getattr(talk, side)(flags)


@scenario()
def long_time_wait_reuse(node: Node) -> None:
    """Reuse in TIME_WAIT by the server's side: its SYN starts a connection in the other direction."""
    talk = tracked(node)
    closed(talk)
    talk.server("S", seq=7_000_000)
    talk.client("SA", seq=9_000_000, ack=7_000_001)
    talk.server("A", ack=9_000_001)


@scenario()
def reuse_with_a_lower_number(node: Node) -> None:
    """The tracker does not ask whether the new SYN is newer: lower numbers start a connection too."""
    talk = tracked(node)
    closed(talk)
    talk.client("S", seq=1)
    talk.server("SA", seq=2, ack=2)
    talk.client("A", seq=2, ack=3)
