"""A Linux host as frozen values: what `ip`, `bridge`, `ipset`, `sysctl` and `conntrack` print about one namespace.

Every value has sensible defaults, so that an agent builds it in few words, and every value that was read from a real
tool's text keeps that text in `raw`, so that printing gives it back. `raw` takes no part in comparison. Change a value
with `dataclasses.replace` or `with_`: what changed is then patched into the text, and the rest of it stays.

Units: times in nanoseconds where the name ends in `_ns`, else in seconds; MACs are integers of 48 bits, first octet on
the wire highest; addresses are `ipaddress` objects; tables, marks, metrics are host-order integers.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from dataplane.host.conntrack import ConnectionRow, ConnectionTuple
from dataplane.host.ipset import IpSet, IpSetEntry
from dataplane.host.ipvs import IpvsTimeouts, RealServer, VirtualService
from dataplane.host.notation import mac_number, mac_text
from dataplane.host.sysctl import Sysctl

if TYPE_CHECKING:
    from dataplane.host.iptables import Ruleset

__all__ = [
    "TABLE_DEFAULT",
    "TABLE_LOCAL",
    "TABLE_MAIN",
    "Address",
    "Bridge",
    "BridgePort",
    "ConnectionRow",
    "ConnectionTuple",
    "FdbEntry",
    "HostConfig",
    "IPAddress",
    "IPInterface",
    "IPNetwork",
    "IpSet",
    "IpSetEntry",
    "IpvsTimeouts",
    "Link",
    "Neighbour",
    "NextHop",
    "PolicyRule",
    "Raw",
    "RealServer",
    "Route",
    "Tun",
    "VirtualService",
    "Vxlan",
    "mac_number",
    "mac_text",
]

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IPInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Raw = Mapping[str, Any]
"""A tool's own JSON object. Read it, never change it."""

TABLE_DEFAULT, TABLE_MAIN, TABLE_LOCAL = 253, 254, 255
"""Routing tables that have names of their own (include/uapi/linux/rtnetlink.h, enum rt_class_t)."""

FOREVER = 0xFFFFFFFF
"""The lifetime of an address that does not expire, in seconds."""


@dataclass(frozen=True, slots=True)
class Vxlan:
    """What `ip -details link` prints of a vxlan device (drivers/net/vxlan). Defaults are those of `ip link add`."""

    vni: int
    local: IPAddress | None = None  # outer source, either family
    group: IPAddress | None = None  # default remote: unicast or multicast, either family
    device: str | None = None  # lower device
    port: int = 8472  # UDP destination; Linux's own default, IANA's is 4789
    learning: bool = True
    port_low: int = 0  # UDP source range [low, high); 0, 0 takes ip_local_port_range
    port_high: int = 0
    ttl: int = 0  # outer TTL; 0 takes the route's, for multicast 1
    ttl_inherit: bool = False
    tos: int = 0  # outer TOS; 1 takes the inner packet's
    df: str = "unset"  # unset, set, inherit
    flow_label: int = 0
    ageing_ns: int = 300_000_000_000  # of learnt entries
    limit: int = 0  # learnt entries at most; 0: no limit
    udp_checksum: bool = True  # outer IPv4
    udp6_zero_checksum_tx: bool = False
    udp6_zero_checksum_rx: bool = False
    proxy: bool = False
    rsc: bool = False
    l2miss: bool = False
    l3miss: bool = False
    gbp: bool = False
    gpe: bool = False
    external: bool = False  # metadata mode: the tunnel's key comes with each packet
    vni_filter: bool = False
    local_bypass: bool = True


@dataclass(frozen=True, slots=True)
class Bridge:
    """What `ip -details link` prints of a bridge. Its own MAC is the link's."""

    ageing_ns: int = 300_000_000_000
    stp: bool = False
    vlan_filtering: bool = False
    mcast_snooping: bool = True
    nf_call_iptables: bool = False  # this bridge alone; the sysctls bridge-nf-call-* are for all
    nf_call_ip6tables: bool = False
    nf_call_arptables: bool = False
    group_forward_mask: int = 0  # bit X: forward 01:80:c2:00:00:0X
    forward_delay_ns: int = 15_000_000_000
    hello_time_ns: int = 2_000_000_000
    max_age_ns: int = 20_000_000_000
    priority: int = 32768


@dataclass(frozen=True, slots=True)
class BridgePort:
    """What `ip -details link` prints of a bridge's port (info_slave_data)."""

    state: str = "forwarding"  # disabled, listening, learning, forwarding, blocking
    hairpin: bool = False
    learning: bool = True
    flood: bool = True  # unknown unicast
    mcast_flood: bool = True
    bcast_flood: bool = True
    isolated: bool = False
    neigh_suppress: bool = False
    proxy_arp: bool = False
    guard: bool = False
    root_block: bool = False
    fastleave: bool = False
    locked: bool = False
    mcast_to_unicast: bool = False
    vlan_tunnel: bool = False
    group_forward_mask: int = 0
    priority: int = 32
    cost: int = 2


