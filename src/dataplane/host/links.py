"""Network interfaces: `ip -details -json link show`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from dataplane.host.config import Bridge, BridgePort, IPAddress, Link, Tun, Vxlan
from dataplane.host.notation import address_text, mac_text
from dataplane.host.notes import Notes
from dataplane.host.objects import Entry, keys, patch, read_objects, write_objects

__all__ = ["link_objects", "link_values", "parse", "text"]

MODELLED_KINDS = frozenset(("", "veth", "bridge", "vxlan", "dummy", "tun"))
"""Kinds that the datapath has. "" is loopback and physical."""

_CENTISECOND_NS = 10_000_000  # USER_HZ, in which the kernel gives a bridge's times
_IFNUMBER = re.compile(r"if(\d+)")


def parse(text: str, file: str = "links.json", notes: Notes | None = None) -> tuple[Link, ...]:
    """The links of `ip -details -json link show`, in the order of the file.

    DumpError names the entry and the field; a kind that the datapath does not have is kept and noted.
    """
    notes = notes or Notes()
    objects = read_objects(text, file)
    if objects and not any("promiscuity" in entry for entry in objects):
        notes.warn(f"{file}: taken without -details, so the kinds of links and their bridge or vxlan are not known")
    return link_values(objects, file, notes)


def link_values(objects: Sequence[Mapping[str, Any]], file: str, notes: Notes) -> tuple[Link, ...]:
    """The links of the tool's own objects: of `link show`, or of `address show` without its addresses."""
    entries = []
    for number, raw in enumerate(objects, 1):
        name = raw.get("ifname")
        entries.append(Entry(raw, file, f"entry {number} ({name})" if isinstance(name, str) else f"entry {number}"))
    links = []
    indexes: dict[str, int] = {}
    for entry in entries:
        name, index = entry.text("ifname"), entry.number("ifindex", most=0x7FFFFFFF)
        if name in indexes:
            raise entry.error("ifname", "two links have this name")
        if index in indexes.values() or index <= 0:
            raise entry.error("ifindex", f"{index} is not an index of its own")
        indexes[name] = index
    for entry in entries:
        links.append(_link(entry, indexes, notes))
    return tuple(links)


def _link(entry: Entry, indexes: Mapping[str, int], notes: Notes) -> Link:
    flags = frozenset(entry.words("flags"))
    info = entry.object("linkinfo")
    kind = info.text("info_kind", "")
    if kind not in MODELLED_KINDS:
        notes.unmodelled(f"{entry.file}: link of kind {kind}", entry.text("ifname"))
    link_type = entry.text("link_type", "ether")
    lower = entry.text("link", None)
    peer = entry.number("link_index", None)
    if lower is not None and peer is None:
        number = _IFNUMBER.fullmatch(lower)
        peer = indexes.get(lower, int(number[1]) if number else None)
    data = info.object("info_data")
    slave = info.text("info_slave_kind", "")
    if slave not in ("", "bridge"):
        notes.unmodelled(f"{entry.file}: port of a {slave}", entry.text("ifname"))
    return Link(
        name=entry.text("ifname"),
        kind=kind,
        index=entry.number("ifindex"),
        mac=entry.mac("address") if link_type in ("ether", "loopback") else None,
        mtu=entry.number("mtu"),
        up="UP" in flags,
        carrier="LOWER_UP" in flags,
        loopback="LOOPBACK" in flags,
        noarp="NOARP" in flags,
        point_to_point="POINTOPOINT" in flags,
        promisc="PROMISC" in flags,
        allmulti="ALLMULTI" in flags,
        broadcast="BROADCAST" in flags,
        multicast="MULTICAST" in flags,
        master=entry.text("master", None),
        device=lower if kind != "veth" else None,
        peer_index=peer,
        peer_netns=entry.number("link_netnsid", None),
        vxlan=_vxlan(data, notes) if kind == "vxlan" and "info_data" in info.raw else None,
        bridge=_bridge(data) if kind == "bridge" and "info_data" in info.raw else None,
        port=_port(info.object("info_slave_data")) if slave == "bridge" else None,
        tun=_tun(data) if kind == "tun" and "info_data" in info.raw else None,
        tx_queue_length=entry.number("txqlen", 0),
        aliases=entry.words("altnames"),
        raw=entry.raw,
    )


