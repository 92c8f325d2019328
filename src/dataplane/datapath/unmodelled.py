"""What a host's configuration asks for and the walk does not do, each named once."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane.host.config import HostConfig, Link

# Settings of interfaces by family, with the value that the walk takes them to have. The kernel joins those of IPv4 with
# `all`: some count where either is set, some where both are.
EITHER = {
    "drop_gratuitous_arp": "0",
    "drop_unicast_in_l2_multicast": "0",
    "ignore_routes_with_linkdown": "0",
    "mc_forwarding": "0",
}
BOTH = {"bc_forwarding": "0"}
OWN = {
    4: {"medium_id": "0"},
    6: {
        "accept_source_route": "0",
        "drop_unicast_in_l2_multicast": "0",
        "drop_unsolicited_na": "0",
        "ignore_routes_with_linkdown": "0",
        "ioam6_enabled": "0",
        "mc_forwarding": "0",
        "rpl_seg_enabled": "0",
        "seg6_enabled": "0",
    },
}
SETTINGS = {
    "net.bridge.bridge-nf-filter-pppoe-tagged": "0",
    "net.bridge.bridge-nf-filter-vlan-tagged": "0",
    "net.bridge.bridge-nf-pass-vlan-input-dev": "0",
    "net.ipv4.fib_multipath_use_neigh": "0",
    "net.ipv4.icmp_echo_enable_probe": "0",
    "net.ipv6.flowlabel_reflect": "0",
    "net.ipv6.fwmark_reflect": "0",
    "net.ipv6.icmp.echo_ignore_all": "0",
    "net.ipv6.icmp.echo_ignore_anycast": "0",
    "net.ipv6.icmp.echo_ignore_multicast": "0",
    "net.ipv6.icmp.error_anycast_as_unicast": "0",
}
PORT_SWITCHES = ("neigh_suppress", "proxy_arp", "guard", "root_block", "locked", "mcast_to_unicast", "vlan_tunnel")


def unmodelled(config: HostConfig) -> Iterator[str]:
    """One line for each thing, with the first place where it stands and how many there are."""
    found: dict[str, list[str]] = {}
    for what, where in (*_settings(config), *_links(config), *_routes(config)):
        found.setdefault(what, []).append(where)
    for what, places in found.items():
        more = f"{len(places)} times, first " if len(places) > 1 else ""
        yield f"{what} ({more}{places[0]})" if places[0] else what


def _settings(config: HostConfig) -> Iterator[tuple[str, str]]:
    values = config.sysctl
    for name, supposed in SETTINGS.items():
        if values.get(name, supposed) != supposed:
            yield f"sysctl.txt: {name} = {values[name]}", ""
    for link in config.links:
        part = link.name.replace(".", "/")
        for family, own in OWN.items():
            for key, supposed in own.items():
                if values.get(f"net.ipv{family}.conf.{part}.{key}", supposed) != supposed:
                    yield f"sysctl.txt: net.ipv{family}.conf.*.{key}", link.name
        for keys, joined in ((EITHER, any), (BOTH, all)):
            for key, supposed in keys.items():
                places = (f"net.ipv4.conf.all.{key}", f"net.ipv4.conf.{part}.{key}")
                if joined(values.get(place, supposed) != supposed for place in places):
                    yield f"sysctl.txt: net.ipv4.conf.*.{key}", link.name


def _links(config: HostConfig) -> Iterator[tuple[str, str]]:
    for link in config.links:
        for what in (*_bridge(link), *_port(link), *_vxlan(link)):
            yield f"links.json: {what}", link.name


def _bridge(link: Link) -> Iterator[str]:
    if link.bridge is None:
        return
    if link.bridge.vlan_filtering:
        yield "bridge vlan_filtering"
    if link.bridge.stp:
        yield "bridge stp_state"
    if link.bridge.mcast_snooping and _info(link).get("mcast_querier"):
        yield "bridge mcast_snooping with a querier"


def _port(link: Link) -> Iterator[str]:
    for name in PORT_SWITCHES if link.port is not None else ():
        if getattr(link.port, name):
            yield f"bridge port {name}"


def _vxlan(link: Link) -> Iterator[str]:
    vxlan = link.vxlan
    if vxlan is None:
        return
    for name in ("gpe", "rsc", "vni_filter", "limit"):
        if getattr(vxlan, name):
            yield f"vxlan {name.replace('_', '')}"
    if not vxlan.local_bypass:
        yield "vxlan nolocalbypass"


def _info(link: Link) -> dict[str, object]:
    """What `ip -details` prints of a link's kind."""
    found = (link.raw or {}).get("linkinfo", {}).get("info_data", {})
    return found if isinstance(found, dict) else {}


def _routes(config: HostConfig) -> Iterator[tuple[str, str]]:
    for route in config.routes:
        if route.source is not None:
            yield "routes.json: from, and the route is left out", str(route.destination)
        if route.hop_limit:
            yield "routes.json: hoplimit", str(route.destination)
        if route.preference != "medium":
            yield f"routes.json: pref {route.preference}", str(route.destination)
