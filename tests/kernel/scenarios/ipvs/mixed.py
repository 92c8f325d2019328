"""Everything at once, drawn at random: clients, servers, errors about them, changes of servers and settings."""

from random import Random

from judge.balanced import PORT, TARGET, Balancer, plain
from judge.ipvs_node import IpvsNode
from judge.scenario import scenario
from judge.talk import icmp_error, network
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.sctp import SCTP, SCTPChunkAbort, SCTPChunkCookieAck, SCTPChunkData, SCTPChunkInit, SCTPChunkInitAck
from scapy.packet import Packet

PORTS = (40000, 40001, 40002, 40003)
TCP_FLAGS = ("S", "S", "S", "A", "PA", "FA", "R", "SA")
CHUNKS = (
    SCTPChunkInit(init_tag=1),
    SCTPChunkInitAck(init_tag=2),
    SCTPChunkCookieAck(),
    SCTPChunkData(data=b"data"),
    SCTPChunkAbort(),
)
SCHEDULERS = ("rr", "wrr", "lc", "wlc", "sed", "nq", "sh", "dh", "fo", "ovf", "lblc", "lblcr", "mh")
SETTINGS = (
    "conn_reuse_mode",
    "expire_nodest_conn",
    "expire_quiescent_template",
    "nat_icmp_send",
    "schedule_icmp",
    "sloppy_tcp",
    "sloppy_sctp",
)


class Mixed:
    """One address with a service of each protocol, and whoever talks to them."""

    def __init__(self, node: IpvsNode, seed: int, way: str) -> None:
        self.node, self.draw, self.way = node, Random(seed), way
        self.webs = [plain(node, "tcp", 4)]
        first = self.webs[0]
        self.webs += [Balancer(node, protocol, first.client, first.servers, first.vip) for protocol in ("udp", "sctp")]
        self.port = TARGET if way == "-m" else PORT
        self.there: dict[str, set[int]] = {web.protocol: {2, 3, 4} for web in self.webs}
        self.clients = [first.client, node.peer("eth0", "10.0.1.7" if node.family == 4 else "fd00:1::7")]
        self.router = node.peer("eth1", "10.0.2.99" if node.family == 4 else "fd00:2::99")
        self.seen: list[Packet] = []
        self.answered: list[Packet] = []
        lines = []
        for web in self.webs:
            persistent = self.draw.choice(("", "", "-p 600"))
            lines.append(f"-A {web.service} -s {self.draw.choice(SCHEDULERS)} {persistent}")
            lines += [web.server(number, f"{way} -w {self.draw.randint(1, 3)}", port=self.port) for number in (2, 3, 4)]
        node.ipvs("\n".join(lines))

    def keep(self, frames) -> None:
        self.seen = [*self.seen, *frames.at("eth1")][-20:]
        self.answered = [*self.answered, *frames.at("eth0")][-20:]

    def request(self) -> None:
        web, client = self.draw.choice(self.webs), self.draw.choice(self.clients)
        ports = {"sport": self.draw.choice(PORTS), "dport": PORT}
        if web.protocol == "tcp":
            packet: Packet = TCP(**ports, flags=self.draw.choice(TCP_FLAGS), seq=1000, ack=1)
        elif web.protocol == "udp":
            packet = UDP(**ports) / bytes(self.draw.randint(0, 40))
        else:
            packet = SCTP(**ports, tag=3) / self.draw.choice(CHUNKS)
        self.keep(client.send(packet, to=web.vip, ttl=self.draw.choice((64, 64, 64, 1))))

    def answer(self) -> None:
        ends = [packet for packet in self.seen if any(layer in packet for layer in (TCP, UDP, SCTP))]
        if not ends or self.way == "-i":
            return
        request = self.draw.choice(ends)
        for layer in (TCP, UDP, SCTP):
            if layer in request and not request.haslayer("ICMP"):
                ports = {"sport": request[layer].dport, "dport": request[layer].sport}
                packet: Packet = UDP(**ports) / bytes(self.draw.randint(0, 40))
                if layer is TCP:
                    packet = TCP(**ports, flags=self.draw.choice(("SA", "A", "PA", "FA", "R")), seq=5000, ack=1001)
                elif layer is SCTP:
                    packet = SCTP(**ports, tag=3) / self.draw.choice(CHUNKS)
                ip = network(request)
                sender = next((peer for peer in self.webs[0].servers.values() if peer.ip == ip.dst), None)
                if sender is not None:
                    self.keep(sender.send(packet, to=ip.src))
                return

    def error(self) -> None:
        what = self.draw.choice(("port unreachable", "host unreachable", "time exceeded", "too big"))
        quoted = self.draw.choice((0, 0, 60))
        if self.seen and self.draw.random() < 0.5:
            about = network(self.draw.choice(self.seen))
            if self.way == "-m":
                self.keep(self.router.send(icmp_error(what, about, 1400, quoted), to=about.src))
            return
        if self.answered:
            about = network(self.draw.choice(self.answered))
            self.keep(self.clients[0].send(icmp_error(what, about, 1400, quoted), to=about.src))
            return
        ip = IP if self.node.family == 4 else IPv6
        about = (
            ip(src=self.webs[0].vip, dst=self.clients[0].ip)
            / UDP(sport=PORT, dport=self.draw.choice(PORTS))
            / b"answer"
        )
        self.keep(self.clients[0].send(icmp_error(what, about, 1400), to=about.src))

    def change(self) -> None:
        web = self.draw.choice(self.webs)
        there = self.there[web.protocol]
        number = self.draw.choice((2, 3, 4, 5))
        if number in there and self.draw.random() < 0.5:
            there.discard(number)
            self.node.ipvs_change(web.server(number, verb="-d", port=self.port))
            return
        verb = "-e" if number in there else "-a"
        there.add(number)
        upper = self.draw.choice(("", "", "-x 3", "-x 4 -y 2"))
        options = f"{self.way} -w {self.draw.choice((0, 1, 1, 2, 3))} {upper}"
        self.node.ipvs_change(web.server(number, options, verb, port=self.port))

    def setting(self) -> None:
        self.node.sysctl_change(f"net.ipv4.vs.{self.draw.choice(SETTINGS)}", self.draw.choice((0, 1)))

    def go(self, steps: int) -> None:
        doings = (self.request, self.answer, self.error, self.change, self.setting)
        for turn in range(steps):
            self.draw.choices(doings, (10, 6, 3, 2, 1))[0]()
            if turn % 40 == 39:
                self.node.wait(3000)


@scenario(families=(4, 6), masks=("time left", "ip id", "flow label"))
def masquerading(node: IpvsNode) -> None:
    """Masquerading."""
    Mixed(node, 1, "-m").go(100)


@scenario(families=(4, 6), masks=("time left", "ip id", "flow label"))
def masquerading_and_conntrack(node: IpvsNode) -> None:
    """Masquerading with conntrack=1, and rules that look at connections."""
    mixed = Mixed(node, 2, "-m")
    node.sysctl("net.ipv4.vs.conntrack = 1")
    for chain in ("INPUT", "FORWARD", "OUTPUT"):
        for state in ("NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED"):
            node.rules(f"-A {chain} -m conntrack --ctstate {state}")
    mixed.go(100)


@scenario(families=(4, 6), masks=("time left", "ip id", "flow label"))
def direct(node: IpvsNode) -> None:
    """Direct routing."""
    Mixed(node, 3, "-g").go(80)
