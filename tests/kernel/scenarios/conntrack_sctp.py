"""Connection tracking of SCTP associations: states, verification tags, what is INVALID, and NAT of them."""

from collections.abc import Iterable

from judge.node import Node
from judge.scenario import scenario
from judge.talk import Frames, Peer, network, reply
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.sctp import (
    SCTP,
    SCTPChunkAbort,
    SCTPChunkCookieAck,
    SCTPChunkCookieEcho,
    SCTPChunkData,
    SCTPChunkError,
    SCTPChunkHeartbeatAck,
    SCTPChunkHeartbeatReq,
    SCTPChunkInit,
    SCTPChunkInitAck,
    SCTPChunkSACK,
    SCTPChunkShutdown,
    SCTPChunkShutdownAck,
    SCTPChunkShutdownComplete,
)
from scapy.packet import Packet, Raw

from scenarios.conntrack_tcp import COUNT_STATES

CLIENT_TAG, SERVER_TAG = 0x11111111, 0x22222222  # what each side wants to be addressed by

CHUNKS = {
    "INIT": lambda: SCTPChunkInit(init_tag=CLIENT_TAG),
    "INIT_ACK": lambda: SCTPChunkInitAck(init_tag=SERVER_TAG),
    "COOKIE_ECHO": lambda: SCTPChunkCookieEcho(cookie=b"cookie!!"),
    "COOKIE_ACK": SCTPChunkCookieAck,
    "DATA": lambda: SCTPChunkData(data=b"data", tsn=1),
    "SACK": SCTPChunkSACK,
    "HEARTBEAT": SCTPChunkHeartbeatReq,
    "HEARTBEAT_ACK": SCTPChunkHeartbeatAck,
    "SHUTDOWN": SCTPChunkShutdown,
    "SHUTDOWN_ACK": SCTPChunkShutdownAck,
    "SHUTDOWN_COMPLETE": SCTPChunkShutdownComplete,
    "ABORT": SCTPChunkAbort,
    "ERROR": SCTPChunkError,
}


class Association:
    """Two ends of an association. Each puts the other's tag into its packets, unless told otherwise."""

    def __init__(self, client: Peer, server: Peer, to: Peer | str | None = None, sport: int = 1000) -> None:
        self.near, self.far, self._to, self._sport = client, server, to or server, sport
        self._seen: Packet | None = None

    def client(self, *chunks: str | Packet, tag: int | None = None) -> Frames:
        if tag is None:
            tag = 0 if chunks[0] == "INIT" else SERVER_TAG
        packet: Packet = SCTP(sport=self._sport, dport=2000, tag=tag)
        frames = self.near.send(_with(packet, chunks), to=self._to)
        reached = frames.at(self.far)
        if reached:
            self._seen = reached[-1]
        return frames

    def server(self, *chunks: str | Packet, tag: int | None = None) -> Frames:
        assert self._seen is not None, "nothing has reached the server yet"
        if tag is None:
            tag = 0 if chunks[0] == "INIT" else CLIENT_TAG
        return self.far.send(reply(self._seen, _with(b"", chunks), tag=tag, chksum=None))

    def open(self) -> None:
        self.client("INIT")
        self.server("INIT_ACK")
        self.client("COOKIE_ECHO")
        self.server("COOKIE_ACK")


def _with(packet: Packet | bytes, chunks: Iterable[str | Packet]) -> Packet:
    for chunk in chunks:
        made = CHUNKS[chunk]() if isinstance(chunk, str) else chunk
        packet = packet / made if packet else made
    assert isinstance(packet, Packet)
    return packet


def associated(node: Node, sport: int = 1000) -> Association:
    client, server = node.router()
    node.rules(COUNT_STATES)
    return Association(client, server, sport=sport)


@scenario(families=(4, 6))
def life_of_an_association(node: Node) -> None:
    """INIT to SHUTDOWN_COMPLETE: every state, ASSURED with COOKIE_ACK."""
    both = associated(node)
    both.open()
    both.client("DATA")
    both.server("SACK")
    both.client("SHUTDOWN")
    both.server("SHUTDOWN_ACK")
    both.client("SHUTDOWN_COMPLETE")


