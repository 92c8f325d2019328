"""Addresses and links of every kind: peers, lone hosts, subnets inside subnets, devices that ask nobody."""

from judge.node import Node
from judge.scenario import scenario
from judge.talk import echo
from scapy.layers.inet import UDP
from scapy.layers.l2 import ARP, Ether

QUERY = UDP(sport=4000, dport=53) / b"query"


@scenario(families=(4, 6))
def device_that_asks_nobody(node: Node) -> None:
    """`arp off`: packets leave with the device's own MAC address, and nobody is answered."""
    client, _ = node.router()
    node.ip("link set eth1 arp off")
    node.ip("link set eth0 arp off")
    client.send(QUERY, to="10.0.2.9" if node.family == 4 else "fd00:2::9")
    client.send(echo(node.family), to=node.address("eth0"))
    if node.family == 4:
        ask = ARP(op=1, hwsrc=client.mac, psrc=client.ip, pdst=node.address("eth0"))
        node.receive("eth0", Ether(src=client.mac, dst="ff:ff:ff:ff:ff:ff") / ask)


@scenario(families=(4, 6))
def promiscuous_device(node: Node) -> None:
    """`promisc on`: frames for another MAC address are seen, and are not for the node all the same."""
    client, server = node.router()
    node.ip("link set eth0 promisc on")
    node.rules("-t raw -A PREROUTING -j ACCEPT")
    client.send(QUERY, to=server, mac="02:00:00:00:00:99")
    client.send(QUERY, to=server)
    client.send(echo(node.family), to=node.address("eth0"), mac="02:00:00:00:00:99")


@scenario(families=(4, 6))
def addresses_with_a_peer(node: Node) -> None:
    """An address with a peer: the peer is on the link, what is beside it is not; the source is the address."""
    client, _ = node.router()
    node.port("eth2")
    own, peer, beside = (
        ("10.5.5.1", "10.6.6.6/32", "10.6.6.7") if node.family == 4 else ("fd00:5::1", "fd00:6::6/128", "fd00:6::7")
    )
    node.ip(f"{node.dash}addr add {own} peer {peer} dev eth2")
    far = node.peer("eth2", peer.partition("/")[0])
    client.send(QUERY, to=far)
    client.send(QUERY, to=beside)
    client.send(echo(node.family), to=own)
    far.send(echo(node.family), to=own)
    far.send(QUERY, to=client, ttl=1)


@scenario()
def small_subnets(node: Node) -> None:
    """/31, /32 and /30: which addresses are broadcasts, and which are neighbours."""
    client, _ = node.router()
    node.port("eth2", "10.5.0.0/31", "10.5.1.1/32", "10.5.2.1/30")
    for target in ("10.5.0.0", "10.5.0.1", "10.5.1.1", "10.5.1.2", "10.5.2.0", "10.5.2.2", "10.5.2.3"):
        client.send(echo(4), to=target)
        client.send(QUERY, to=target)


@scenario()
def broadcasts_of_ones_own_choice(node: Node) -> None:
    """A broadcast address that is not the last of its subnet, and none at all."""
    client, _ = node.router()
    node.ip("addr add 10.5.0.1/24 broadcast 10.5.0.99 dev eth0")
    node.ip("addr add 10.6.0.1/24 brd - dev eth0")
    node.listen("udp", 53)
    for target in ("10.5.0.99", "10.5.0.255", "10.5.0.0", "10.6.0.255", "10.6.0.0", "10.0.1.255", "10.0.1.0"):
        node.receive("eth0", Ether(src=client.mac, dst="ff:ff:ff:ff:ff:ff") / client.packet(QUERY, to=target))
        client.send(QUERY, to=target)


@scenario(families=(4, 6))
def addresses_without_a_route(node: Node) -> None:
    """noprefixroute: the address is the node's, its subnet is not on the link."""
    client, _ = node.router()
    own, beside = ("10.5.0.1/24", "10.5.0.9") if node.family == 4 else ("fd00:5::1/64", "fd00:5::9")
    node.ip(f"{node.dash}addr add {own} dev eth0 noprefixroute")
    client.send(echo(node.family), to=own.partition("/")[0])
    client.send(QUERY, to=beside)
    client.send(QUERY, to=node.address("eth0"), src=beside)


@scenario(families=(4, 6))
def one_subnet_on_two_links(node: Node) -> None:
    """The same subnet at two interfaces: IPv4 takes the first one's route, IPv6 that of the way in, if there is one."""
    four = node.family == 4
    node.port("eth0", "10.0.1.1/24" if four else "fd00:1::1/64")
    node.port("eth1", "10.0.1.129/24" if four else "fd00:1::81/64")
    node.port("eth2", "10.0.3.1/24" if four else "fd00:3::1/64")
    one = node.peer("eth0", "10.0.1.2" if four else "fd00:1::2")
    two = node.peer("eth1", "10.0.1.3" if four else "fd00:1::3")
    three = node.peer("eth2", "10.0.3.2" if four else "fd00:3::2")
    for device, peer in (("eth1", one), ("eth0", two)):
        node.ip(f"neigh add {peer.ip} lladdr {peer.mac} dev {device} nud permanent")
    for target in (node.address("eth0"), node.address("eth1")):
        three.send(echo(node.family), to=target)
    for peer, target in ((one, two), (two, one), (three, one), (three, two), (one, three), (two, three)):
        peer.send(QUERY, to=target)


@scenario(families=(6,))
def deprecated_addresses(node: Node) -> None:
    """An address that is deprecated answers, but speaks for the node only where there is no other."""
    client, server = node.router()
    node.ip("-6 addr add fd00:1::77/64 dev eth0 preferred_lft 0")
    node.ip("-6 addr add fd00:2::77/64 dev eth1 preferred_lft 0")
    node.ip("-6 addr del fd00:2::1/64 dev eth1")
    node.ip("-6 addr add fd00:2::55/64 dev eth1 preferred_lft 0")
    client.send(echo(6), to="fd00:1::77")
    client.send(QUERY, to=server, ttl=1)
    server.send(QUERY, to=client, ttl=1)
    server.send(echo(6), to="fd00:2::77")


@scenario(families=(4, 6))
def link_that_is_down(node: Node) -> None:
    """A link that is down: its routes are gone, its addresses stay, and nothing comes in by it."""
    client, server = node.router()
    node.ip("link set eth1 down")
    client.send(QUERY, to=server)
    client.send(echo(node.family), to=node.address("eth1"))
    client.send(echo(node.family), to=node.address("eth0"))


@scenario(families=(4, 6))
def small_mtu_of_a_link(node: Node) -> None:
    """A link of 600 bytes (IPv4) or 1280: what comes in may be larger, what goes out is cut or refused."""
    client, server = node.router(far_mtu=600 if node.family == 4 else 1280)
    for size in (500, 700, 1400):
        client.send(UDP(sport=1, dport=2) / bytes(size), to=server)
        server.send(UDP(sport=1, dport=2) / bytes(size), to=client)
        server.send(echo(node.family, data=bytes(size)), to=node.address("eth1"))
