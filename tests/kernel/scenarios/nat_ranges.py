"""Which address and port NAT chooses: preservation, collisions, ranges, offsets, mappings that are kept."""

from judge.choices import PORT
from judge.node import Node
from judge.scenario import scenario
from judge.talk import Peer, Talk, echo, network, reply
from scapy.layers.inet import ICMP, IP, TCP, UDP

VIP = {4: "10.96.0.10", 6: "fd00:96::a"}


def snat(node: Node, target: str, *clients: int) -> tuple[Peer, Peer, list[Peer]]:
    """A client, a server and further clients by their last byte, behind `-j SNAT --to-source target`."""
    client, server = node.router()
    more = [node.peer("eth0", f"10.0.1.{last}" if node.family == 4 else f"fd00:1::{last}") for last in clients]
    protocol = "-p udp" if ":" in target and node.family == 4 else ""
    node.rules(f"-t nat -A POSTROUTING -o eth1 {protocol} -j SNAT --to-source {target}")
    return client, server, more


def ask(client: Peer, server: Peer | str, sport: int = 40000, dport: int = 53) -> tuple[str, int]:
    """Source address and port of a datagram as it arrives behind the node."""
    (packet,) = client.send(UDP(sport=sport, dport=dport) / b"q", to=server).at("eth1")
    return network(packet).src, packet[UDP].sport


# ---- ranges of addresses -------------------------------------------------------------------------------------------


@scenario(families=(4, 6))
def snat_to_a_range(node: Node) -> None:
    """The address is chosen by a hash of source and destination address, without a secret: twelve clients."""
    low, high = ("10.0.2.100", "10.0.2.109") if node.family == 4 else ("fd00:2::100", "fd00:2::109")
    client, server, more = snat(node, f"{low}-{high}", *range(3, 15))
    for number, peer in enumerate((client, *more)):
        ask(peer, server, sport=40000 + number)


@scenario(families=(4, 6))
def snat_to_a_range_for_other_servers(node: Node) -> None:
    """Without --persistent another destination may give another address."""
    low, high = ("10.0.2.100", "10.0.2.109") if node.family == 4 else ("fd00:2::100", "fd00:2::109")
    client, _, _ = snat(node, f"{low}-{high}")
    servers = [node.peer("eth1", f"10.0.2.{last}" if node.family == 4 else f"fd00:2::{last}") for last in range(3, 11)]
    for number, server in enumerate(servers):
        ask(client, server, sport=40000 + number)


@scenario(families=(4, 6))
def snat_persistent(node: Node) -> None:
    """--persistent: one address for each client, whatever it speaks to."""
    low, high = ("10.0.2.100", "10.0.2.109") if node.family == 4 else ("fd00:2::100", "fd00:2::109")
    client, server, more = snat(node, f"{low}-{high} --persistent", 3, 4, 5)
    other = node.peer("eth1", "10.0.2.3" if node.family == 4 else "fd00:2::3")
    for number, peer in enumerate((client, *more)):
        first, _ = ask(peer, server, sport=40000 + number)
        assert ask(peer, other, sport=41000 + number)[0] == first


@scenario()
def snat_to_a_large_range(node: Node) -> None:
    """A range across byte borders."""
    client, server, more = snat(node, "198.51.96.200-198.51.103.7", *range(3, 11))
    for number, peer in enumerate((client, *more)):
        ask(peer, server, sport=40000 + number)


@scenario(families=(6,))
def snat_to_a_range_across_words(node: Node) -> None:
    """IPv6: a range that differs in every word, and one that differs in the last two."""
    client, server = node.router()
    more = [node.peer("eth0", f"fd00:1::{last}") for last in range(3, 9)]
    node.rules("""
        -t nat -A POSTROUTING -o eth1 -p udp -j SNAT --to-source 2001:db8::-2001:dbf:ffff:ffff:ffff:ffff:ffff:ffff
        -t nat -A POSTROUTING -o eth1 -p tcp -j SNAT --to-source 2001:db8::1:0:0-2001:db8::3:ffff:ffff
    """)
    for peer in (client, *more):
        peer.send(UDP(sport=1111, dport=53) / b"q", to=server)
        peer.send(TCP(sport=1111, dport=53, flags="S"), to=server)


