"""ARP: who answers for what, and what becomes of packets that wait for a neighbour."""

from judge.node import Node
from judge.scenario import scenario
from judge.talk import Peer, echo
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import ARP, Ether

BROADCAST = "ff:ff:ff:ff:ff:ff"
QUERY = UDP(sport=4000, dport=53) / b"query"


def who_has(peer: Peer, target: str, source: str | None = None, **fields: object) -> ARP:
    return ARP(op=1, hwsrc=peer.mac, psrc=source if source is not None else peer.ip, pdst=target, **fields)


def is_at(peer: Peer, request: Ether) -> Ether:
    return Ether(src=peer.mac, dst=request.src) / ARP(
        op=2, hwsrc=peer.mac, psrc=request[ARP].pdst, hwdst=request[ARP].hwsrc, pdst=request[ARP].psrc
    )


def fast_failure(node: Node, interface: str) -> None:
    """Three requests 100 ms apart instead of a second."""
    node.sysctl(f"net.ipv4.neigh.{interface}.retrans_time_ms = 100")


@scenario()
def request_is_answered(node: Node) -> None:
    """A request for the node's address is answered to the asker alone."""
    client, _ = node.router()
    answer = client.send(who_has(client, node.address("eth0")), mac=BROADCAST).only(client)
    assert (answer[ARP].op, answer[ARP].hwsrc, answer.dst) == (2, node.mac("eth0"), client.mac)


@scenario()
def unicast_request_is_answered(node: Node) -> None:
    """A request need not be broadcast."""
    client, _ = node.router()
    client.send(who_has(client, node.address("eth0"))).only(client)


@scenario()
def request_for_another_is_ignored(node: Node) -> None:
    """A request for somebody else's address, on this link, on the other link, or nowhere."""
    client, server = node.router()
    for target in ("10.0.1.3", server.ip, "203.0.113.1", client.ip):
        assert not client.send(who_has(client, target), mac=BROADCAST)


@scenario()
def address_of_another_interface_is_answered(node: Node) -> None:
    """The weak host model: any of the node's addresses, with the MAC address of the interface that was asked."""
    client, _ = node.router()
    answer = client.send(who_has(client, node.address("eth1")), mac=BROADCAST).only(client)
    assert answer[ARP].hwsrc == node.mac("eth0")


@scenario()
def arp_ignore_1(node: Node) -> None:
    """arp_ignore=1: only addresses of the interface that was asked."""
    client, _ = node.router()
    node.sysctl("net.ipv4.conf.eth0.arp_ignore = 1")
    assert not client.send(who_has(client, node.address("eth1")), mac=BROADCAST)
    client.send(who_has(client, node.address("eth0")), mac=BROADCAST).only(client)


@scenario()
def arp_ignore_2(node: Node) -> None:
    """arp_ignore=2: and only for askers in the same subnet."""
    client, _ = node.router()
    node.sysctl("net.ipv4.conf.eth0.arp_ignore = 2")
    assert not client.send(who_has(client, node.address("eth0"), source="203.0.113.9"), mac=BROADCAST)
    client.send(who_has(client, node.address("eth0")), mac=BROADCAST).only(client)


@scenario()
def arp_ignore_8(node: Node) -> None:
    """arp_ignore=8: nothing is answered."""
    client, _ = node.router()
    node.sysctl("net.ipv4.conf.eth0.arp_ignore = 8")
    assert not client.send(who_has(client, node.address("eth0")), mac=BROADCAST)


@scenario()
def probe_is_answered(node: Node) -> None:
    """A duplicate address probe (sender 0.0.0.0) for the node's address is answered; for another it is not."""
    client, _ = node.router()
    client.send(who_has(client, node.address("eth0"), source="0.0.0.0"), mac=BROADCAST).only(client)
    assert not client.send(who_has(client, "10.0.1.9", source="0.0.0.0"), mac=BROADCAST)


@scenario()
def malformed_is_ignored(node: Node) -> None:
    """Wrong hardware type, protocol, lengths or operation; a loopback or multicast target; a frame cut short."""
    client, _ = node.router()
    here = node.address("eth0")
    for fields in ({"hwtype": 6}, {"ptype": 0x86DD}, {"hwlen": 8}, {"plen": 16}, {"op": 3}, {"op": 8}):
        client.send(ARP(**{"op": 1, "hwsrc": client.mac, "psrc": client.ip, "pdst": here, **fields}), mac=BROADCAST)
    assert not client.send(who_has(client, "127.0.0.1"), mac=BROADCAST)
    assert not client.send(who_has(client, "224.0.0.1"), mac=BROADCAST)
    whole = bytes(Ether(src=client.mac, dst=BROADCAST) / who_has(client, here))
    assert not node.receive("eth0", whole[:41])


