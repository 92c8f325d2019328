"""Random hosts: ports, bridges, tunnels, addresses, routes, policy rules, settings; and who lives behind each port."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

PORTS = (22, 53, 80, 443, 4000, 8080, 30080)
VIPS = {4: ("10.96.0.10", "10.96.0.11"), 6: ("fd00:96::a", "fd00:96::b")}


@dataclass(frozen=True, slots=True)
class Place:
    """A far end behind a port: where it sends from, and to which MAC address."""

    port: str
    mac: str
    gateway: str
    addresses: dict[int, tuple[str, ...]]
    number: int


@dataclass(slots=True)
class Drawn:
    """A host as lines of a case, and what senders and rules must know of it."""

    lines: list[str] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    own: dict[int, list[str]] = field(default_factory=lambda: {4: [], 6: []})
    interfaces: list[str] = field(default_factory=list)
    networks: dict[int, list[str]] = field(default_factory=lambda: {4: [], 6: []})
    listening: list[tuple[str, int]] = field(default_factory=list)
    # VXLAN: (underlay port's place, the node's outer address, the inner MAC addresses here and there)
    tunnel: Tunnel | None = None
    source_routes: bool = False  # whether senders use them

    def targets(self, family: int) -> list[str]:
        """Every address that somebody has, or nobody."""
        far = [address for place in self.places for address in place.addresses[family]]
        nobody = ["10.250.0.1", "172.16.5.5"] if family == 4 else ["fd00:250::1", "2001:db8::5"]
        return [*far, *far, *self.own[family], *VIPS[family], *nobody]


@dataclass(frozen=True, slots=True)
class Tunnel:
    place: Place
    outer: str
    inner_mac: str
    far_mac: str
    far: dict[int, str]
    vni: int = 1
    port: int = 8472


def _far(number: int, last: int) -> tuple[str, str]:
    return f"10.0.{number}.{last}", f"fd00:{number}::{last:x}"


def _ends(drawn: Drawn, number: int, port: str, device: str, gateway: str, last: int) -> Place:
    """A neighbour of the node with an address of each family."""
    four, six = _far(number, last)
    mac = f"02:00:00:01:{number:02x}:{last:02x}"
    for address in (four, six):
        dash = "-6 " if ":" in address else ""
        drawn.lines.append(f"ip {dash}neigh add {address} lladdr {mac} dev {device} nud permanent")
    place = Place(port, mac, gateway, {4: (four,), 6: (six,)}, len(drawn.places))
    drawn.places.append(place)
    return place


def _behind(random: Random, drawn: Drawn, place: Place, number: int, device: str) -> None:
    """Networks that the place is the gateway to."""
    four, six = place.addresses[4][0], place.addresses[6][0]
    mtu = random.choice(["", "", "", " mtu 1300"])
    drawn.lines.append(f"ip route add 10.1.{number}.0/24 via {four} dev {device}{mtu}")
    drawn.lines.append(f"ip -6 route add fd00:1:{number}::/64 via {six} dev {device}{mtu}")
    drawn.networks[4].append(f"10.1.{number}.0/24")
    drawn.networks[6].append(f"fd00:1:{number}::/64")
    place.addresses[4] += (f"10.1.{number}.7",)
    place.addresses[6] += (f"fd00:1:{number}::7",)


def host(random: Random) -> Drawn:
    drawn = Drawn()
    links = random.randint(2, 4)
    for number in range(1, links + 1):
        name = f"eth{number - 1}"
        mac = f"02:00:00:00:00:{number:02x}"
        mtu = random.choice([1500, 1500, 1500, 1400, 9000])
        drawn.lines.append(f"port {name} {mac} mtu {mtu}")
        drawn.interfaces.append(name)
        _addresses(drawn, number, name)
        place = _ends(drawn, number, name, name, mac, 2)
        if random.random() < 0.6:
            _behind(random, drawn, place, number, name)
        if random.random() < 0.3:
            _ends(drawn, number, name, name, mac, 3)
    if random.random() < 0.5:
        _bridge(random, drawn, links + 1)
    if random.random() < 0.35:
        _vxlan(random, drawn)
    _routes(random, drawn)
    _settings(random, drawn)
    for protocol, port in (("udp", 53), ("tcp", 80), ("tcp", 443)):
        if random.random() < 0.3:
            drawn.lines.append(f"listen {protocol} {port}")
            drawn.listening.append((protocol, port))
    for name in drawn.interfaces:
        for group in ("224.0.0.5", "ff02::5", "ff05::2"):
            if random.random() < 0.2:
                drawn.lines.append(f"join {name} {group}")
    return drawn


def _addresses(drawn: Drawn, number: int, device: str) -> None:
    four, six = _far(number, 1)
    drawn.lines.append(f"ip addr add {four}/24 dev {device}")
    drawn.lines.append(f"ip addr add {six}/64 dev {device}")
    drawn.own[4].append(four)
    drawn.own[6].append(six)
    drawn.networks[4].append(f"10.0.{number}.0/24")
    drawn.networks[6].append(f"fd00:{number}::/64")


def _bridge(random: Random, drawn: Drawn, number: int) -> None:
    mac = "02:00:00:00:00:b0"
    drawn.lines.append(f"ip link add cni0 address {mac} type bridge stp_state 0 mcast_snooping {random.randrange(2)}")
    drawn.lines.append("ip link set cni0 up")
    drawn.interfaces.append("cni0")
    _addresses(drawn, number, "cni0")
    for member in range(random.randint(1, 3)):
        name = f"veth{member}"
        drawn.lines.append(f"port {name} 02:00:00:00:0b:{member + 1:02x} mtu 1500 master cni0")
        drawn.interfaces.append(name)
        if random.random() < 0.5:
            drawn.lines.append(f"bridge link set dev {name} hairpin on")
        _ends(drawn, number, name, "cni0", mac, 10 + member)


def _vxlan(random: Random, drawn: Drawn) -> None:
    here, there = "02:00:00:00:0f:01", "02:00:00:00:0f:02"
    place = drawn.places[0]
    drawn.lines += [
        f"ip link add flannel.1 address {here} mtu 1450 type vxlan id 1 local {drawn.own[4][0]} dev {place.port} "
        "dstport 8472 nolearning",
        "ip link set flannel.1 up",
        "ip addr add 10.244.1.0/32 dev flannel.1",
        f"ip neigh add 10.244.2.0 lladdr {there} dev flannel.1 nud permanent",
        "ip route add 10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink",
        "ip addr add fd00:244:1::/128 dev flannel.1",
        f"ip -6 neigh add fd00:244:2:: lladdr {there} dev flannel.1 nud permanent",
        "ip -6 route add fd00:244:2::/64 via fd00:244:2:: dev flannel.1 onlink",
        f"bridge fdb append {there} dev flannel.1 dst {place.addresses[4][0]} self permanent",
    ]
    drawn.interfaces.append("flannel.1")
    drawn.own[4].append("10.244.1.0")
    drawn.own[6].append("fd00:244:1::")
    drawn.networks[4].append("10.244.2.0/24")
    drawn.networks[6].append("fd00:244:2::/64")
    drawn.tunnel = Tunnel(place, drawn.own[4][0], here, there, {4: "10.244.2.3", 6: "fd00:244:2::3"})


def _routes(random: Random, drawn: Drawn) -> None:
    """Defaults, holes, another table and the rules that lead to it."""
    lines = drawn.lines
    for dash, family in (("", 4), ("-6 ", 6)):
        gateways = [place.addresses[family][0] for place in drawn.places]
        if random.random() < 0.5:
            lines.append(f"ip {dash}route add default via {random.choice(gateways)}")
        holes = {4: ["172.16.0.0/16", "10.250.0.0/24", "10.96.0.0/24"], 6: ["2001:db8::/32", "fd00:250::/64"]}[family]
        for network in holes:
            if random.random() < 0.25:
                kind = random.choice(["blackhole", "unreachable", "prohibit"])
                lines.append(f"ip {dash}route add {kind} {network}")
        if random.random() < 0.35:
            lines.append(f"ip {dash}route add default via {random.choice(gateways)} table 100")
            for network in random.sample(drawn.networks[family], k=1):
                if random.random() < 0.5:
                    kind = random.choice(["blackhole", "unreachable", "prohibit", "throw"])
                    lines.append(f"ip {dash}route add {kind} {network} table 100")
            for _ in range(random.randint(1, 2)):
                lines.append(f"ip {dash}rule add {_selector(random, drawn, family)}")


def _selector(random: Random, drawn: Drawn, family: int) -> str:
    port = random.choice(PORTS)
    said = random.choice(
        [
            f"from {random.choice(drawn.networks[family])}",
            f"to {random.choice(drawn.networks[family])}",
            f"iif {random.choice(drawn.interfaces)}",
            "fwmark 0x1",
            "fwmark 0x4000/0x4000",
            f"ipproto udp dport {port}",
            f"ipproto tcp sport {port}",
            "tos 0x10",
            f"not from {random.choice(drawn.networks[family])}",
        ]
    )
    action = random.choice(["lookup 100", "lookup 100", "lookup 100", "blackhole", "prohibit", "unreachable"])
    return f"{said} {action} pref {random.randint(1, 30000)}"


TIMEOUTS = (
    *(f"{name}_timeout" for name in ("udp", "icmp", "icmpv6", "generic", "gre")),
    *(
        f"tcp_timeout_{state}"
        for state in ("syn_sent", "syn_recv", "established", "fin_wait", "close_wait", "last_ack")
    ),
    *(f"tcp_timeout_{state}" for state in ("time_wait", "close", "unacknowledged")),
    *(f"sctp_timeout_{state}" for state in ("closed", "cookie_wait", "cookie_echoed", "established")),
    "udp_timeout_stream",
    "gre_timeout_stream",
)


def _settings(random: Random, drawn: Drawn) -> None:
    """Settings that change what happens to packets. Probing of neighbours is put off until long after a case."""
    lines = drawn.lines
    for family in (4, 6):
        for interface in drawn.interfaces:
            name = interface.replace(".", "/")
            lines.append(f"sysctl net.ipv{family}.neigh.{name}.retrans_time_ms = 100000")
            lines.append(f"sysctl net.ipv{family}.neigh.{name}.proxy_delay = 0")
            lines.append(f"sysctl net.ipv{family}.neigh.{name}.delay_first_probe_time = 100")
    sometimes = [
        ("net.ipv4.ip_forward", "0", 0.04),
        ("net.ipv6.conf.all.forwarding", "0", 0.04),
        ("net.ipv4.conf.all.rp_filter", "1", 0.1),
        ("net.ipv4.conf.all.rp_filter", "2", 0.1),
        ("net.ipv4.conf.all.route_localnet", "1", 0.1),
        ("net.ipv4.conf.all.accept_local", "1", 0.1),
        ("net.ipv4.ip_forward_use_pmtu", "1", 0.1),
        ("net.ipv4.icmp_errors_use_inbound_ifaddr", "1", 0.1),
        ("net.ipv4.icmp_echo_ignore_all", "1", 0.05),
        ("net.ipv4.icmp_echo_ignore_broadcasts", "0", 0.1),
        ("net.ipv4.ip_no_pmtu_disc", "1", 0.05),
        ("net.ipv4.ip_default_ttl", "77", 0.1),
        ("net.ipv4.conf.all.arp_ignore", "1", 0.1),
        ("net.ipv4.conf.all.proxy_arp", "1", 0.05),
        ("net.netfilter.nf_conntrack_tcp_loose", "0", 0.1),
        ("net.netfilter.nf_conntrack_tcp_be_liberal", "1", 0.15),
        ("net.netfilter.nf_conntrack_checksum", "0", 0.1),
        ("net.netfilter.nf_conntrack_tcp_ignore_invalid_rst", "1", 0.1),
        ("net.netfilter.nf_conntrack_acct", "0", 0.05),
        ("net.bridge.bridge-nf-call-iptables", "0", 0.15),
        ("net.bridge.bridge-nf-call-ip6tables", "0", 0.15),
        ("net.bridge.bridge-nf-call-arptables", "0", 0.1),
    ]
    drawn.source_routes = random.random() < 0.3
    if drawn.source_routes and random.random() < 0.8:
        for name in ("all", *(name.replace(".", "/") for name in drawn.interfaces)):
            lines.append(f"sysctl net.ipv4.conf.{name}.accept_source_route = 1")
    for name in ("all", *(name.replace(".", "/") for name in drawn.interfaces)):
        if random.random() < 0.03:
            lines.append(f"sysctl net.ipv6.conf.{name}.accept_source_route = {random.choice([0, 1])}")
    lines += [f"sysctl {name} = {value}" for name, value, chance in sometimes if random.random() < chance]
    if random.random() < 0.1:
        lines += [f"sysctl net.netfilter.nf_conntrack_{name} = {random.choice([1, 2])}" for name in TIMEOUTS]