@scenario(families=(4, 6))
def dnat_to_a_range_of_addresses(node: Node) -> None:
    """DNAT to a range: the same hash chooses the backend."""
    client, server = node.router()
    more = [node.peer("eth0", f"10.0.1.{last}" if node.family == 4 else f"fd00:1::{last}") for last in range(3, 9)]
    servers = [node.peer("eth1", f"10.0.2.{last}" if node.family == 4 else f"fd00:2::{last}") for last in range(3, 6)]
    vip = VIP[node.family]
    node.rules(f"-t nat -A PREROUTING -d {vip} -j DNAT --to-destination {server.ip}-{servers[-1].ip}")
    for peer in (client, *more):
        peer.send(UDP(sport=40000, dport=53) / b"q", to=vip)


@scenario()
def dnat_persistent(node: Node) -> None:
    """--persistent with DNAT: the address depends on the client alone."""
    client, server = node.router()
    servers = [node.peer("eth1", f"10.0.2.{last}") for last in range(3, 10)]
    node.rules(
        f"-t nat -A PREROUTING -d 10.96.0.0/24 -j DNAT --to-destination {server.ip}-{servers[-1].ip} --persistent"
    )
    reached = {
        client.send(UDP(sport=40000 + last, dport=53), to=f"10.96.0.{last}").only("eth1")[IP].dst for last in range(8)
    }
    assert len(reached) == 1


@scenario()
def same_client_keeps_its_mapping(node: Node) -> None:
    """A client's port that is mapped already is mapped alike for another destination (endpoint-independent)."""
    client, server, _ = snat(node, "10.0.2.100-10.0.2.199")
    others = [node.peer("eth1", f"10.0.2.{last}") for last in (3, 4, 5)]
    first = ask(client, server)
    for other in others:
        assert ask(client, other) == first


# ---- ports ---------------------------------------------------------------------------------------------------------


@scenario(random="the ports")
def snat_to_a_port_range(node: Node) -> None:
    """A source port outside the range: a random one inside; the same client's next flow keeps it."""
    client, server, (second,) = snat(node, "10.0.2.100:5000-5009", 3)
    other = node.peer("eth1", "10.0.2.3")
    first = ask(client, server)
    node.chose(PORT, first[1])
    assert 5000 <= first[1] <= 5009
    assert ask(client, other) == first
    moved = ask(second, server)
    node.chose(PORT, moved[1])
    assert moved != first


@scenario()
def snat_port_range_is_used_up(node: Node) -> None:
    """A range of one port: the second client's flow finds none, and is dropped when it is confirmed."""
    client, server, (second,) = snat(node, "10.0.2.100:5000", 3)
    other = node.peer("eth1", "10.0.2.3")
    assert ask(client, server) == ("10.0.2.100", 5000)
    assert not second.send(UDP(sport=40000, dport=53) / b"q", to=server)
    assert ask(second, other) == ("10.0.2.100", 5000)
    assert not second.send(UDP(sport=40000, dport=53) / b"q", to=server)


@scenario()
def snat_port_range_is_used_up_by_tcp(node: Node) -> None:
    """The same with TCP, whose SYN is dropped and may be sent again."""
    client, server = node.router()
    second = node.peer("eth0", "10.0.1.3")
    node.rules("-t nat -A POSTROUTING -o eth1 -p tcp -j SNAT --to-source 10.0.2.100:5000")
    Talk(client, server).open()
    assert not second.send(TCP(sport=40000, dport=80, flags="S", seq=1), to=server)
    assert not second.send(TCP(sport=40000, dport=80, flags="S", seq=1), to=server)


@scenario()
def closed_connection_gives_up_its_port(node: Node) -> None:
    """A TCP flow in TIME_WAIT gives its port to a new flow whose sequence number is higher."""
    client, server = node.router()
    second = node.peer("eth0", "10.0.1.3")
    node.rules("-t nat -A POSTROUTING -o eth1 -p tcp -j SNAT --to-source 10.0.2.100:5000")
    talk = Talk(client, server)
    talk.open()
    talk.client("FA")
    talk.server("FA")
    talk.client("A")
    second.send(TCP(sport=41000, dport=80, flags="S", seq=5), to=server)
    second.send(TCP(sport=41000, dport=80, flags="S", seq=9_000_000), to=server)


