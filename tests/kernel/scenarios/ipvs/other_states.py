"""States of UDP and SCTP connections."""

from typing import Any

from judge.balanced import PORT, balanced, plain
from judge.explore import explore
from judge.ipvs_node import IpvsNode
from judge.scenario import scenario
from judge.talk import Frames, reply
from scapy.layers.inet import UDP
from scapy.layers.sctp import (
    SCTP,
    SCTPChunkAbort,
    SCTPChunkCookieAck,
    SCTPChunkCookieEcho,
    SCTPChunkData,
    SCTPChunkError,
    SCTPChunkHeartbeatReq,
    SCTPChunkInit,
    SCTPChunkInitAck,
    SCTPChunkShutdown,
    SCTPChunkShutdownAck,
    SCTPChunkShutdownComplete,
)


@scenario(families=(4, 6))
def udp(node: IpvsNode) -> None:
    """A datagram, its answer; 300 s after the last of either side the connection is gone."""
    web = balanced(node, protocol="udp")
    frames = web.first(40000)
    (request,) = frames.at("eth1")
    server = web.servers[web.number(frames)]
    server.send(reply(request, b"answer")).only(web.client)
    node.wait(250)
    server.send(reply(request, b"late answer")).only(web.client)
    node.wait(250)
    node.wait(100)
    server.send(reply(request, b"too late"))


@scenario()
def udp_with_another_timeout(node: IpvsNode) -> None:
    """`ipvsadm --set` gives UDP another time."""
    web = balanced(node, protocol="udp")
    node.ipvs_timeouts(0, 0, 60)
    web.picks(2)
    node.wait(45)
    web.picks([40000])
    node.wait(30)


@scenario(families=(4, 6))
def udp_without_checksum(node: IpvsNode) -> None:
    """A datagram without checksum, and one whose checksum is wrong."""
    web = balanced(node, protocol="udp")
    web.client.send(UDP(sport=40000, dport=PORT, chksum=0) / b"query", to=web.vip)
    web.client.send(UDP(sport=40000, dport=PORT, chksum=0x1234) / b"query", to=web.vip)


@scenario()
def udp_whose_checksum_becomes_0(node: IpvsNode) -> None:
    """Where the sum after translation is 0, 0xffff is sent: every value of two bytes is tried around it."""
    web = balanced(node, weights=(1,), protocol="udp")
    for value in range(0, 0x10000, 0x1357):
        web.client.send(UDP(sport=40000, dport=PORT) / value.to_bytes(2, "big"), to=web.vip)


class Association:
    """Chunks of a client and of whichever server it has."""

    def __init__(self, node: IpvsNode, sport: int = 40000) -> None:
        self.web = balanced(node, protocol="sctp", weights=(1, 1))
        self.sport = sport
        self.server_peer: Any = None
        self.seen: Any = None

    def client(self, chunk: Any, tag: int = 2) -> Frames:
        frames = self.web.client.send(SCTP(sport=self.sport, dport=PORT, tag=tag) / chunk, to=self.web.vip)
        if number := self.web.number(frames):
            self.server_peer = self.web.servers[number]
            self.seen = frames.at(self.server_peer)[-1]
        return frames

    def server(self, chunk: Any, tag: int = 1) -> Frames:
        return self.server_peer.send(reply(self.seen, chunk, tag=tag))

    def open(self) -> None:
        self.client(SCTPChunkInit(init_tag=1), tag=0)
        self.server(SCTPChunkInitAck(init_tag=2))
        self.client(SCTPChunkCookieEcho(cookie=b"oath"))
        self.server(SCTPChunkCookieAck())


@scenario(families=(4, 6))
def sctp(node: IpvsNode) -> None:
    """INIT to SHUTDOWN COMPLETE, the client closing."""
    talk = Association(node)
    talk.open()
    talk.client(SCTPChunkData(data=b"query"))
    talk.server(SCTPChunkData(data=b"answer!!"))
    talk.client(SCTPChunkShutdown())
    talk.server(SCTPChunkShutdownAck())
    talk.client(SCTPChunkShutdownComplete())


