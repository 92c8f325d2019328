"""Makes the samples: a small shop on three nodes, and what its clients recorded.

    python pcaps/make.py [FOLDER]

boutique.yaml   the cluster, as `kubectl get -o yaml` would print it: three nodes, both address families
boutique.pcap   recorded where the clients are (their own address -> the Service's, and back), nanosecond timestamps
office.pcap     recorded elsewhere, by people who browse a web site: its addresses exist in no cluster (see --map)

The same bytes at every run: one seed, no clock, and nothing that depends on the order of a set.
"""

import random
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import yaml
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

SEED = 2025
MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000
START = 1_748_854_800 * SECOND  # 2025-06-02 09:00:00 UTC

# -- the cluster -----------------------------------------------------------------------------------------------

NODES = ("node-1", "node-2", "node-3")
EXTERNAL = "203.0.113.50"
EXTERNAL6 = "2001:db8:50::50"
PAYMENT_API = "198.51.100.80"


def node_address(name: str, family: int = 4) -> str:
    number = NODES.index(name) + 1
    return f"192.168.1.{10 + number}" if family == 4 else f"fd00:192:168:1::{10 + number}"


@dataclass(frozen=True)
class Pod:
    name: str
    node: str
    number: int  # within the node's podCIDR; .1 is the bridge
    port: tuple[str, int]
    namespace: str = "default"
    ready: bool = True

    @property
    def app(self) -> str:
        return self.name.rsplit("-", 2)[0]

    def address(self, family: int = 4) -> str:
        index = NODES.index(self.node) + 1
        return f"10.244.{index}.{self.number}" if family == 4 else f"fd00:10:244:{index}::{self.number:x}"


PODS = (
    Pod("coredns-7c65d6cfc9-2xkq8", "node-1", 2, ("dns", 53), "kube-system"),
    Pod("coredns-7c65d6cfc9-w9mzt", "node-2", 2, ("dns", 53), "kube-system"),
    Pod("frontend-6d8f7b9c5d-4tqkz", "node-1", 3, ("http", 8080)),
    Pod("frontend-6d8f7b9c5d-g7vlp", "node-2", 3, ("http", 8080)),
    Pod("frontend-6d8f7b9c5d-xs2nd", "node-3", 2, ("http", 8080)),
    Pod("cart-5b9d7c6f4-8hzwm", "node-2", 4, ("grpc", 7070)),
    Pod("cart-5b9d7c6f4-rk6dj", "node-3", 3, ("grpc", 7070)),
    Pod("checkout-66c9f8d7b-5fkxs", "node-1", 4, ("grpc", 5050)),
    Pod("checkout-66c9f8d7b-q2vbn", "node-3", 4, ("grpc", 5050)),
    Pod("catalog-7f4c8b6d9-6ptlh", "node-1", 5, ("grpc", 3550)),
    Pod("catalog-7f4c8b6d9-c4wrx", "node-2", 5, ("grpc", 3550)),
    Pod("catalog-7f4c8b6d9-zk8mv", "node-3", 5, ("grpc", 3550), ready=False),
    Pod("redis-58bd6c5f7-n5jql", "node-2", 6, ("redis", 6379)),
)


def pod(app: str, node: str = "") -> Pod:
    return next(item for item in PODS if item.app == app and node in ("", item.node))