_VXLAN_KEYS = keys(
    "id group group6 remote remote6 local local6 link port_range port learning proxy rsc l2miss l3miss tos ttl df label"
    " ageing limit udp_csum udp_zero_csum6_tx udp_zero_csum6_rx gbp gpe external vnifilter localbypass"
)


def _vxlan(data: Entry, notes: Notes) -> Vxlan:
    data.note_unknown(_VXLAN_KEYS, notes, "vxlan ")
    ports = data.object("port_range")
    inherit = "ttl" not in data.raw or data.raw["ttl"] == "inherit"
    return Vxlan(
        vni=data.number("id", most=0xFFFFFF),
        local=data.address("local", 4) or data.address("local6", 6),
        group=_first(data, "group", "remote", "group6", "remote6"),
        device=data.text("link", None),
        port=data.number("port", most=0xFFFF),
        learning=data.true("learning", True),
        port_low=ports.number("low", 0, most=0xFFFF),
        port_high=ports.number("high", 0, most=0xFFFF),
        ttl=0 if inherit or data.raw["ttl"] == "auto" else data.number("ttl", most=0xFF),
        ttl_inherit=inherit,
        tos=1 if data.raw.get("tos") == "inherit" else data.number("tos", 0, most=0xFF),
        df=data.text("df", "unset"),
        flow_label=data.number("label", 0, most=0xFFFFF),
        ageing_ns=data.number("ageing", 0) * 1_000_000_000,
        limit=data.number("limit", 0),
        udp_checksum=data.true("udp_csum", True),
        udp6_zero_checksum_tx=data.true("udp_zero_csum6_tx"),
        udp6_zero_checksum_rx=data.true("udp_zero_csum6_rx"),
        proxy=data.true("proxy"),
        rsc=data.true("rsc"),
        l2miss=data.true("l2miss"),
        l3miss=data.true("l3miss"),
        gbp=data.true("gbp"),
        gpe=data.true("gpe"),
        external=data.true("external"),
        vni_filter=data.true("vnifilter"),
        local_bypass=data.true("localbypass", True),
    )


def _first(data: Entry, *keys: str) -> IPAddress | None:
    return next((data.address(key) for key in keys if key in data.raw), None)


def _bridge(data: Entry) -> Bridge:
    return Bridge(
        ageing_ns=data.number("ageing_time", 30000) * _CENTISECOND_NS,
        stp=data.number("stp_state", 0) != 0,
        vlan_filtering=data.true("vlan_filtering"),
        mcast_snooping=data.true("mcast_snooping", True),
        nf_call_iptables=data.true("nf_call_iptables"),
        nf_call_ip6tables=data.true("nf_call_ip6tables"),
        nf_call_arptables=data.true("nf_call_arptables"),
        group_forward_mask=data.number("group_fwd_mask", 0, most=0xFFFF),
        forward_delay_ns=data.number("forward_delay", 1500) * _CENTISECOND_NS,
        hello_time_ns=data.number("hello_time", 200) * _CENTISECOND_NS,
        max_age_ns=data.number("max_age", 2000) * _CENTISECOND_NS,
        priority=data.number("priority", 32768, most=0xFFFF),
    )


def _port(data: Entry) -> BridgePort:
    return BridgePort(
        state=data.text("state", "forwarding"),
        hairpin=data.true("hairpin"),
        learning=data.true("learning", True),
        flood=data.true("flood", True),
        mcast_flood=data.true("mcast_flood", True),
        bcast_flood=data.true("bcast_flood", True),
        isolated=data.true("isolated"),
        neigh_suppress=data.true("neigh_suppress"),
        proxy_arp=data.true("proxy_arp"),
        guard=data.true("guard"),
        root_block=data.true("root_block"),
        fastleave=data.true("fastleave"),
        locked=data.true("locked"),
        mcast_to_unicast=data.true("mcast_to_unicast"),
        vlan_tunnel=data.true("vlan_tunnel"),
        group_forward_mask=data.number("group_fwd_mask", 0, most=0xFFFF),
        priority=data.number("priority", 32, most=0x3F),
        cost=data.number("cost", 2),
    )


