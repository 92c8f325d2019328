"""The options of kube-proxy that change what it writes: its KubeProxyConfiguration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from typing import Any, Literal, cast, get_args

from dataplane.cluster import Config
from dataplane.cluster.objects import Address, Family, Network, NodeState
from dataplane.errors import ManifestError
from dataplane.host.ipvs import SCHEDULERS

PRIMARY = "primary"  # nodePortAddresses: only the node's own address of each family
# The fields that there are, by their section; a section that other modes read is not looked into.
KNOWN = {
    "": "apiVersion kind bindAddress bindAddressHardFail clientConnection clusterCIDR configSyncPeriod conntrack "
    "detectLocal detectLocalMode enableProfiling featureGates healthzBindAddress hostnameOverride iptables ipvs "
    "logging metricsBindAddress mode nftables nodePortAddresses oomScoreAdj portRange showHiddenMetricsForVersion "
    "windowsRunAsService winkernel",
    "iptables.": "localhostNodePorts masqueradeAll masqueradeBit minSyncPeriod syncPeriod",
    "conntrack.": "maxPerCore min tcpBeLiberal tcpCloseWaitTimeout tcpEstablishedTimeout udpStreamTimeout udpTimeout",
    "detectLocal.": "bridgeInterface interfaceNamePrefix",
}
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(h|ms|m|s|us|µs|ns)")

DetectLocalMode = Literal["ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"]


@dataclass(frozen=True, slots=True)
class ProxyOptions:
    """The fields of KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1) with kube-proxy's defaults.

    Times are in seconds; 0 leaves the kernel's own value alone.
    """

    mode: str = "iptables"
    cluster_cidrs: tuple[Network, ...] | None = None
    """clusterCIDR: empty for none; None where nothing states it, which takes the cluster's own (as kubeadm does)."""
    detect_local_mode: DetectLocalMode = "ClusterCIDR"
    bridge_interface: str = ""
    interface_name_prefix: str = ""
    masquerade_all: bool = False
    masquerade_bit: int = 14
    localhost_node_ports: bool = True
    node_port_addresses: tuple[Network, ...] = ()
    node_ports_on_primary: bool = False
    """nodePortAddresses is "primary": see `on`."""
    bind_address: Address | None = None
    """Overrides the node's primary address of its family; None where unspecified."""
    conntrack_max_per_core: int = 32768
    conntrack_min: int = 131072
    tcp_established_timeout: int = 86400
    tcp_close_wait_timeout: int = 3600
    tcp_be_liberal: bool = False
    udp_timeout: int = 0
    udp_stream_timeout: int = 0
    sync_period: int = 30
    """How often a large cluster looks for chains to delete."""
    scheduler: str = "rr"
    """ipvs.scheduler; this and what follows is of IPVS mode alone."""
    strict_arp: bool = False
    exclude_cidrs: tuple[Network, ...] = ()
    """Virtual services with such addresses are never removed."""
    ipvs_tcp_timeout: int = 0
    ipvs_tcp_fin_timeout: int = 0
    ipvs_udp_timeout: int = 0
    random_fully: bool = True
    """Whether the node's iptables knows --random-fully (1.6.2 or newer)."""
    large_cluster_endpoints: int = 1000
    """With more endpoints than this the comments of endpoint rules are left out."""
    without_effect: tuple[tuple[str, str], ...] = ()
    """(field, why) of what is set and changes nothing here."""

    def on(self, node: NodeState) -> ProxyOptions:
        """The same for one node: where node ports are for its own addresses alone, these are put in."""
        if not self.node_ports_on_primary:
            return self
        own: dict[int, Address] = {}
        for address in (*((self.bind_address,) if self.bind_address else ()), *node.addresses):
            own.setdefault(address.version, address)
        networks = tuple(ip_network(address) for address in own.values() if not address.is_loopback)
        return replace(self, node_port_addresses=networks)

    @property
    def mark(self) -> str:
        """The masquerade mark as iptables-save prints it."""
        return f"{1 << self.masquerade_bit:#x}"

    def node_ports_on(self, family: Family) -> tuple[Network, ...]:
        """The networks whose local addresses take node ports; empty: all of them."""
        networks = tuple(network for network in self.node_port_addresses if network.version == family)
        return () if any(network.prefixlen == 0 for network in networks) else networks

    def localhost_node_ports_work(self, family: Family) -> bool:
        """Only in IPv4: the kernel routes 127.0.0.0/8 off the loopback (route_localnet), ::1 it never does."""
        networks = self.node_ports_on(family)
        loopback = ip_address("127.0.0.1")
        return (
            self.localhost_node_ports
            and family == 4
            and (not networks or any(loopback in net or net.network_address.is_loopback for net in networks))
        )