@scenario()
def shutdown_by_the_server(node: Node) -> None:
    """SHUTDOWN from the other side: SHUTDOWN_RECD."""
    both = associated(node)
    both.open()
    both.server("SHUTDOWN")
    both.client("SHUTDOWN_ACK")
    both.server("SHUTDOWN_COMPLETE")
    both.client("DATA")


@scenario()
def first_chunks(node: Node) -> None:
    """Each kind of chunk as the first packet, with a tag and without: what starts an entry and what is INVALID."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    port = 1000
    for name in CHUNKS:
        for tag in (0, SERVER_TAG):
            Association(client, server, sport=port).client(name, tag=tag)
            port += 1


def _every(name: str, steps: tuple[tuple[str, str], ...], shows: str) -> None:
    """One scenario: an association brought to a state, then each kind of chunk from each side."""

    def body(node: Node) -> None:
        client, server = node.router()
        node.rules(COUNT_STATES)
        node.look_at_every_step = False
        port = 1000
        for side in ("client", "server"):
            for kind in CHUNKS:
                both = Association(client, server, sport=port)
                port += 1
                for whose, chunk in steps:
                    getattr(both, whose)(chunk)
                getattr(both, side)(kind)
        node.look()

    body.__name__ = f"every_chunk_{name}"
    body.__doc__ = shows
    scenario()(body)


_INIT = (("client", "INIT"),)
_ANSWERED = (*_INIT, ("server", "INIT_ACK"))
_ECHOED = (*_ANSWERED, ("client", "COOKIE_ECHO"))
_OPEN = (*_ECHOED, ("server", "COOKIE_ACK"))
_every("after_init", _INIT, "CLOSED after INIT: one chunk of each kind from each side.")
_every("in_cookie_wait", _ANSWERED, "COOKIE_WAIT: one chunk of each kind from each side.")
_every("in_cookie_echoed", _ECHOED, "COOKIE_ECHOED: one chunk of each kind from each side.")
_every("in_established", _OPEN, "ESTABLISHED: one chunk of each kind from each side.")
_every("in_shutdown_sent", (*_OPEN, ("client", "SHUTDOWN")), "SHUTDOWN_SENT: one chunk of each kind from each side.")
_every("in_shutdown_recd", (*_OPEN, ("server", "SHUTDOWN")), "SHUTDOWN_RECD: one chunk of each kind from each side.")
_every(
    "in_shutdown_ack_sent",
    (*_OPEN, ("client", "SHUTDOWN"), ("server", "SHUTDOWN_ACK")),
    "SHUTDOWN_ACK_SENT: one chunk of each kind from each side.",
)
_every("after_abort", (*_OPEN, ("client", "ABORT")), "CLOSED after ABORT: one chunk of each kind from each side.")
_every("after_a_heartbeat", (("client", "HEARTBEAT"),), "HEARTBEAT_SENT: one chunk of each kind from each side.")


@scenario()
def verification_tags(node: Node) -> None:
    """Wrong tags are INVALID; ABORT may bear either side's."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    port = 1000
    for side in ("client", "server"):
        for name in ("DATA", "SACK", "COOKIE_ECHO", "HEARTBEAT", "SHUTDOWN", "SHUTDOWN_ACK", "ERROR", "ABORT", "INIT"):
            for tag in (0, 1, CLIENT_TAG, SERVER_TAG):
                node.look_at_every_step = False
                both = Association(client, server, sport=port)
                port += 1
                both.open()
                getattr(both, side)(name, tag=tag)
    node.look()