def _tun(data: Entry) -> Tun:
    return Tun(
        mode=data.text("type", "tun"),
        persist=data.true("persist"),
        packet_info=data.true("pi"),
        vnet_header=data.true("vnet_hdr"),
        multi_queue=data.true("multi_queue"),
    )


def text(links: Sequence[Link]) -> str:
    """What `ip -details -json link show` prints for these links."""
    return write_objects(link_objects(links))


def link_objects(links: Sequence[Link]) -> list[Mapping[str, Any]]:
    """The tool's objects of these links: as they were read where nothing has changed, patched where something has.

    For a link that was built here, what the model does not hold (queues, sizes of segmentation, timers) is what
    Linux 6.18 and iproute2 6.1 print for a fresh device of its kind.
    """
    result: list[Mapping[str, Any]] = []
    for link in links:
        after = _object(link, links)
        if link.raw is None:
            result.append(after)
            continue
        indexes = {other.name: other.index for other in links}
        was = _link(Entry(link.raw, "", ""), indexes, Notes())
        if was == link:
            result.append(link.raw)
        else:
            result.append(patch(link.raw, _object(was, links), after))
    return result


def _object(link: Link, links: Sequence[Link]) -> dict[str, Any]:
    peer = next((other for other in links if other.index == link.peer_index), None) if link.peer_index else None
    near = link.peer_netns is None
    lower_down = near and peer is not None and not peer.up
    result: dict[str, Any] = {"ifindex": link.index}
    if not near:
        result["link_index"] = link.peer_index
    elif peer is not None:
        result["link"] = peer.name
    elif link.device is not None:
        result["link"] = link.device
    elif link.peer_index:
        result["link"] = f"if{link.peer_index}"
    result["ifname"] = link.name
    result["flags"] = _flags(link, lower_down)
    result["mtu"] = link.mtu
    result["qdisc"] = _qdisc(link)
    if link.master is not None:
        result["master"] = link.master
    result["operstate"] = _operational_state(link, lower_down)
    result["linkmode"] = "DEFAULT"
    result["group"] = "default"
    if link.tx_queue_length:
        result["txqlen"] = link.tx_queue_length
    result["link_type"] = "loopback" if link.loopback else "none" if link.mac is None else "ether"
    if link.mac is not None:
        result["address"] = mac_text(link.mac)
        result["broadcast"] = "00:00:00:00:00:00" if link.loopback else "ff:ff:ff:ff:ff:ff"
    if link.peer_netns is not None:
        result["link_netnsid"] = link.peer_netns
    flooded = link.port is not None
    result["promiscuity"] = int(link.promisc) + int(flooded)
    result["allmulti"] = int(link.allmulti) + int(flooded)
    result["min_mtu"], result["max_mtu"] = _mtu_range(link)
    information = _linkinfo(link, links)
    if information:
        result["linkinfo"] = information
    result["inet6_addr_gen_mode"] = "eui64"
    result["num_tx_queues"] = result["num_rx_queues"] = 1
    result["gso_max_size"], result["gso_max_segs"] = 65536, 65535
    tunnel = link.kind in ("tun", "vxlan") and (link.vxlan is None or link.vxlan.device is None)
    result["tso_max_size"], result["tso_max_segs"] = (65536 if tunnel else 524280), 65535
    result["gro_max_size"] = 65536
    if link.aliases:
        result["altnames"] = list(link.aliases)
    return result