@dataclass(frozen=True, slots=True)
class Tun:
    """What `ip -details link` prints of a tun or tap device (drivers/net/tun.c)."""

    mode: str = "tun"  # tun: layer 3, tap: Ethernet
    persist: bool = True
    packet_info: bool = False
    vnet_header: bool = False
    multi_queue: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """One network interface.

    kind is the kernel's (veth, bridge, vxlan, dummy, tun, ...), "" for loopback and physical devices. An index of 0 is
    given out by HostConfig. A veth whose other end is in this namespace has peer_index only; one whose other end is
    elsewhere has peer_netns, this namespace's number (nsid) for that other namespace, too.
    A link that is not up has no carrier, whatever was asked for: the kernel shows it so.
    """

    name: str
    kind: str = ""
    index: int = 0
    mac: int | None = None  # None: the device has no link-layer address
    mtu: int = 1500
    up: bool = True  # IFF_UP
    carrier: bool = True  # IFF_LOWER_UP
    loopback: bool = False
    noarp: bool = False
    point_to_point: bool = False
    promisc: bool = False
    allmulti: bool = False
    broadcast: bool = True  # IFF_BROADCAST
    multicast: bool = True  # IFF_MULTICAST
    master: str | None = None
    device: str | None = None  # the lower device of vlan, macvlan, ...: in this namespace
    peer_index: int | None = None  # IFLA_LINK
    peer_netns: int | None = None  # IFLA_LINK_NETNSID
    vxlan: Vxlan | None = None
    bridge: Bridge | None = None
    port: BridgePort | None = None
    tun: Tun | None = None
    tx_queue_length: int = 1000
    aliases: tuple[str, ...] = ()  # alternative names
    raw: Raw | None = field(default=None, compare=False, repr=False)
    raw_address: Raw | None = field(default=None, compare=False, repr=False)  # its head in addresses.json

    def __post_init__(self) -> None:
        if not self.up and self.carrier:
            object.__setattr__(self, "carrier", False)

    @classmethod
    def lo(cls, up: bool = True) -> Self:
        """The loopback device as every namespace has it."""
        return cls("lo", mac=0, mtu=65536, up=up, loopback=True, broadcast=False, multicast=False)

    @classmethod
    def dummy(cls, name: str, mac: int | None, **more: Any) -> Self:
        """A dummy device: no ARP, no multicast, as the kernel makes it."""
        return cls(name, "dummy", mac=mac, noarp=True, multicast=False, **more)

    @classmethod
    def tunnel(cls, name: str, mac: int | None = None, persist: bool = True, **more: Any) -> Self:
        """A tap device where a MAC is given, else a tun device (layer 3, point to point, no ARP)."""
        if mac is not None:
            return cls(name, "tun", mac=mac, tun=Tun("tap", persist), **more)
        flags = {"noarp": True, "point_to_point": True, "broadcast": False, "tx_queue_length": 500}
        return cls(name, "tun", tun=Tun("tun", persist), **{**flags, **more})

    @property
    def ethernet(self) -> bool:
        """Whether frames on it have an Ethernet header."""
        return self.mac is not None and not self.loopback

    def with_(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Address:
    """One address of an interface (`ip address show`)."""

    interface: str
    address: IPInterface
    scope: str = "global"  # global, site, link, host, nowhere or a number
    label: str | None = None  # IPv4 only; None: the interface's name
    secondary: bool = False
    peer: IPInterface | None = None  # other end of a point-to-point address, with the prefix length
    broadcast: ipaddress.IPv4Address | None = None
    flags: tuple[str, ...] = ()  # tentative, nodad, noprefixroute, deprecated, dadfailed, dynamic, mngtmpaddr, ...
    valid_lifetime: int = FOREVER  # seconds
    preferred_lifetime: int = FOREVER
    metric: int = 0  # of the connected route; 0: the kernel's own
    raw: Raw | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, interface: str, address: str | IPInterface, **more: Any) -> Self:
        """`Address.of("cni0", "10.244.1.1/24")`. A link-local or loopback address gets its scope."""
        value = ipaddress.ip_interface(address)
        if "scope" not in more:
            if value.ip.is_loopback:
                more["scope"] = "host"
            elif value.version == 6 and value.ip.is_link_local:
                more["scope"] = "link"
        return cls(interface, value, **more)

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.address.version