@scenario()
def reset_connection_gives_up_its_port(node: Node) -> None:
    """The same in CLOSE; not in FIN_WAIT."""
    client, server = node.router()
    second, third = node.peer("eth0", "10.0.1.3"), node.peer("eth0", "10.0.1.4")
    node.rules("-t nat -A POSTROUTING -o eth1 -p tcp -j SNAT --to-source 10.0.2.100:5000")
    talk = Talk(client, server)
    talk.open()
    talk.client("FA")
    second.send(TCP(sport=41000, dport=80, flags="S", seq=9_000_000), to=server)
    talk.client("R")
    second.send(TCP(sport=41000, dport=80, flags="A", seq=9_000_000), to=server)
    second.send(TCP(sport=41000, dport=80, flags="S", seq=9_000_000), to=server)
    third.send(TCP(sport=41000, dport=80, flags="S", seq=9_900_000), to=server)


@scenario()
def port_in_the_range_is_kept(node: Node) -> None:
    """Source ports at both ends of the range and in it are kept."""
    client, server, _ = snat(node, "10.0.2.100:5000-5009")
    for port in (5000, 5005, 5009):
        assert ask(client, server, sport=port) == ("10.0.2.100", port)


@scenario(random="the ports")
def ports_below_512_and_1024(node: Node) -> None:
    """Borders of the classes: 1, 511, 512, 600, 1023, 1024, 65535 taken by another client."""
    client, server = node.router()
    second = node.peer("eth0", "10.0.1.3")
    node.rules("-t nat -A POSTROUTING -o eth1 -j MASQUERADE")
    for port in (1, 511, 512, 1023, 1024, 65535):
        ask(client, server, sport=port)
        _, moved = ask(second, server, sport=port)
        assert moved != port
        low, high = (1, 511) if port < 512 else (600, 1023) if port < 1024 else (1024, 65535)
        assert low <= moved <= high
        node.chose(PORT, moved)


@scenario(random="the port")
def source_port_zero(node: Node) -> None:
    """Port 0 is kept like any other; when it is taken, another below 512 is chosen."""
    client, server = node.router()
    second = node.peer("eth0", "10.0.1.3")
    node.rules("-t nat -A POSTROUTING -o eth1 -j MASQUERADE")
    assert ask(client, server, sport=0)[1] == 0
    _, moved = ask(second, server, sport=0)
    assert 1 <= moved <= 511
    node.chose(PORT, moved)


@scenario()
def low_source_port_to_a_high_port(node: Node) -> None:
    """A port below 16384 to one from 32768 on is kept (some kernels before 6.1 moved it, against port shadowing)."""
    client, server = node.router()
    node.rules("-t nat -A POSTROUTING -o eth1 -j MASQUERADE")
    for sport, dport in ((16383, 32768), (53, 40000), (700, 65535)):
        assert ask(client, server, sport=sport, dport=dport)[1] == sport


@scenario(families=(4, 6), random="the ports")
def snat_random(node: Node) -> None:
    """SNAT --random and --random-fully, with and without a range of ports."""
    client, server = node.router()
    address = "10.0.2.100" if node.family == 4 else "fd00:2::100"
    ranged = f"{address}:5000-5099" if node.family == 4 else f"[{address}]:5000-5099"
    node.rules(f"""
        -t nat -A POSTROUTING -p udp --dport 1 -j SNAT --to-source {address} --random
        -t nat -A POSTROUTING -p udp --dport 2 -j SNAT --to-source {address} --random-fully
        -t nat -A POSTROUTING -p udp --dport 3 -j SNAT --to-source {ranged} --random
        -t nat -A POSTROUTING -p udp --dport 4 -j SNAT --to-source {ranged} --random-fully
    """)
    for dport in (1, 2, 3, 4):
        for sport in (40000, 5050, 500):
            _, moved = ask(client, server, sport=sport, dport=dport)
            node.chose(PORT, moved)