def _flags(link: Link, lower_down: bool) -> list[str]:
    """IFF_ names in the order of the tool (include/uapi/linux/if.h, enum net_device_flags)."""
    flags = {
        "NO-CARRIER": link.up and not link.carrier,
        "LOOPBACK": link.loopback,
        "BROADCAST": link.broadcast,
        "POINTOPOINT": link.point_to_point,
        "MULTICAST": link.multicast,
        "NOARP": link.noarp,
        "ALLMULTI": link.allmulti,
        "PROMISC": link.promisc,
        "UP": link.up,
        "LOWER_UP": link.carrier,
        "M-DOWN": lower_down,
    }
    return [name for name, is_set in flags.items() if is_set]


def _qdisc(link: Link) -> str:
    if not link.up:
        return "noop"
    return "pfifo_fast" if link.kind in ("", "tun") and not link.loopback else "noqueue"


def _operational_state(link: Link, lower_down: bool) -> str:
    if not link.up:
        return "DOWN"
    if not link.carrier:
        return "LOWERLAYERDOWN" if lower_down else "DOWN"
    return "UP" if link.kind in ("", "veth", "bridge") and not link.loopback else "UNKNOWN"


def _mtu_range(link: Link) -> tuple[int, int]:
    if link.loopback or link.kind == "dummy":
        return 0, 0
    return 68, (65521 if link.tun is not None and link.tun.mode == "tap" else 65535)