@dataclass(frozen=True, slots=True)
class NextHop:
    """One way out of a route. The gateway may be of the other family (an IPv6 gateway of an IPv4 route)."""

    gateway: IPAddress | None = None
    device: str | None = None
    weight: int = 1
    onlink: bool = False
    linkdown: bool = False
    dead: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """One route (`ip route show table all`).

    type: unicast, local, broadcast, anycast, multicast, blackhole, unreachable, prohibit, throw, nat, xresolve.
    priority is what `ip` calls metric. A unicast IPv6 route of a user has 1024 where none was asked for.
    protocol: boot (the default of `ip` and netlink), kernel, static, ra, dhcp, bird, ... or a number as text.
    """

    destination: IPNetwork
    nexthops: tuple[NextHop, ...] = ()
    table: int = TABLE_MAIN
    type: str = "unicast"
    priority: int = 0
    tos: int = 0
    scope: str = "global"  # IPv4; an IPv6 route has the scope global
    prefsrc: IPAddress | None = None
    source: IPNetwork | None = None  # IPv6 source-specific routes (`from`)
    protocol: str = "boot"
    mtu: int = 0  # 0: the device's
    advmss: int = 0
    hop_limit: int = 0  # 0: the sysctl's
    preference: str = "medium"  # IPv6 router preference
    nexthop_id: int = 0
    flags: tuple[str, ...] = ()  # what NextHop does not hold: cache, offload, pervasive, ...
    raw: Raw | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(
        cls,
        destination: str | IPNetwork,
        device: str | None = None,
        via: str | IPAddress | None = None,
        onlink: bool = False,
        **more: Any,
    ) -> Self:
        """`Route.of("10.244.2.0/24", "flannel.1", "10.244.2.0", onlink=True)`; scope and metric as `ip route add` sets.

        destination may be "default" (IPv4) or "::/0". more: fields of Route; prefsrc may be text.
        """
        network = ipaddress.ip_network("0.0.0.0/0" if destination == "default" else destination)
        gateway = None if via is None else ipaddress.ip_address(via)
        kind = more.get("type", "unicast")
        if network.version == 6 and device is None and kind in ("blackhole", "unreachable", "prohibit", "throw"):
            device = "lo"  # where the kernel hangs them
        if isinstance(more.get("prefsrc"), str):
            more["prefsrc"] = ipaddress.ip_address(more["prefsrc"])
        if network.version == 6:
            more.setdefault("priority", 1024)
        elif kind in ("local", "nat"):
            more.setdefault("scope", "host")
        elif kind in ("broadcast", "multicast", "anycast") or (
            kind == "unicast" and gateway is None and not more.get("nexthops")
        ):
            more.setdefault("scope", "link")
        if device is not None or gateway is not None:
            more["nexthops"] = (NextHop(gateway, device, onlink=onlink),)
        return cls(network, **more)

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.destination.version


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """One rule of the routing policy (`ip rule show`). Lower priority numbers are looked at first.

    action: lookup (in `table`), goto (the rule of priority `goto`), nop, blackhole, unreachable, prohibit.
    """

    priority: int
    family: int = 4
    table: int = TABLE_MAIN
    action: str = "lookup"
    source: IPNetwork | None = None  # None: all
    destination: IPNetwork | None = None
    fwmark: int | None = None
    fwmask: int = 0xFFFFFFFF
    iif: str | None = None
    oif: str | None = None
    invert: bool = False  # `not`
    tos: int = 0
    goto: int = 0
    ip_protocol: int = 0
    source_ports: tuple[int, int] | None = None  # first, last
    destination_ports: tuple[int, int] | None = None
    uid_range: tuple[int, int] | None = None
    suppress_prefix_length: int | None = None
    suppress_group: str | None = None
    l3mdev: bool = False
    tunnel_id: int = 0
    protocol: str = "kernel"  # who made it; the tool prints nothing for kernel and for its own default
    raw: Raw | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One entry of the neighbour table (`ip neighbour show`), or a proxy entry (`ip neighbour show proxy`).

    state: NUD names in capitals: PERMANENT, NOARP, REACHABLE, STALE, DELAY, PROBE, INCOMPLETE, FAILED; () for proxy.
    """

    interface: str
    address: IPAddress
    mac: int | None = None
    state: tuple[str, ...] = ("PERMANENT",)
    router: bool = False
    proxy: bool = False
    managed: bool = False
    extern_learn: bool = False
    raw: Raw | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, interface: str, address: str | IPAddress, mac: str | int | None = None, **more: Any) -> Self:
        """`Neighbour.of("flannel.1", "10.244.2.0", "02:42:0a:f4:02:00")`; without a MAC a proxy entry."""
        number = mac_number(mac) if isinstance(mac, str) else mac
        if number is None:
            more.setdefault("proxy", True)
            more.setdefault("state", ())
        return cls(interface, ipaddress.ip_address(address), number, **more)

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.address.version


@dataclass(frozen=True, slots=True)
class Groups:
    """The multicast groups that an interface has joined, of both families."""

    interface: str
    addresses: tuple[IPAddress, ...] = ()
    index: int = 0
    raw: Raw | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class FdbEntry:
    """One forwarding entry of a bridge (master set), of a vxlan device (dst set), or a device's own filter (self_).

    state: permanent, static, stale, or "" for a learnt one in use. vni, port, via: None where the device's own.
    """

    mac: int
    interface: str
    master: str | None = None
    dst: IPAddress | None = None
    vni: int | None = None
    source_vni: int | None = None
    port: int | None = None
    via: str | None = None  # outgoing lower device
    vlan: int | None = None
    nexthop_id: int | None = None
    self_: bool = False
    flags: tuple[str, ...] = ()  # offload, extern_learn, sticky, router, locked: without self and master
    state: str = "permanent"
    raw: Raw | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, mac: str | int, interface: str, dst: str | IPAddress | None = None, **more: Any) -> Self:
        """`FdbEntry.of("02:42:0a:f4:02:00", "flannel.1", "192.168.1.12")`: self is set where no master is given."""
        number = mac_number(mac) if isinstance(mac, str) else mac
        more.setdefault("self_", more.get("master") is None)
        return cls(number, interface, dst=None if dst is None else ipaddress.ip_address(dst), **more)


@dataclass(frozen=True, slots=True)
class HostConfig:
    """The configuration of one Linux network namespace, and its state where a dump has it.

    unmodelled names what was read and kept but is not modelled; warnings, what was odd. Neither takes part in
    comparison. `sysctl` may be given as any mapping of names to texts; `settings` is the same with typed accessors.
    """

    name: str = ""
    links: tuple[Link, ...] = ()
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    rules: tuple[PolicyRule, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    groups: tuple[Groups, ...] | None = None  # None: nobody said; what addresses and forwarding imply is joined
    fdb: tuple[FdbEntry, ...] = ()
    iptables: Ruleset | None = None
    ip6tables: Ruleset | None = None
    ipsets: tuple[IpSet, ...] = ()
    sysctl: Mapping[str, str] = field(default_factory=Sysctl)
    connections: tuple[ConnectionRow, ...] = ()
    ipvs: tuple[VirtualService, ...] = ()
    ipvs_timeouts: IpvsTimeouts = field(default_factory=IpvsTimeouts)
    kept: Mapping[str, str] = field(default_factory=dict)  # files of a dump that are kept as text: nftables.json
    unmodelled: tuple[str, ...] = field(default=(), compare=False)
    warnings: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        for name in ("links", "addresses", "routes", "rules", "neighbours", "fdb", "ipsets", "connections", "ipvs"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not isinstance(self.sysctl, Sysctl):
            object.__setattr__(self, "sysctl", Sysctl(self.sysctl))
        if any(link.index == 0 for link in self.links):
            object.__setattr__(self, "links", _numbered(self.links))

    @property
    def settings(self) -> Sysctl:
        """The sysctls with typed accessors and the kernel's defaults."""
        assert isinstance(self.sysctl, Sysctl)
        return self.sysctl

    def link(self, name: str) -> Link | None:
        """The link of this name or alternative name, or None."""
        return next((link for link in self.links if link.name == name or name in link.aliases), None)

    def with_(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def completed(self) -> Self:
        """This configuration with what the kernel itself adds to it.

        MACs that were not given, addresses of `lo`, IPv6 link-local addresses, connected, local and broadcast routes,
        the standard policy rules. What is there already stays.
        """
        from dataplane.host.implied import complete

        return complete(self)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a host's dump: a folder of what the real tools print; any file may be missing.

        DumpError names the file, the entry or line, and the field where a text does not parse or where entries do not
        fit together (an address on an unknown link, a route to an unknown device, a master that is no bridge).
        """
        from dataplane.host.dump import load

        return load(cls, Path(folder))

    def save(self, folder: str | Path) -> None:
        """Write the same files; the folder is made where it is not there. Files of empty parts are written too."""
        from dataplane.host.dump import save

        save(self, Path(folder))


def _numbered(links: tuple[Link, ...]) -> tuple[Link, ...]:
    """Links without an index get the next free one; a loopback that is not numbered gets 1, as in every namespace."""
    used = {link.index for link in links}
    result = []
    following = max(used, default=0)
    if not used - {0}:
        following = 1 if any(link.loopback for link in links) else 0
    for link in links:
        index = link.index
        if index == 0 and link.loopback and 1 not in used:
            index = 1
        elif index == 0:
            following += 1
            index = following
        used.add(index)
        result.append(replace(link, index=index))
    return tuple(result)