# namespace, name, type, stated addresses, (name, port, target, protocol, node port), further fields of the spec
Port = tuple[str, int, int | str, str, int]
SERVICES: tuple[tuple[str, str, str, tuple[str, ...], tuple[Port, ...], dict[str, Any]], ...] = (
    (
        "kube-system",
        "kube-dns",
        "ClusterIP",
        ("10.96.0.10",),
        (("dns", 53, 53, "UDP", 0), ("dns-tcp", 53, 53, "TCP", 0)),
        {},
    ),
    (
        "default",
        "frontend",
        "NodePort",
        ("10.96.0.20", "fd00:10:96::20"),
        (("http", 80, "http", "TCP", 30080),),
        {},
    ),
    (
        "default",
        "cart",
        "ClusterIP",
        ("10.96.0.21",),
        (("grpc", 7070, "grpc", "TCP", 0),),
        {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}},
    ),
    ("default", "checkout", "ClusterIP", ("10.96.0.22",), (("grpc", 5050, "grpc", "TCP", 0),), {}),
    ("default", "redis", "ClusterIP", ("10.96.0.23",), (("redis", 6379, 6379, "TCP", 0),), {}),
    (
        "default",
        "catalog",
        "ClusterIP",
        ("10.96.0.24", "fd00:10:96::24"),
        (("grpc", 3550, "grpc", "TCP", 0),),
        {},
    ),
    ("default", "recommendation", "ClusterIP", ("10.96.0.25",), (("grpc", 8080, 8080, "TCP", 0),), {}),
    ("default", "payment", "ClusterIP", ("10.96.0.26",), (("grpc", 50051, 50051, "TCP", 0),), {}),
)
SELECTORS = {"kube-dns": "coredns"}
ADDRESS = {name: addresses for _, name, _, addresses, _, _ in SERVICES}


def node_object(name: str) -> dict[str, Any]:
    number = NODES.index(name) + 1
    cidrs = [f"10.244.{number}.0/24", f"fd00:10:244:{number}::/64"]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"},
            "annotations": {
                "flannel.alpha.coreos.com/backend-type": "vxlan",
                "flannel.alpha.coreos.com/backend-data": f'{{"VNI":1,"VtepMAC":"ba:11:ca:7e:00:0{number}"}}',
                "flannel.alpha.coreos.com/backend-v6-data": f'{{"VNI":1,"VtepMAC":"ba:11:ca:7e:06:0{number}"}}',
                "flannel.alpha.coreos.com/public-ip": node_address(name),
                "flannel.alpha.coreos.com/public-ipv6": node_address(name, 6),
                "flannel.alpha.coreos.com/kube-subnet-manager": "true",
            },
        },
        "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": node_address(name)},
                {"type": "InternalIP", "address": node_address(name, 6)},
                {"type": "Hostname", "address": name},
            ],
            "conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {
                "architecture": "amd64",
                "bootID": "",
                "containerRuntimeVersion": "containerd://2.1.1",
                "kernelVersion": "6.1.0-37-amd64",
                "kubeProxyVersion": "",
                "kubeletVersion": "v1.33.1",
                "machineID": "",
                "operatingSystem": "linux",
                "osImage": "Debian GNU/Linux 12 (bookworm)",
                "systemUUID": "",
            },
        },
    }


def pod_object(item: Pod) -> dict[str, Any]:
    port_name, port = item.port
    ports = [{"name": port_name, "containerPort": port}]
    if item.app == "coredns":
        ports = [{"name": "dns", "containerPort": 53, "protocol": "UDP"}, {"name": "dns-tcp", "containerPort": 53}]
    addresses = [item.address(), item.address(6)]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": item.name,
            "namespace": item.namespace,
            "labels": {"app": item.app, "pod-template-hash": item.name.rsplit("-", 2)[1]},
        },
        "spec": {"nodeName": item.node, "containers": [{"name": item.app, "image": f"{item.app}:1.4", "ports": ports}]},
        "status": {
            "phase": "Running",
            "podIP": addresses[0],
            "podIPs": [{"ip": address} for address in addresses],
            "hostIP": node_address(item.node),
            "conditions": [{"type": "Ready", "status": "True" if item.ready else "False"}],
            "containerStatuses": [
                {
                    "name": item.app,
                    "image": f"{item.app}:1.4",
                    "imageID": "",
                    "ready": item.ready,
                    "restartCount": 0,
                    "state": {"running": {}},
                }
            ],
        },
    }


