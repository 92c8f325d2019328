"""Settings of ARP and neighbour discovery, states of entries, proxies of both families."""

from judge.node import Node
from judge.scenario import scenario
from judge.talk import Peer
from scapy.layers.inet import UDP
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether

QUERY = UDP(sport=4000, dport=53) / b"query"
BROADCAST = "ff:ff:ff:ff:ff:ff"


def ask(peer: Peer, target: str, sender: str = "", operation: int = 1, **fields: object) -> None:
    """An ARP packet from a peer to everybody."""
    arp = ARP(op=operation, hwsrc=peer.mac, psrc=sender or peer.ip, pdst=target, **fields)
    peer.node.receive(peer.interface, Ether(src=peer.mac, dst=BROADCAST) / arp)


def every_question(node: Node, client: Peer, server: Peer) -> None:
    for target in ("10.0.1.1", "10.0.2.1", "10.0.1.77", "10.7.7.7", "10.0.2.2", "127.0.0.1", "169.254.1.1"):
        for sender in (client.ip, "10.0.2.99", "203.0.113.1", "0.0.0.0"):
            ask(client, target, sender)
    del server


def settings(node: Node, **values: int) -> tuple[Peer, Peer]:
    client, server = node.router()
    node.sysctl("net.ipv4.neigh.eth0.proxy_delay = 0")  # a time by chance
    node.address_add("eth0", "10.0.1.77/24")
    node.ip("addr add 10.7.7.7/32 dev lo")
    node.ip("addr add 169.254.1.1/32 dev eth1 scope link")
    for name, value in values.items():
        node.sysctl(f"net.ipv4.conf.eth0.{name} = {value}")
    return client, server


@scenario()
def arp_ignore_of_every_value(node: Node) -> None:
    """arp_ignore=3: no addresses of scope host or link for others; with lo's addresses and those of scope link."""
    every_question(node, *settings(node, arp_ignore=3))


@scenario()
def arp_ignore_as_balancers_set_it(node: Node) -> None:
    """arp_ignore=1 and arp_announce=2, as nodes behind a balancer have it: an address on lo stays silent."""
    client, server = settings(node, arp_ignore=1, arp_announce=2)
    every_question(node, client, server)
    client.send(QUERY, to="10.7.7.7")


@scenario()
def arp_filter_asks_for_the_way_back(node: Node) -> None:
    """arp_filter=1: an answer is given only where the asker would be reached by the same interface."""
    every_question(node, *settings(node, arp_filter=1))


@scenario()
def proxy_arp_of_many_targets(node: Node) -> None:
    """proxy_arp=1: behind the same link, another link, nowhere, blackholed, the default route; askers of other subnets."""
    client, server = settings(node, proxy_arp=1)
    node.ip("route add blackhole 198.51.100.0/24")
    node.ip("route add unreachable 198.51.101.0/24")
    node.ip(f"route add 203.0.113.0/24 via {client.ip}")
    for target in (
        "10.0.2.9",
        "10.0.1.9",
        "198.51.100.1",
        "198.51.101.1",
        "203.0.113.9",
        "192.0.2.1",
        "10.0.2.255",
        "224.0.0.1",
    ):
        ask(client, target)
        ask(client, target, sender="10.0.2.99")
    server.send(QUERY, to=client)


@scenario()
def proxy_arp_with_a_default_route(node: Node) -> None:
    """proxy_arp=1 as Calico sets it at a pod's interface: 169.254.1.1 and the world are answered by the default route."""
    node.port("cali0", mac="ee:ee:ee:ee:ee:ee")
    node.port("eth0", "192.168.1.11/24")
    node.sysctl("net.ipv4.conf.cali0.proxy_arp = 1")
    node.sysctl("net.ipv4.neigh.cali0.proxy_delay = 0")
    pod = node.peer("cali0", "10.244.1.2")
    router = node.peer("eth0", "192.168.1.1")
    node.ip("route add 10.244.1.2/32 dev cali0")
    node.ip(f"route add default via {router.ip}")
    for target in ("169.254.1.1", "10.244.1.3", "8.8.8.8", "192.168.1.11", "10.244.1.2", "192.168.1.50"):
        ask(pod, target)
    pod.send(QUERY, to="8.8.8.8")