def proxy_options(config: Config | None) -> ProxyOptions:
    """The options that a KubeProxyConfiguration document states; without one, the defaults.

    Raises ManifestError naming the field where a value cannot be what the field means.
    """
    if config is None:
        return ProxyOptions()
    fields = _Fields(config, config.data)
    iptables, conntrack, detect = fields.group("iptables"), fields.group("conntrack"), fields.group("detectLocal")
    ipvs = fields.group("ipvs")
    scheduler = ipvs.text("scheduler") or "rr"
    if scheduler not in SCHEDULERS:
        raise ipvs.error("scheduler", f"{scheduler!r} is none of {', '.join(SCHEDULERS)}")
    mode = fields.text("detectLocalMode") or "ClusterCIDR"
    if mode not in get_args(DetectLocalMode):
        raise fields.error("detectLocalMode", f"{mode!r} is none of {', '.join(get_args(DetectLocalMode))}")
    bit = iptables.number("masqueradeBit", 14)
    if not 0 <= bit <= 31:
        raise iptables.error("masqueradeBit", f"{bit} is not within 0 to 31")
    for kind, name in (("BridgeInterface", "bridgeInterface"), ("InterfaceNamePrefix", "interfaceNamePrefix")):
        if mode == kind and not detect.text(name):
            raise detect.error(name, f"is missing: detectLocalMode is {kind}")
    addresses = fields.items("nodePortAddresses")
    if PRIMARY in addresses and len(addresses) > 1:
        raise fields.error("nodePortAddresses", f'"{PRIMARY}" stands alone')
    return ProxyOptions(
        mode=fields.text("mode") or "iptables",
        cluster_cidrs=fields.networks("clusterCIDR", [part for part in fields.text("clusterCIDR").split(",") if part]),
        detect_local_mode=cast("DetectLocalMode", mode),
        bridge_interface=detect.text("bridgeInterface"),
        interface_name_prefix=detect.text("interfaceNamePrefix"),
        masquerade_all=iptables.flag("masqueradeAll", False),
        masquerade_bit=bit,
        localhost_node_ports=iptables.flag("localhostNodePorts", True),
        node_port_addresses=fields.networks("nodePortAddresses", [text for text in addresses if text != PRIMARY]),
        node_ports_on_primary=addresses == [PRIMARY],
        bind_address=fields.address("bindAddress"),
        conntrack_max_per_core=conntrack.number("maxPerCore", 32768),
        conntrack_min=conntrack.number("min", 131072),
        tcp_established_timeout=conntrack.seconds("tcpEstablishedTimeout", 86400),
        tcp_close_wait_timeout=conntrack.seconds("tcpCloseWaitTimeout", 3600),
        tcp_be_liberal=conntrack.flag("tcpBeLiberal", False),
        udp_timeout=conntrack.seconds("udpTimeout", 0),
        udp_stream_timeout=conntrack.seconds("udpStreamTimeout", 0),
        sync_period=iptables.seconds("syncPeriod", 30) or 30,
        without_effect=tuple(_without_effect(fields, iptables, conntrack, detect)),
        scheduler=scheduler,
        strict_arp=ipvs.flag("strictARP", False),
        exclude_cidrs=ipvs.networks("excludeCIDRs", ipvs.items("excludeCIDRs")),
        ipvs_tcp_timeout=ipvs.seconds("tcpTimeout", 0),
        ipvs_tcp_fin_timeout=ipvs.seconds("tcpFinTimeout", 0),
        ipvs_udp_timeout=ipvs.seconds("udpTimeout", 0),
    )


def _without_effect(fields: _Fields, iptables: _Fields, *others: _Fields) -> Iterator[tuple[str, str]]:
    for part in (fields, iptables, *others):
        for name in part.data:
            if name not in KNOWN[part.path].split():
                yield part.path + name, "kube-proxy has no such field, and warns"
    if fields.data.get("featureGates"):
        yield "featureGates", "every gate is as it is by default in the version that is followed"
    if fields.text("hostnameOverride"):
        yield "hostnameOverride", "each node's proxy goes by the name of its Node"
    if iptables.seconds("minSyncPeriod", 0) > 1:
        yield "iptables.minSyncPeriod", "a sync follows its change after --sync-delay"


class _Fields:
    """Typed reading of one mapping of the document; a wrong type is an error that names the field."""

    def __init__(self, config: Config, data: Mapping[str, Any], path: str = "") -> None:
        self.config = config
        self.data = data
        self.path = path

    def error(self, name: str, message: str) -> ManifestError:
        origin = self.config.origin
        field = f"{self.config.kind}: {self.path}{name}"
        return ManifestError(origin.file if origin else "", origin.where if origin else "", field, message)

    def _value(self, name: str, kind: type) -> Any:
        value = self.data.get(name)
        if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
            raise self.error(name, f"{value!r} is no {kind.__name__}")
        return value

    def group(self, name: str) -> _Fields:
        return _Fields(self.config, self._value(name, dict) or {}, f"{self.path}{name}.")

    def text(self, name: str) -> str:
        return self._value(name, str) or ""

    def number(self, name: str, default: int) -> int:
        value: int | None = self._value(name, int)
        return default if value is None else value

    def flag(self, name: str, default: bool) -> bool:
        value: bool | None = self._value(name, bool)
        return default if value is None else value

    def items(self, name: str) -> list[str]:
        value: list[str] = self._value(name, list) or []
        if not all(isinstance(item, str) for item in value):
            raise self.error(name, f"{value!r} holds something else than texts")
        return value

    def networks(self, name: str, items: Sequence[str]) -> tuple[Network, ...]:
        try:
            return tuple(ip_network(item.strip(), strict=False) for item in items)
        except ValueError as error:
            raise self.error(name, str(error)) from None

    def address(self, name: str) -> Address | None:
        text = self.text(name)
        try:
            address = ip_address(text) if text else None
        except ValueError as error:
            raise self.error(name, str(error)) from None
        return None if address is None or address.is_unspecified else address

    def seconds(self, name: str, default: int) -> int:
        """A duration as Go writes it, in whole seconds: 24h0m0s, 1.5h, 1500ms."""
        text = self.text(name)
        if text in ("", "0"):
            return 0 if text else default
        parts = _PART.findall(text)
        if "".join(number + unit for number, unit in parts) != text:
            raise self.error(name, f"{text!r} is no duration such as 24h0m0s")
        return int(sum(float(number) * _UNITS[unit] for number, unit in parts) + 1e-9)
