"""kube-ipvs0, which has the addresses of all Services, and the sysctls that kube-proxy writes when it starts in IPVS mode.

The device is never brought up: its addresses count as the node's own all the same, so packets to them are taken in.
Other interfaces answer ARP for them, too, unless strictARP forbids it.
"""

from __future__ import annotations

from collections.abc import Iterable

from dataplane.agents.identity import stable_mac
from dataplane.agents.kubeproxy.options import ProxyOptions
from dataplane.cluster.objects import Address, Family
from dataplane.host.config import Address as HostAddress
from dataplane.host.config import HostConfig, Link
from dataplane.host.ipvs import IpvsTimeouts

DEVICE = "kube-ipvs0"


def device(node: str, index: int) -> Link:
    return Link.dummy(DEVICE, stable_mac(DEVICE, node), index=index, up=False)


def with_bound(config: HostConfig, addresses: Iterable[Address]) -> HostConfig:
    """A node's configuration with these addresses on the device, and the routes that the kernel makes of them."""
    own = [HostAddress.of(DEVICE, f"{address}/{address.max_prefixlen}") for address in addresses]
    return config.with_(addresses=(*config.addresses, *own)).completed()


def node_port_addresses(options: ProxyOptions, family: Family, local_addresses: Iterable[Address]) -> list[Address]:
    """Where node ports are open. local_addresses: every address of the node but those of the device."""
    networks = options.node_ports_on(family)
    found = {
        address
        for address in local_addresses
        if address.version == family
        and not address.is_loopback
        and (any(address in network for network in networks) if networks else not _link_local(address))
    }
    return sorted(found, key=int)


def _link_local(address: Address) -> bool:
    """Of IPv6: 169.254.0.0/16 is an address like any other to kube-proxy."""
    return address.version == 6 and address.is_link_local


def ipvs_sysctls(options: ProxyOptions) -> dict[str, str]:
    """Dotted names and values. conn_reuse_mode is left alone on the kernels of today (5.9 and newer)."""
    settings = {
        "net.ipv4.vs.conntrack": "1",
        "net.ipv4.vs.expire_nodest_conn": "1",
        "net.ipv4.vs.expire_quiescent_template": "1",
        "net.ipv4.ip_forward": "1",
    }
    if options.strict_arp:
        settings |= {"net.ipv4.conf.all.arp_ignore": "1", "net.ipv4.conf.all.arp_announce": "2"}
    return settings


def ipvs_timeouts(options: ProxyOptions) -> IpvsTimeouts:
    """The kernel's own, where the configuration says 0."""
    own = IpvsTimeouts()
    return IpvsTimeouts(
        options.ipvs_tcp_timeout or own.tcp,
        options.ipvs_tcp_fin_timeout or own.tcp_fin,
        options.ipvs_udp_timeout or own.udp,
    )