def service_object(
    namespace: str, name: str, kind: str, addresses: Sequence[str], ports: Iterable[Port], further: dict[str, Any]
) -> dict[str, Any]:
    listed = []
    for port_name, port, target, protocol, node_port in ports:
        item = {"name": port_name, "port": port, "targetPort": target, "protocol": protocol}
        listed.append(item | ({"nodePort": node_port} if node_port else {}))
    families = [f"IPv{ip_address(address).version}" for address in addresses]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "type": kind,
            "selector": {"app": SELECTORS.get(name, name)},
            "clusterIP": addresses[0],
            "clusterIPs": list(addresses),
            "ipFamilies": families,
            "ipFamilyPolicy": "SingleStack" if len(families) == 1 else "RequireDualStack",
            "ports": listed,
            **further,
        },
    }


def api_server() -> list[dict[str, Any]]:
    """The API server has no selector: it says itself where it is, on the network of the first node."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kubernetes", "namespace": "default"},
            "spec": {
                "type": "ClusterIP",
                "clusterIP": "10.96.0.1",
                "clusterIPs": ["10.96.0.1"],
                "ipFamilies": ["IPv4"],
                "ipFamilyPolicy": "SingleStack",
                "ports": [{"name": "https", "port": 443, "targetPort": 6443, "protocol": "TCP"}],
            },
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": "kubernetes"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": [node_address("node-1")], "conditions": {"ready": True}}],
            "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}],
        },
    ]


def recommendation() -> dict[str, Any]:
    """Stated as it was applied: the cluster must make its pods, place them and give them addresses."""
    labels = {"app": "recommendation"}
    container = {"name": "recommendation", "image": "recommendation:1.4", "ports": [{"containerPort": 8080}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "recommendation", "namespace": "default"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def cluster_yaml() -> str:
    documents: list[dict[str, Any]] = [
        *({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in ("default", "kube-system")),
        *(node_object(name) for name in NODES),
        *api_server(),
        *(service_object(*item) for item in SERVICES),
        *(pod_object(item) for item in PODS),
        recommendation(),
    ]
    text = yaml.safe_dump_all(documents, sort_keys=False, width=120)
    return f"# A small shop on three nodes, made by make.py. Deployment recommendation waits for its pods.\n---\n{text}"


# -- the traffic -----------------------------------------------------------------------------------------------


@dataclass
class Recording:
    """Frames with the time of each, as the client's own interface saw them."""

    chance: random.Random
    frames: list[tuple[int, bytes]] = field(default_factory=list)

    def add(self, time: int, packet: Packet) -> None:
        self.frames.append((time, bytes(packet)))

    def pcap(self) -> bytes:
        """The file: nanosecond magic, Ethernet, in order of time."""
        parts = [struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1)]
        for time, frame in sorted(self.frames, key=lambda item: item[0]):
            parts.append(struct.pack("<IIII", time // SECOND, time % SECOND, len(frame), len(frame)) + frame)
        return b"".join(parts)


def mac(address: str) -> str:
    """As CNI plugins name interfaces by the pod's address: 0a:58 and its last four bytes."""
    return "0a:58:" + ":".join(f"{byte:02x}" for byte in ip_address(address).packed[-4:])


class Pair:
    """One client and the address it talks to: both directions' link and network headers."""

    def __init__(self, recording: Recording, client: str, server: str, gateway: str, hops: int = 2) -> None:
        self.chance = recording.chance
        self.version = ip_address(client).version
        self.client, self.server = client, server
        self.link = {True: (mac(client), mac(gateway)), False: (mac(gateway), mac(client))}
        self.ttl = {True: 64, False: 64 - hops}
        self.identity = {True: self.chance.randrange(65536), False: self.chance.randrange(65536)}
        self.flow_label = self.chance.randrange(1 << 20)

    def packet(self, outward: bool, upper: Packet) -> Packet:
        source, destination = (self.client, self.server) if outward else (self.server, self.client)
        hardware, beyond = self.link[outward]
        if self.version == 6:
            network = IPv6(src=source, dst=destination, hlim=self.ttl[outward], fl=self.flow_label)
            return Ether(src=hardware, dst=beyond) / network / upper
        self.identity[outward] = (self.identity[outward] + 1) & 0xFFFF
        identity = self.identity[outward]
        network = IP(src=source, dst=destination, ttl=self.ttl[outward], id=identity, flags="DF")
        return Ether(src=hardware, dst=beyond) / network / upper


class Conversation:
    """A TCP conversation from the first SYN to the last ACK, each segment built as Linux would send it."""

    def __init__(
        self, recording: Recording, path: Pair, ports: tuple[int, int], time: int, round_trip: int, wide: bool
    ) -> None:
        self.recording, self.path, self.time, self.round_trip = recording, path, time, round_trip
        self.ports = {True: ports, False: ports[::-1]}
        self.next = {True: recording.chance.randrange(1 << 32), False: recording.chance.randrange(1 << 32)}
        self.clock = {True: recording.chance.randrange(1 << 31), False: recording.chance.randrange(1 << 31)}
        self.echo = {True: 0, False: 0}
        header = 40 if path.version == 4 else 60
        # A pod's interface leaves room for VXLAN; whoever is outside speaks of 1500, and is answered with less.
        self.announced = {True: (1500 if wide else 1450) - header, False: 1450 - header}
        # VXLAN takes 50 bytes of 1500 over IPv4 and 70 over IPv6, which the senders have learnt before.
        self.segment = (1450 if path.version == 4 else 1430) - header - 12

    def send(self, outward: bool, flags: str, data: bytes = b"") -> None:
        source, destination = self.ports[outward]
        stamp = (self.clock[outward] + (self.time - START) // MILLISECOND) & 0xFFFFFFFF
        options: list[tuple[str, Any]] = [("NOP", None), ("NOP", None), ("Timestamp", (stamp, self.echo[outward]))]
        window = 502
        if "S" in flags:
            window = 64240 if outward else 65160
            options = [
                ("MSS", self.announced[outward]),
                ("SAckOK", b""),
                ("Timestamp", (stamp, self.echo[outward])),
                ("NOP", None),
                ("WScale", 7),
            ]
        acknowledged = self.next[not outward] if "A" in flags else 0
        segment = TCP(
            sport=source,
            dport=destination,
            seq=self.next[outward],
            ack=acknowledged,
            flags=flags,
            window=window,
            options=options,
        )
        self.recording.add(self.time, self.path.packet(outward, segment / Raw(data) if data else segment))
        self.echo[not outward] = stamp
        self.next[outward] = (self.next[outward] + len(data) + ("S" in flags or "F" in flags)) & 0xFFFFFFFF

    def wait(self, nanoseconds: int) -> None:
        self.time += nanoseconds + self.recording.chance.randrange(nanoseconds // 4 + 1)

    def open(self) -> None:
        self.send(True, "S")
        self.wait(self.round_trip)
        self.send(False, "SA")
        self.wait(20 * MICROSECOND)
        self.send(True, "A")

    def say(self, outward: bool, data: bytes) -> None:
        """The data in segments; the other side acknowledges every second one, and the last."""
        pieces = [data[at : at + self.segment] for at in range(0, len(data), self.segment)]
        for number, piece in enumerate(pieces, 1):
            self.wait(12 * MICROSECOND)
            self.send(outward, "PA" if number == len(pieces) else "A", piece)
            if number % 2 == 0 or number == len(pieces):
                self.wait(self.round_trip if outward else 8 * MICROSECOND)
                self.send(not outward, "A")

    def exchange(self, request: bytes, reply: bytes) -> None:
        self.say(True, request)
        self.wait(2 * self.round_trip)
        self.say(False, reply)

    def close(self) -> None:
        self.wait(100 * MICROSECOND)
        self.send(True, "FA")
        self.wait(self.round_trip)
        self.send(False, "FA")
        self.wait(10 * MICROSECOND)
        self.send(True, "A")

    def reset(self) -> None:
        self.wait(100 * MICROSECOND)
        self.send(True, "RA")


def http(host: str, path: str, length: int, chance: random.Random) -> tuple[bytes, bytes]:
    body = words(chance, length)
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n"
    reply = f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
    return request.encode(), reply.encode() + body


def words(chance: random.Random, length: int) -> bytes:
    vocabulary = b"mug lamp chair candle watch glass bamboo salt loafer tank price size colour blue green shop".split()
    text = b" ".join(chance.choice(vocabulary) for _ in range(length // 4 + 1))
    return text[:length]


class Shop:
    """Who talks to whom. Each method is one kind of path that a cluster has."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.chance = recording.chance
        self.ports: dict[str, int] = {}

    def port(self, client: str) -> int:
        """The client's next port; Linux steps by two from a start that it draws."""
        last = self.ports.get(client) or 32768 + 2 * self.chance.randrange(10_000)
        self.ports[client] = last + 2
        return last + 2

    def tcp(
        self, at: int, client: str, server: str, port: int, exchanges: Sequence[tuple[bytes, bytes]], end: str = "close"
    ) -> None:
        external = client in (EXTERNAL, EXTERNAL6)
        path = Pair(self.recording, client, server, gateway_of(client), hops=4 if external else 2)
        round_trip = (9 * MILLISECOND if external else 180 * MICROSECOND) + self.chance.randrange(80 * MICROSECOND)
        talk = Conversation(self.recording, path, (self.port(client), port), START + at, round_trip, wide=external)
        talk.open()
        for request, reply in exchanges:
            talk.exchange(request, reply)
        if end == "close":
            talk.close()
        elif end == "reset":
            talk.reset()

    def refused(self, at: int, client: str, server: str, port: int) -> None:
        """Three attempts that nobody answers."""
        path = Pair(self.recording, client, server, gateway_of(client))
        talk = Conversation(self.recording, path, (self.port(client), port), START + at, SECOND, wide=False)
        first = talk.next[True]
        for pause in (SECOND, 2 * SECOND, 0):
            talk.next[True] = first
            talk.send(True, "S")
            talk.time += pause

    def dns(self, at: int, client: str, name: str, kind: str, answer: str | None) -> None:
        path = Pair(self.recording, client, ADDRESS["kube-dns"][0], gateway_of(client))
        port, identity = 32768 + self.chance.randrange(28232), self.chance.randrange(65536)
        query = DNS(id=identity, rd=1, qd=[DNSQR(qname=name, qtype=kind)])
        question = [DNSQR(qname=name, qtype=kind)]
        answers = [DNSRR(rrname=name, type=kind, ttl=5, rdata=answer)] if answer else []
        reply = DNS(id=identity, qr=1, aa=1, rd=1, rcode=0 if answer else 3, qd=question, an=answers)
        self.recording.add(START + at, path.packet(True, UDP(sport=port, dport=53) / query))
        later = START + at + 400 * MICROSECOND + self.chance.randrange(200 * MICROSECOND)
        self.recording.add(later, path.packet(False, UDP(sport=53, dport=port) / reply))

    def dns_over_tcp(self, at: int, client: str, name: str) -> None:
        """A query whose answer did not fit into a datagram is asked again over TCP, behind its length."""
        query = bytes(DNS(id=77, rd=1, qd=[DNSQR(qname=name, qtype="TXT")]))
        text = [DNSRR(rrname=name, type="TXT", ttl=5, rdata=[words(self.chance, 200)]) for _ in range(8)]
        reply = bytes(DNS(id=77, qr=1, aa=1, rd=1, qd=[DNSQR(qname=name, qtype="TXT")], an=text))
        framed = [(struct.pack("!H", len(query)) + query, struct.pack("!H", len(reply)) + reply)]
        self.tcp(at, client, ADDRESS["kube-dns"][0], 53, framed)

    def ping(self, at: int, client: str, server: str, count: int = 4, hops: int = 2) -> None:
        path = Pair(self.recording, client, server, gateway_of(client), hops)
        identity = self.chance.randrange(65536)
        request: Callable[..., Packet] = ICMP if path.version == 4 else ICMPv6EchoRequest
        reply: Callable[..., Packet] = ICMP if path.version == 4 else ICMPv6EchoReply
        kinds = ({"type": 8}, {"type": 0}) if path.version == 4 else ({}, {})
        payload = bytes(range(16, 64))
        for number in range(1, count + 1):
            time = START + at + (number - 1) * SECOND
            ask = request(id=identity, seq=number, **kinds[0])
            answer = reply(id=identity, seq=number, **kinds[1])
            if path.version == 4:
                ask, answer = ask / Raw(payload), answer / Raw(payload)
            else:
                ask.data = answer.data = payload
            self.recording.add(time, path.packet(True, ask))
            later = time + 300 * MICROSECOND + self.chance.randrange(100 * MICROSECOND)
            self.recording.add(later, path.packet(False, answer))

    def noise(self, at: int) -> None:
        """What a recording on a wire always holds, too: a question for an address, and a damaged datagram."""
        client, gateway = pod("frontend", "node-1").address(), "10.244.1.1"
        ask = ARP(op=1, hwsrc=mac(client), psrc=client, pdst=gateway)
        self.recording.add(START + at, Ether(src=mac(client), dst="ff:ff:ff:ff:ff:ff") / ask)
        answer = ARP(op=2, hwsrc=mac(gateway), psrc=gateway, hwdst=mac(client), pdst=client)
        self.recording.add(START + at + 30 * MICROSECOND, Ether(src=mac(gateway), dst=mac(client)) / answer)
        path = Pair(self.recording, client, ADDRESS["kube-dns"][0], gateway)
        query = DNS(id=4711, rd=1, qd=[DNSQR(qname="catalog.default.svc.cluster.local", qtype="A")])
        self.recording.add(
            START + at + MILLISECOND, path.packet(True, UDP(sport=40404, dport=53, chksum=0xBAD) / query)
        )


def gateway_of(client: str) -> str:
    """The next hop's address, only to name its hardware: the bridge of the pod's node, or a router outside."""
    for item in PODS:
        if client in (item.address(), item.address(6)):
            return f"10.244.{NODES.index(item.node) + 1}.1"
    return "203.0.113.1"


def boutique() -> Recording:
    recording = Recording(random.Random(SEED))
    chance, shop = recording.chance, Shop(recording)
    frontends = [item for item in PODS if item.app == "frontend"]
    zone = "default.svc.cluster.local"

    # Customers: through each node's port in turn, and by the second family.
    for number in range(12):
        request = http("shop.example.com", f"/product/{number}", 600 + chance.randrange(6000), chance)
        shop.tcp(number * 350 * MILLISECOND, EXTERNAL, node_address(NODES[number % 3]), 30080, [request])
    for number in range(4):
        request = http("shop.example.com", f"/cart/{number}", 900 + chance.randrange(2000), chance)
        shop.tcp(
            number * 800 * MILLISECOND + 90 * MILLISECOND,
            EXTERNAL6,
            node_address(NODES[number % 3], 6),
            30080,
            [request],
        )

    # Each page asks the shop's other services by name.
    for number in range(15):
        at, client = number * 260 * MILLISECOND + 40 * MILLISECOND, frontends[number % 3]
        for name in ("catalog", "cart", "checkout", "recommendation"):
            address = ADDRESS[name][0]
            shop.dns(at, client.address(), f"{name}.{zone}", "A", address)
            shop.dns(at + 50 * MICROSECOND, client.address(), f"{name}.{zone}", "AAAA", (ADDRESS[name] + (None,))[1])
            port = {"catalog": 3550, "cart": 7070, "checkout": 5050, "recommendation": 8080}[name]
            calls = [
                (words(chance, 90 + chance.randrange(200)), words(chance, 100 + chance.randrange(3000)))
                for _ in range(2)
            ]
            shop.tcp(
                at + 2 * MILLISECOND, client.address(), address, port, calls, chance.choice(["close"] * 5 + ["reset"])
            )
            at += 12 * MILLISECOND
    for number, client in enumerate(frontends):
        calls = [(words(chance, 120), words(chance, 2600))]
        shop.tcp(number * 900 * MILLISECOND + 55 * MILLISECOND, client.address(6), ADDRESS["catalog"][1], 3550, calls)

    # The carts keep their state in redis: long conversations of small packets; one stays open.
    for number, item in enumerate(item for item in PODS if item.app == "cart"):
        calls = []
        for key in range(20):
            command = f"*2\r\n$3\r\nGET\r\n$7\r\ncart:{key:02d}\r\n".encode()
            calls.append((command, b"$40\r\n" + words(chance, 40) + b"\r\n"))
        shop.tcp(
            number * SECOND + 20 * MILLISECOND,
            item.address(),
            ADDRESS["redis"][0],
            6379,
            calls,
            ("close", "open")[number],
        )

    # A pod that reaches itself through its Service, the API server on a node's own address, and the world outside.
    redis, checkout = pod("redis"), pod("checkout", "node-1")
    shop.tcp(500 * MILLISECOND, redis.address(), ADDRESS["redis"][0], 6379, [(b"PING\r\n", b"+PONG\r\n")])
    for item in (item for item in PODS if item.app == "coredns"):
        watch = [(words(chance, 300), words(chance, 5000))]
        shop.tcp(700 * MILLISECOND, item.address(), "10.96.0.1", 443, watch)
    shop.tcp(1500 * MILLISECOND, checkout.address(), PAYMENT_API, 443, [(words(chance, 500), words(chance, 1800))])

    # Pods that know each other's address, on one node and on two; nobody serves payment.
    near, far = pod("frontend", "node-1"), pod("catalog", "node-2")
    shop.tcp(
        1100 * MILLISECOND,
        near.address(),
        pod("catalog", "node-1").address(),
        3550,
        [(words(chance, 80), words(chance, 900))],
    )
    shop.tcp(1200 * MILLISECOND, near.address(), far.address(), 3550, [(words(chance, 80), words(chance, 9000))])
    shop.tcp(1300 * MILLISECOND, near.address(6), far.address(6), 3550, [(words(chance, 80), words(chance, 900))])
    shop.refused(600 * MILLISECOND, checkout.address(), ADDRESS["payment"][0], 50051)
    shop.dns_over_tcp(800 * MILLISECOND, near.address(), "release-notes.default.svc.cluster.local")

    shop.ping(250 * MILLISECOND, near.address(), far.address())
    shop.ping(270 * MILLISECOND, near.address(), pod("checkout", "node-1").address(), hops=0)
    shop.ping(290 * MILLISECOND, near.address(6), far.address(6))
    shop.ping(310 * MILLISECOND, near.address(), node_address("node-3"), hops=1)
    shop.noise(5 * MILLISECOND)
    return recording


def office() -> Recording:
    """Three people and one web site, recorded at the office's own gateway."""
    recording = Recording(random.Random(SEED + 1))
    chance, shop = recording.chance, Shop(recording)
    for number in range(9):
        requests = [
            http("www.example.com", f"/page/{number}/{part}", 400 + chance.randrange(9000), chance) for part in range(2)
        ]
        shop.tcp(number * 120 * MILLISECOND, f"10.20.30.{41 + number % 3}", "93.184.216.34", 80, requests)
    return recording


def write(folder: Path) -> list[Path]:
    """Write every sample into `folder` and return their paths."""
    contents = {
        "boutique.yaml": cluster_yaml().encode(),
        "boutique.pcap": boutique().pcap(),
        "office.pcap": office().pcap(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]


if __name__ == "__main__":
    for path in write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent):
        print(f"{path.stat().st_size:9}  {path}")