@scenario()
def reflected_tags(node: Node) -> None:
    """The T bit: ABORT and SHUTDOWN_COMPLETE with the sender's own tag."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    port = 1000
    for chunk in (SCTPChunkAbort, SCTPChunkShutdownComplete):
        for field in (0, 1):
            for tag in (0, CLIENT_TAG, SERVER_TAG):
                both = Association(client, server, sport=port)
                port += 1
                both.open()
                both.client("SHUTDOWN")
                both.server("SHUTDOWN_ACK")
                made = chunk()
                made.TCB = field
                both.client(made, tag=tag)


@scenario()
def several_chunks(node: Node) -> None:
    """Bundles: COOKIE_ECHO with DATA; what must stand first or alone is INVALID elsewhere."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    both = Association(client, server)
    both.client("INIT")
    both.server("INIT_ACK")
    both.client("COOKIE_ECHO", "DATA")
    both.server("COOKIE_ACK", "SACK", "DATA")
    both.client("SACK", "SHUTDOWN")
    for number, chunks in enumerate(
        (
            ("DATA", "COOKIE_ECHO"),
            ("DATA", "COOKIE_ACK"),
            ("INIT", "DATA"),
            ("DATA", "INIT"),
            ("DATA", "SHUTDOWN_COMPLETE"),
            ("SHUTDOWN_COMPLETE", "DATA"),
            ("DATA", "ABORT"),
            ("ABORT", "DATA"),
            ("HEARTBEAT", "DATA"),
        ),
        1001,
    ):
        other = Association(client, server, sport=number)
        other.open()
        other.client(*chunks)
        if chunks[0] == "INIT":
            Association(client, server, sport=number + 100).client(*chunks)


@scenario()
def chunks_cut_short(node: Node) -> None:
    """No chunk at all, a chunk of length 0, lengths below 4 and beyond the packet, an INIT without its tag."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    for number, chunk in enumerate(
        (
            b"",
            b"\x01",
            b"\x01\x00\x00",
            b"\x01\x00\x00\x00",
            b"\x01\x00\x00\x04",
            b"\x01\x00\x00\x14" + bytes(3),
            b"\x01\x00\x01\x00" + bytes(16),
            b"\x01\x00\x00\x02" + bytes(16),
            b"\x01\x00\x00\x14" + bytes(16),
            b"\x01\x00\x00\x14\xaa\xbb\xcc\xdd" + bytes(12) + b"\xff",
        )
    ):
        client.send(SCTP(sport=1000 + number, dport=2000, tag=0) / Raw(chunk), to=server)
        client.send(SCTP(sport=1000 + number, dport=2000, tag=0) / Raw(chunk), to=server)


@scenario(families=(4, 6))
def wrong_checksum(node: Node) -> None:
    """A wrong CRC32c is INVALID, unless nf_conntrack_checksum is off."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    client.send(SCTP(sport=1000, dport=2000, tag=0, chksum=0xBAD) / CHUNKS["INIT"](), to=server)
    client.send(SCTP(sport=1001, dport=2000, tag=0) / CHUNKS["INIT"](), to=server)


@scenario()
def wrong_checksum_with_checking_off(node: Node) -> None:
    """nf_conntrack_checksum=0: a wrong CRC32c does not matter."""
    client, server = node.router()
    node.rules(COUNT_STATES)
    node.sysctl("net.netfilter.nf_conntrack_checksum = 0")
    client.send(SCTP(sport=1000, dport=2000, tag=0, chksum=0xBAD) / CHUNKS["INIT"](), to=server)


@scenario()
def heartbeats_of_a_second_path(node: Node) -> None:
    """Heartbeats between addresses that were not in the INIT: HEARTBEAT_SENT, then ESTABLISHED; tags are learnt."""
    both = associated(node)
    both.client("HEARTBEAT")
    both.server("HEARTBEAT_ACK")
    both.client("DATA")
    both.server("SACK")
    both.client("DATA", tag=5)
    both.client("HEARTBEAT", tag=6)
    both.server("HEARTBEAT", tag=7)


@scenario()
def restart_of_an_association(node: Node) -> None:
    """INIT in an open association, answered: the tags are those of the restart."""
    both = associated(node)
    both.open()
    both.client(SCTPChunkInit(init_tag=0x33333333), tag=0)
    both.server(SCTPChunkInitAck(init_tag=0x44444444), tag=0x33333333)
    both.client("COOKIE_ECHO", tag=0x44444444)
    both.server("COOKIE_ACK", tag=0x33333333)
    both.client("DATA", tag=0x44444444)
    both.client("DATA", tag=SERVER_TAG)


