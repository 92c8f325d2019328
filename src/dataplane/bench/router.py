"""What a node's agents wrote, between two interfaces: `clients` and `network`.

A node's own links (bridge, VXLAN) would hide what its rules cost; the rules, sets and virtual services are the node's, the
two interfaces the same for the model and for the kernel.
"""

from __future__ import annotations

from dataplane.bench.services import CLIENTS
from dataplane.host.config import Address, HostConfig, Link, Neighbour, Route

CLIENT_SIDE, NETWORK_SIDE = "clients", "network"
MACS = {CLIENT_SIDE: 0x020000000001, NETWORK_SIDE: 0x020000000002}
PEERS = {CLIENT_SIDE: 0x020000000011, NETWORK_SIDE: 0x020000000012}
ADDRESSES = {CLIENT_SIDE: "169.254.1.1/30", NETWORK_SIDE: "169.254.2.1/30"}
GATEWAYS = {CLIENT_SIDE: "169.254.1.2", NETWORK_SIDE: "169.254.2.2"}
ROUTES = {CLIENT_SIDE: CLIENTS, NETWORK_SIDE: "0.0.0.0/0"}
SYSCTL = {
    "net.ipv4.ip_forward": "1",
    "net.ipv4.conf.all.forwarding": "1",
    "net.ipv4.conf.default.forwarding": "1",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.default.rp_filter": "0",
    "net.ipv6.conf.all.disable_ipv6": "1",
    "net.ipv6.conf.default.disable_ipv6": "1",
}

KEPT = ("net.netfilter.", "net.ipv4.vs.")  # settings of the node that its rules and virtual services work under


def router(node: HostConfig | None) -> HostConfig:
    """node: whose rules it takes; None for a router without any."""
    dummies = () if node is None else tuple(link for link in node.links if link.kind == "dummy")
    names = {link.name for link in dummies}
    links = [Link.lo()]
    links += [Link(side, index=2 + at, mac=mac) for at, (side, mac) in enumerate(MACS.items())]
    links += [link.with_(index=4 + at) for at, link in enumerate(dummies)]
    kept = {} if node is None else {name: value for name, value in node.sysctl.items() if name.startswith(KEPT)}
    return (
        (node or HostConfig())
        .with_(
            name="router",
            links=tuple(links),
            addresses=(
                Address.of("lo", "127.0.0.1/8"),
                *(Address.of(side, address) for side, address in ADDRESSES.items()),
                *(() if node is None else (address for address in node.addresses if address.interface in names)),
            ),
            routes=tuple(Route.of(ROUTES[side], side, gateway) for side, gateway in GATEWAYS.items()),
            neighbours=tuple(Neighbour.of(side, GATEWAYS[side], mac) for side, mac in PEERS.items()),
            fdb=(),
            ip6tables=None,
            sysctl=SYSCTL | kept,
        )
        .completed()
    )