def _linkinfo(link: Link, links: Sequence[Link]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    if link.kind:
        result["info_kind"] = link.kind
    if link.vxlan is not None:
        result["info_data"] = _vxlan_object(link.vxlan)
    elif link.bridge is not None:
        result["info_data"] = _bridge_object(link.bridge, link, links)
    elif link.tun is not None:
        result["info_data"] = {
            "type": link.tun.mode,
            "pi": link.tun.packet_info,
            "vnet_hdr": link.tun.vnet_header,
            "multi_queue": link.tun.multi_queue,
            "persist": link.tun.persist,
        }
    if link.port is not None:
        result["info_slave_kind"] = "bridge"
        result["info_slave_data"] = _port_object(link.port, link, links)
    return result


def _vxlan_object(vxlan: Vxlan) -> dict[str, Any]:
    result: dict[str, Any] = {}
    if vxlan.external:
        result["external"] = True
    if vxlan.vni_filter:
        result["vnifilter"] = True
    result["id"] = vxlan.vni
    if vxlan.group is not None:
        name = "group" if vxlan.group.is_multicast else "remote"
        result[name if vxlan.group.version == 4 else name + "6"] = address_text(vxlan.group)
    if vxlan.local is not None:
        result["local" if vxlan.local.version == 4 else "local6"] = address_text(vxlan.local)
    if vxlan.device is not None:
        result["link"] = vxlan.device
    result["port_range"] = {"low": vxlan.port_low, "high": vxlan.port_high}
    result["port"] = vxlan.port
    result["learning"] = vxlan.learning
    for name in ("proxy", "rsc", "l2miss", "l3miss"):
        if getattr(vxlan, name):
            result[name] = True
    if vxlan.tos:
        result["tos"] = hex(vxlan.tos)
    if not vxlan.ttl_inherit:
        result["ttl"] = vxlan.ttl
    result["df"] = vxlan.df
    if vxlan.flow_label:
        result["label"] = hex(vxlan.flow_label)
    if vxlan.ageing_ns:
        result["ageing"] = vxlan.ageing_ns // 1_000_000_000
    if vxlan.limit:
        result["limit"] = vxlan.limit
    result["udp_csum"] = vxlan.udp_checksum
    result["udp_zero_csum6_tx"] = vxlan.udp6_zero_checksum_tx
    result["udp_zero_csum6_rx"] = vxlan.udp6_zero_checksum_rx
    for name in ("gbp", "gpe"):
        if getattr(vxlan, name):
            result[name] = True
    if not vxlan.local_bypass:
        result["localbypass"] = False
    return result


_ZERO = Decimal("0.00")


def _identity(link: Link | None) -> str:
    """A bridge's identifier: its priority and MAC, the octets without leading zeros (IEEE 802.1D, 9.2.5)."""
    priority = 0x8000 if link is None or link.bridge is None else link.bridge.priority
    octets = ((link.mac if link else 0) or 0).to_bytes(6)
    return f"{priority:04x}." + ":".join(f"{octet:x}" for octet in octets)


def _bridge_object(bridge: Bridge, link: Link, links: Sequence[Link]) -> dict[str, Any]:
    empty = not any(other.master == link.name for other in links)
    identity = _identity(replace(link, mac=0) if empty and not link.up else link)
    return {
        "forward_delay": bridge.forward_delay_ns // _CENTISECOND_NS,
        "hello_time": bridge.hello_time_ns // _CENTISECOND_NS,
        "max_age": bridge.max_age_ns // _CENTISECOND_NS,
        "ageing_time": bridge.ageing_ns // _CENTISECOND_NS,
        "stp_state": int(bridge.stp),
        "priority": bridge.priority,
        "vlan_filtering": int(bridge.vlan_filtering),
        "bridge_id": identity,
        "root_id": identity,
        "root_port": 0,
        "root_path_cost": 0,
        "topology_change": 0,
        "topology_change_detected": 0,
        "hello_timer": _ZERO,
        "tcn_timer": _ZERO,
        "topology_change_timer": _ZERO,
        "gc_timer": _ZERO,
        "group_fwd_mask": f"{bridge.group_forward_mask:#x}" if bridge.group_forward_mask else "0",
        "group_addr": "01:80:c2:00:00:00",
        "mcast_snooping": int(bridge.mcast_snooping),
        "no_linklocal_learn": 0,
        "mcast_vlan_snooping": 0,
        "mcast_router": 1,
        "mcast_query_use_ifaddr": 0,
        "mcast_querier": 0,
        "mcast_hash_elasticity": 16,
        "mcast_hash_max": 4096,
        "mcast_last_member_cnt": 2,
        "mcast_startup_query_cnt": 2,
        "mcast_last_member_intvl": 100,
        "mcast_membership_intvl": 26000,
        "mcast_querier_intvl": 25500,
        "mcast_query_intvl": 12500,
        "mcast_query_response_intvl": 1000,
        "mcast_startup_query_intvl": 3124,
        "mcast_stats_enabled": 0,
        "mcast_igmp_version": 2,
        "mcast_mld_version": 1,
        "nf_call_iptables": int(bridge.nf_call_iptables),
        "nf_call_ip6tables": int(bridge.nf_call_ip6tables),
        "nf_call_arptables": int(bridge.nf_call_arptables),
    }


def _port_object(port: BridgePort, link: Link, links: Sequence[Link]) -> dict[str, Any]:
    # The kernel numbers ports by the order in which they joined; the order of indexes is as good as we know.
    joined = sorted(other.index for other in links if other.master == link.master)
    number = joined.index(link.index) + 1 if link.index in joined else 1
    master = next((other for other in links if other.name == link.master), None)
    identity = _identity(master)
    mask = port.group_forward_mask
    return {
        "state": port.state,
        "priority": port.priority,
        "cost": port.cost,
        "hairpin": port.hairpin,
        "guard": port.guard,
        "root_block": port.root_block,
        "fastleave": port.fastleave,
        "learning": port.learning,
        "flood": port.flood,
        "id": hex(port.priority << 10 | number),
        "no": hex(number),
        "designated_port": port.priority << 10 | number,
        "designated_cost": 0,
        "bridge_id": identity,
        "root_id": identity,
        "hold_timer": _ZERO,
        "message_age_timer": _ZERO,
        "forward_delay_timer": _ZERO,
        "topology_change_ack": 0,
        "config_pending": 0,
        "proxy_arp": port.proxy_arp,
        "proxy_arp_wifi": False,
        "multicast_router": 1,
        "mcast_flood": port.mcast_flood,
        "bcast_flood": port.bcast_flood,
        "mcast_to_unicast": port.mcast_to_unicast,
        "neigh_suppress": port.neigh_suppress,
        "group_fwd_mask": f"{mask:#x}" if mask else "0",
        "group_fwd_mask_str": f"{mask:#x}",
        "vlan_tunnel": port.vlan_tunnel,
        "isolated": port.isolated,
        "locked": port.locked,
    }