@scenario(random="the ids")
def random_ids_of_pings(node: Node) -> None:
    """--random-fully gives pings another id too."""
    client, server = node.router()
    node.rules("-t nat -A POSTROUTING -o eth1 -j MASQUERADE --random-fully")
    request = client.send(echo(4), to=server).only(server)
    node.chose(PORT, request[ICMP].id)
    assert server.send(reply(request)).only(client)[ICMP].id == 7
    client.send(echo(4, 7, 2), to=server).only(server)


@scenario()
def dnat_to_one_port(node: Node) -> None:
    """DNAT to a port of its own for TCP and UDP; ICMP to the same address is not touched by -p rules."""
    client, server = node.router()
    node.rules(f"""
        -t nat -A PREROUTING -d {VIP[4]} -p udp -j DNAT --to-destination {server.ip}:1
        -t nat -A PREROUTING -d {VIP[4]} -p tcp -j DNAT --to-destination {server.ip}:65535
        -t nat -A PREROUTING -d {VIP[4]} -j DNAT --to-destination {server.ip}
    """)
    for sport in (40000, 40001):
        client.send(UDP(sport=sport, dport=53) / b"q", to=VIP[4]).only(server)
        client.send(TCP(sport=sport, dport=80, flags="S"), to=VIP[4]).only(server)
    client.send(echo(4), to=VIP[4]).only(server)


@scenario()
def dnat_to_a_port_range_outside(node: Node) -> None:
    """A destination port outside the range: the first of the range, and the next when its answers are taken."""
    client, server = node.router()
    node.rules(f"-t nat -A PREROUTING -d 10.96.0.0/24 -p udp -j DNAT --to-destination {server.ip}:5000-5003")
    ports = [
        client.send(UDP(sport=40000, dport=53) / b"q", to=f"10.96.0.{last}").at(server)[0][UDP].dport
        for last in range(1, 5)
    ]
    assert sorted(ports) == [5000, 5001, 5002, 5003]


@scenario()
def dnat_port_range_is_used_up(node: Node) -> None:
    """All ports of the range lead to flows of this client's port: the last is taken, and SNAT of its port saves it."""
    client, server = node.router()
    node.rules(f"-t nat -A PREROUTING -d 10.96.0.0/24 -p udp -j DNAT --to-destination {server.ip}:5000-5001")
    for last in (1, 2):
        client.send(UDP(sport=40000, dport=53) / b"q", to=f"10.96.0.{last}").only(server)
    third = client.send(UDP(sport=40000, dport=53) / b"q", to="10.96.0.3").only(server)
    assert third[UDP].sport != 40000
    node.chose(PORT, third[UDP].sport)


@scenario(random="the ports")
def dnat_random(node: Node) -> None:
    """DNAT --random with a range of ports draws one, even if the packet's own is inside."""
    client, server = node.router()
    node.rules(f"-t nat -A PREROUTING -d {VIP[4]} -p udp -j DNAT --to-destination {server.ip}:50-60 --random")
    for sport in (40000, 40001, 40002):
        out = client.send(UDP(sport=sport, dport=53) / b"q", to=VIP[4]).only(server)
        node.chose(PORT, out[UDP].dport)


@scenario(families=(4, 6))
def dnat_with_a_shifted_range(node: Node) -> None:
    """A range with a base port shifts ports: 7000 + (port - 5000)."""
    client, server = node.router()
    backend = server.ip if node.family == 4 else f"[{server.ip}]"
    node.rules(
        f"-t nat -A PREROUTING -d {VIP[node.family]} -p udp --dport 5000:5010 "
        f"-j DNAT --to-destination {backend}:7000-7010/5000"
    )
    for dport in (5000, 5004, 5010):
        out = client.send(UDP(sport=40000, dport=dport) / b"q", to=VIP[node.family]).only(server)
        assert out[UDP].dport == dport + 2000


@scenario()
def dnat_with_a_shifted_range_that_wraps(node: Node) -> None:
    """Ports beyond the range wrap around in it; a port below the base too."""
    client, server = node.router()
    node.rules(f"-t nat -A PREROUTING -d {VIP[4]} -p udp -j DNAT --to-destination {server.ip}:7000-7010/5000")
    for dport in (5000, 5011, 4999, 1, 65535):
        client.send(UDP(sport=40000, dport=dport) / b"q", to=VIP[4])