@scenario()
def padding_is_not_echoed(node: Node) -> None:
    """A padded request (60 bytes) gets an answer of 42."""
    client, _ = node.router()
    frame = bytes(Ether(src=client.mac, dst=BROADCAST) / who_has(client, node.address("eth0")))
    answer = node.receive("eth0", frame + bytes(60 - len(frame))).only(client)
    assert len(bytes(answer)) == 42


@scenario()
def proxy_arp(node: Node) -> None:
    """proxy_arp=1: addresses behind another interface are answered, those of the same link are not."""
    client, server = node.router()
    node.sysctl("""
        net.ipv4.conf.eth0.proxy_arp = 1
        net.ipv4.neigh.eth0.proxy_delay = 0
    """)
    answer = client.send(who_has(client, server.ip), mac=BROADCAST).only(client)
    assert answer[ARP].hwsrc == node.mac("eth0")
    assert not client.send(who_has(client, "10.0.1.3"), mac=BROADCAST)
    assert not client.send(who_has(client, "203.0.113.1"), mac=BROADCAST)


@scenario()
def proxy_for_one_address(node: Node) -> None:
    """A proxy neighbour entry answers for one address, proxy_arp or not."""
    client, server = node.router()
    node.sysctl("net.ipv4.neigh.eth0.proxy_delay = 0")
    node.ip(f"neigh add proxy {server.ip} dev eth0")
    client.send(who_has(client, server.ip), mac=BROADCAST).only(client)
    assert not client.send(who_has(client, "10.0.2.3"), mac=BROADCAST)


@scenario()
def resolution(node: Node) -> None:
    """A packet for an unknown neighbour waits for the answer to a broadcast request, then goes."""
    client, _ = node.router()
    server = node.peer("eth1", "10.0.2.9", neighbour=False)
    request = client.send(QUERY, to=server).only("eth1")
    assert (request.dst, request[ARP].psrc, request[ARP].pdst) == (BROADCAST, node.address("eth1"), server.ip)
    arrived = node.receive("eth1", is_at(server, request)).only(server)
    assert (arrived.dst, arrived[IP].ttl) == (server.mac, 63)
    client.send(QUERY, to=server).only(server)


@scenario()
def packets_wait_in_order(node: Node) -> None:
    """Several packets wait for one neighbour; one request is sent, and they leave in the order in which they came."""
    client, _ = node.router()
    server = node.peer("eth1", "10.0.2.9", neighbour=False)
    request = client.send(UDP(sport=1, dport=2), to=server).only("eth1")
    for port in (2, 3, 4):
        assert not client.send(UDP(sport=port, dport=2), to=server)
    arrived = node.receive("eth1", is_at(server, request)).at(server)
    assert [packet[UDP].sport for packet in arrived] == [1, 2, 3, 4]


@scenario()
def request_of_the_neighbour_teaches_its_address(node: Node) -> None:
    """Who asks the node is known from then on: the answer to its packets needs no request."""
    client, _ = node.router()
    other = node.peer("eth0", "10.0.1.9", neighbour=False)
    other.send(who_has(other, node.address("eth0")), mac=BROADCAST).only(other)
    answer = other.send(echo(4), to=node.address("eth0")).only(other)
    assert answer.dst == other.mac


@scenario()
def answer_for_an_unknown_neighbour_is_ignored(node: Node) -> None:
    """An unasked answer makes no entry: the node still has to ask."""
    client, _ = node.router()
    server = node.peer("eth1", "10.0.2.9", neighbour=False)
    unasked = Ether(src=server.mac, dst=node.mac("eth1")) / ARP(
        op=2, hwsrc=server.mac, psrc=server.ip, hwdst=node.mac("eth1"), pdst=node.address("eth1")
    )
    assert not node.receive("eth1", unasked)
    assert client.send(QUERY, to=server).only("eth1")[ARP].op == 1


@scenario()
def gratuitous_arp_makes_no_entry(node: Node) -> None:
    """A gratuitous request or answer makes no entry unless arp_accept is set."""
    client, _ = node.router()
    server = node.peer("eth1", "10.0.2.9", neighbour=False)
    for op in (1, 2):
        assert not server.send(ARP(op=op, hwsrc=server.mac, psrc=server.ip, pdst=server.ip), mac=BROADCAST)
    assert client.send(QUERY, to=server).only("eth1")[ARP].op == 1