@scenario()
def inits_cross(node: Node) -> None:
    """Both sides send INIT at once."""
    both = associated(node)
    both.client("INIT")
    both.server(SCTPChunkInit(init_tag=SERVER_TAG), tag=0)
    both.client(SCTPChunkInitAck(init_tag=CLIENT_TAG), tag=SERVER_TAG)
    both.server(SCTPChunkInitAck(init_tag=SERVER_TAG), tag=CLIENT_TAG)
    both.client("COOKIE_ECHO")
    both.server("COOKIE_ACK")


@scenario()
def timeouts_by_sysctl(node: Node) -> None:
    """Each state has its sysctl."""
    both = associated(node)
    node.sysctl(
        "\n".join(
            f"net.netfilter.nf_conntrack_sctp_timeout_{name} = {100 + number}"
            for number, name in enumerate(
                (
                    "closed",
                    "cookie_wait",
                    "cookie_echoed",
                    "established",
                    "shutdown_sent",
                    "shutdown_recd",
                    "shutdown_ack_sent",
                    "heartbeat_sent",
                )
            )
        )
    )
    both.open()
    both.server("SHUTDOWN")
    both.client("SHUTDOWN_ACK")
    both.server("SHUTDOWN_COMPLETE")
    other = Association(both.near, both.far, sport=1001)
    other.open()
    other.client("SHUTDOWN")
    Association(both.near, both.far, sport=1002).client("HEARTBEAT")


@scenario(families=(4, 6))
def through_dnat(node: Node) -> None:
    """An association with a virtual address: ports, addresses and the whole CRC32c are written anew."""
    client, server = node.router()
    vip = "10.96.0.10" if node.family == 4 else "fd00:96::a"
    backend = server.ip if node.family == 4 else f"[{server.ip}]"
    node.rules(f"-t nat -A PREROUTING -d {vip} -p sctp --dport 2000 -j DNAT --to-destination {backend}:2001")
    both = Association(client, server, to=vip)
    request = both.client("INIT").only(server)
    assert (network(request).dst, request[SCTP].dport) == (server.ip, 2001)
    assert network(both.server("INIT_ACK").only(client)).src == vip
    both.client("COOKIE_ECHO")
    both.server("COOKIE_ACK")
    both.client("DATA")


@scenario(random="the port of the second client")
def masqueraded_with_a_port_that_is_taken(node: Node) -> None:
    """Two clients with one port behind the node's address: the second gets another."""
    from judge.choices import PORT

    client, server = node.router()
    second = node.peer("eth0", "10.0.1.3")
    node.rules("-t nat -A POSTROUTING -o eth1 -j MASQUERADE")
    Association(client, server, sport=1500).client("INIT")
    both = Association(second, server, sport=1500)
    moved = both.client("INIT").only(server)
    assert moved[SCTP].sport != 1500
    node.chose(PORT, moved[SCTP].sport)
    both.server("INIT_ACK").only(second)


@scenario(families=(4, 6))
def error_about_an_association(node: Node) -> None:
    """An ICMP error that quotes eight bytes of an SCTP packet through DNAT: the quoted port is translated back."""
    client, server = node.router()
    vip = "10.96.0.10" if node.family == 4 else "fd00:96::a"
    backend = server.ip if node.family == 4 else f"[{server.ip}]"
    node.rules(f"-t nat -A PREROUTING -d {vip} -p sctp --dport 2000 -j DNAT --to-destination {backend}:2001")
    both = Association(client, server, to=vip)
    request = both.client("INIT").only(server)
    server.complain("port unreachable", request).only(client)
    size = (20 if IP in request and IPv6 not in request else 40) + 12
    server.complain("host unreachable", request, quoted=size).only(client)
    server.complain("host unreachable", request, quoted=size + 20).only(client)