@scenario()
def proxy_arp_among_the_ports_of_one_link(node: Node) -> None:
    """proxy_arp_pvlan=1: addresses of the same link are answered, those behind others are not."""
    client, _ = settings(node, proxy_arp_pvlan=1)
    for target in ("10.0.1.9", "10.0.2.9", "203.0.113.9"):
        ask(client, target)


@scenario()
def arp_announce_of_every_value(node: Node) -> None:
    """arp_announce 0, 1 and 2: the sender of requests about packets from several addresses, forwarded and own."""
    node.router()
    node.address_add("eth1", "10.0.2.77/24", "172.16.0.1/24")
    for value in range(3):
        name = f"eth{value + 2}"
        node.port(name, f"10.1.{value}.1/24", f"10.2.{value}.1/24")
        node.sysctl(f"net.ipv4.conf.{name}.arp_announce = {value}")
    client = Peer(node, "eth0", "02:00:00:01:01:02", "10.0.1.2", node.mac("eth0"))
    for value in range(3):
        for net in (1, 2):
            client.send(QUERY, to=f"10.{net}.{value}.9")
            for source in ("10.0.2.77", f"10.1.{value}.1", f"10.2.{value}.1"):
                node.send(client.packet(QUERY, to=f"10.{net}.{value}.1{source[-1]}", src=source))


@scenario()
def arp_accept_of_every_kind(node: Node) -> None:
    """arp_accept=1: requests and answers to oneself make an entry, others do not; =2 only from the link's own subnet."""
    for value in (0, 1, 2):
        node.port(f"eth{value}", f"10.0.{value}.1/24")
        node.sysctl(f"net.ipv4.conf.eth{value}.arp_accept = {value}")
        node.ip(f"route add 10.9.{value}.0/24 dev eth{value}")
    for value in (0, 1, 2):
        name = f"eth{value}"
        peer = node.peer(name, f"10.0.{value}.2", neighbour=False)
        far = Peer(node, name, "02:00:00:02:00:09", "10.9.9.9", node.mac(name))
        ask(peer, peer.ip)
        ask(far, f"10.9.{value}.9", sender=f"10.9.{value}.9", operation=2)
        ask(peer, f"10.0.{value}.7", sender=f"10.0.{value}.3", operation=2)
    client = Peer(node, "eth0", "02:00:00:01:01:44", "10.0.0.44", node.mac("eth0"))
    for value in (0, 1, 2):
        client.send(QUERY, to=f"10.0.{value}.2")
        client.send(QUERY, to=f"10.9.{value}.9")
        client.send(QUERY, to=f"10.0.{value}.3")


@scenario(families=(4, 6))
def states_of_entries(node: Node) -> None:
    """Entries as the dump has them: stale ones are used and then asked, failed ones asked at once."""
    client, _ = node.router()
    base = "10.0.2." if node.family == 4 else "fd00:2::"
    node.sysctl(f"net.ipv{node.family}.neigh.eth1.delay_first_probe_time = 1")
    for last, state in ((11, "stale"), (12, "reachable"), (13, "permanent"), (14, "failed")):
        node.ip(f"neigh add {base}{last} lladdr 02:00:00:01:02:{last} dev eth1 nud {state}")
    for last in range(11, 14):
        client.send(QUERY, to=f"{base}{last}")
    # Apart from the others, whose timers would fire with its own.
    node.wait(0.3)
    client.send(QUERY, to=f"{base}14")
    node.wait(1.2)
    client.send(QUERY, to=f"{base}11")