@scenario()
def sctp_server_closes(node: IpvsNode) -> None:
    """The server's SHUTDOWN."""
    talk = Association(node)
    talk.open()
    talk.server(SCTPChunkShutdown())
    talk.client(SCTPChunkShutdownAck())
    talk.server(SCTPChunkShutdownComplete())


@scenario()
def sctp_aborts(node: IpvsNode) -> None:
    """ABORT of either side."""
    talk = Association(node)
    talk.open()
    talk.server(SCTPChunkAbort())
    talk.client(SCTPChunkAbort())


@scenario()
def sctp_without_init(node: IpvsNode) -> None:
    """Chunks without connection: only INIT makes one."""
    talk = Association(node)
    talk.client(SCTPChunkData(data=b"query"))
    talk.client(SCTPChunkAbort())
    talk.client(SCTPChunkCookieEcho(cookie=b"oath"))


@scenario()
def sctp_timeouts(node: IpvsNode) -> None:
    """How long the states live."""
    talk = Association(node)
    talk.client(SCTPChunkInit(init_tag=1), tag=0)
    talk.server(SCTPChunkInitAck(init_tag=2))
    node.wait(1)
    talk.client(SCTPChunkCookieEcho(cookie=b"oath"))
    node.wait(1)
    talk.server(SCTPChunkCookieAck())
    node.wait(700)
    talk.client(SCTPChunkShutdown())
    node.wait(200)


@scenario()
def sctp_bad_checksum(node: IpvsNode) -> None:
    """A wrong CRC32c."""
    talk = Association(node)
    packet = SCTP(sport=40000, dport=PORT, tag=0, chksum=0x12345678) / SCTPChunkInit(init_tag=1)
    talk.web.client.send(packet, to=talk.web.vip)


CHUNKS = (
    SCTPChunkData(data=b"data"),
    SCTPChunkInit(init_tag=1),
    SCTPChunkInitAck(init_tag=2),
    SCTPChunkCookieEcho(cookie=b"oath"),
    SCTPChunkCookieAck(),
    SCTPChunkShutdown(),
    SCTPChunkShutdownAck(),
    SCTPChunkShutdownComplete(),
    SCTPChunkError(),
    SCTPChunkAbort(),
    SCTPChunkHeartbeatReq(),
)


@scenario(masks=("time left",))
def sctp_every_chunk_in_every_state(node: IpvsNode) -> None:
    """Chunks of both sides, whatever they are and whenever they come."""
    talk = Association(node)

    def send(sport: int, side: int, chunk: int) -> None:
        talk.sport = sport
        if side:
            talk.server(CHUNKS[chunk])
        else:
            talk.client(CHUNKS[chunk])

    explore(node, send, 2, len(CHUNKS), 1)


@scenario(masks=("time left",))
def sctp_every_chunk_of_a_client(node: IpvsNode) -> None:
    """Direct routing, where the balancer sees the client alone; sloppy_sctp, where any chunk may come first."""
    web = plain(node, "sctp", 2)
    lines = [f"-A {web.service} -s rr"]
    node.ipvs("\n".join(lines + [web.server(number, "-g", port=PORT) for number in web.servers]))
    node.sysctl("net.ipv4.vs.sloppy_sctp = 1")

    def send(sport: int, side: int, chunk: int) -> None:
        web.client.send(SCTP(sport=sport, dport=PORT, tag=2) / CHUNKS[chunk], to=web.vip)

    for chunk in range(len(CHUNKS)):
        send(41000 + chunk, 0, chunk)
    explore(node, send, 1, len(CHUNKS), 1)


@scenario(masks=("time left",))
def sctp_any_chunk_first(node: IpvsNode) -> None:
    """sloppy_sctp: whatever comes first, and what follows from there."""
    talk = Association(node)
    node.sysctl("net.ipv4.vs.sloppy_sctp = 1")
    for chunk in range(len(CHUNKS)):
        talk.sport = 41000 + chunk
        talk.client(CHUNKS[chunk])
        for following in (2, 3, 6, 7):
            talk.client(CHUNKS[following])