@scenario()
def gratuitous_arp_is_accepted_if_allowed(node: Node) -> None:
    """arp_accept=1: a gratuitous answer makes an entry, and packets go at once."""
    client, _ = node.router()
    node.sysctl("net.ipv4.conf.eth1.arp_accept = 1")
    server = node.peer("eth1", "10.0.2.9", neighbour=False)
    assert not server.send(ARP(op=2, hwsrc=server.mac, psrc=server.ip, pdst=server.ip), mac=BROADCAST)
    client.send(QUERY, to=server).only(server)


@scenario()
def permanent_neighbour_does_not_change(node: Node) -> None:
    """An answer with another MAC address does not change a permanent entry."""
    client, server = node.router()
    claim = ARP(op=2, hwsrc="02:00:00:00:00:66", psrc=server.ip, hwdst=node.mac("eth1"), pdst=node.address("eth1"))
    assert not server.send(claim)
    assert client.send(QUERY, to=server).only(server).dst == server.mac


@scenario()
def gratuitous_arp_moves_a_known_neighbour(node: Node) -> None:
    """A neighbour that was learnt can announce another MAC address."""
    client, _ = node.router()
    server = node.peer("eth1", "10.0.2.9", neighbour=False)
    request = client.send(QUERY, to=server).only("eth1")
    node.receive("eth1", is_at(server, request))
    node.wait(0.3)
    server.mac = "02:00:00:01:02:99"
    server.send(ARP(op=1, hwsrc=server.mac, psrc=server.ip, pdst=server.ip), mac=BROADCAST)
    assert client.send(QUERY, to=server).only(server).dst == server.mac


@scenario()
def failure(node: Node) -> None:
    """No answer: three requests, then host unreachable for each packet that waited."""
    client, _ = node.router()
    fast_failure(node, "eth1")
    server = node.peer("eth1", "10.0.2.9", neighbour=False)
    client.send(UDP(sport=1, dport=2), to=server).only("eth1")
    client.send(UDP(sport=2, dport=2), to=server)
    out = node.wait(0.6)
    assert [packet[ARP].op for packet in out.at("eth1")] == [1, 1]
    assert [packet[ICMP].code for packet in out.at(client)] == [1, 1]


@scenario()
def failed_neighbour_is_asked_again(node: Node) -> None:
    """After a failure the next packet starts over."""
    client, _ = node.router()
    fast_failure(node, "eth1")
    server = node.peer("eth1", "10.0.2.9", neighbour=False)
    client.send(QUERY, to=server).only("eth1")
    node.wait(0.6)
    request = client.send(QUERY, to=server).only("eth1")
    node.receive("eth1", is_at(server, request)).only(server)


@scenario()
def queue_of_a_neighbour_is_limited(node: Node) -> None:
    """unres_qlen: the oldest waiting packets make room for new ones, and nobody is told."""
    client, _ = node.router()
    node.sysctl("net.ipv4.neigh.eth1.unres_qlen = 2")
    server = node.peer("eth1", "10.0.2.9", neighbour=False)
    request = client.send(UDP(sport=1, dport=2), to=server).only("eth1")
    for port in (2, 3, 4, 5):
        client.send(UDP(sport=port, dport=2), to=server)
    node.receive("eth1", is_at(server, request))


@scenario()
def own_packet_waits_too(node: Node) -> None:
    """A packet of the node's own waits for its neighbour; the request bears the packet's source."""
    client, _ = node.router()
    server = node.peer("eth1", "10.0.2.9", neighbour=False)
    request = node.send(IP(src=node.address("eth0"), dst=server.ip, id=5) / QUERY).only("eth1")
    assert request[ARP].psrc == node.address("eth0")
    node.receive("eth1", is_at(server, request)).only(server)


@scenario()
def arp_announce_2(node: Node) -> None:
    """arp_announce=2: a request bears the best address of its own link, whatever the packet's source."""
    node.router()
    node.sysctl("net.ipv4.conf.eth1.arp_announce = 2")
    server = node.peer("eth1", "10.0.2.9", neighbour=False)
    request = node.send(IP(src=node.address("eth0"), dst=server.ip, id=5) / QUERY).only("eth1")
    assert request[ARP].psrc == node.address("eth1")


@scenario()
def frame_for_another_mac_is_ignored(node: Node) -> None:
    """A request in a frame for another MAC address is not answered."""
    client, _ = node.router()
    assert not client.send(who_has(client, node.address("eth0")), mac="02:00:00:00:00:77")