@scenario(families=(6,))
def proxy_of_neighbour_discovery(node: Node) -> None:
    """proxy_ndp=1: solicitations for entries of the proxy are answered, for others not, and never without the setting."""
    client, _ = node.router()
    node.sysctl("net.ipv6.conf.eth0.proxy_ndp = 1")
    node.sysctl("net.ipv6.neigh.eth0.proxy_delay = 0")
    node.ip("-6 neigh add proxy fd00:1::55 dev eth0")
    node.ip("-6 neigh add proxy fd00:2::66 dev eth1")
    for target in ("fd00:1::55", "fd00:1::56", "fd00:2::66"):
        group = "ff02::1:ff00:" + target.rsplit(":", 1)[1].rjust(4, "0")
        solicit = ICMPv6ND_NS(tgt=target) / ICMPv6NDOptSrcLLAddr(lladdr=client.mac)
        for to, mac in ((group, ""), (target, client.gateway)):
            client.send(IPv6(src=client.ip, dst=to, hlim=255) / solicit, mac=mac)
        client.send(IPv6(src="::", dst=group, hlim=255) / ICMPv6ND_NS(tgt=target))
    client.send(QUERY, to="fd00:1::55")


@scenario(families=(6,))
def advertisements_of_every_kind(node: Node) -> None:
    """Advertisements with each set of flags for an entry that is reachable, stale, incomplete and unknown."""
    client, _ = node.router()
    for last, state in ((0x11, "stale"), (0x12, "reachable"), (0x13, "permanent"), (0x14, "")):
        if state:
            node.ip(f"-6 neigh add fd00:2::{last:x} lladdr 02:00:00:01:02:{last:x} dev eth1 nud {state}")
    other = Peer(node, "eth1", "02:00:00:01:02:99", "fd00:2::2", node.mac("eth1"))
    for last in (0x11, 0x12, 0x13, 0x14):
        target = f"fd00:2::{last:x}"
        for flags in range(8):
            r, s, o = flags & 1, flags >> 1 & 1, flags >> 2
            advert = ICMPv6ND_NA(tgt=target, R=r, S=s, O=o) / ICMPv6NDOptDstLLAddr(lladdr=f"02:00:00:01:03:0{flags}")
            other.send(IPv6(src=target, dst=node.address("eth1"), hlim=255) / advert)
            if last != 0x14 or flags in (0, 7):
                client.send(QUERY, to=target)


@scenario(families=(6,))
def solicitations_that_are_not_right(node: Node) -> None:
    """Solicitations with a hop limit below 255, a code, a bad option, a group as target, from nobody with an address."""
    client, _ = node.router()
    here = node.address("eth0")
    group = "ff02::1:ff00:1"
    source = ICMPv6NDOptSrcLLAddr(lladdr=client.mac)
    for packet in (
        IPv6(src=client.ip, dst=group, hlim=254) / ICMPv6ND_NS(tgt=here) / source,
        IPv6(src=client.ip, dst=group, hlim=255) / ICMPv6ND_NS(tgt=here, code=1) / source,
        IPv6(src=client.ip, dst=group, hlim=255) / ICMPv6ND_NS(tgt="ff02::9") / source,
        IPv6(src="::", dst=group, hlim=255) / ICMPv6ND_NS(tgt=here) / source,
        IPv6(src="::", dst=here, hlim=255) / ICMPv6ND_NS(tgt=here),
        IPv6(src="::", dst=group, hlim=255) / ICMPv6ND_NS(tgt=here),
        IPv6(src=client.ip, dst=group, hlim=255) / ICMPv6ND_NS(tgt=here),
        IPv6(src=client.ip, dst=here, hlim=255) / ICMPv6ND_NS(tgt=here),
        IPv6(src=client.ip, dst=here, hlim=255) / ICMPv6ND_NS(tgt=node.address("eth1")) / source,
        IPv6(src=client.ip, dst=here, hlim=255) / ICMPv6ND_NS(tgt=here) / b"\x01\x00",
        IPv6(src=client.ip, dst=here, hlim=255) / ICMPv6ND_NS(tgt=here) / b"\x01\x02\x02\0\0\x01\x01\x02",
        IPv6(src="fd00:99::9", dst=group, hlim=255) / ICMPv6ND_NS(tgt=here) / source,
    ):
        client.send(packet)
