"""The sysctls that kube-proxy writes when it starts."""

from .ipvs.device import ipvs_sysctls
from .options import ProxyOptions


def proxy_sysctls(options: ProxyOptions, cpus: int, mode: str = "iptables") -> dict[str, str]:
    """Dotted names and values. mode: kube-proxy's. A setting of 0 leaves the kernel's own value alone."""
    settings: dict[str, str] = ipvs_sysctls(options) if mode == "ipvs" else {}
    if mode == "iptables" and options.localhost_node_ports_work(4):
        settings["net.ipv4.conf.all.route_localnet"] = "1"
    if options.conntrack_max_per_core:
        # conntrack.min is the least even for a machine of few processors.
        most = max(options.conntrack_min, options.conntrack_max_per_core * cpus)
        settings["net.netfilter.nf_conntrack_max"] = str(most)
    if options.tcp_be_liberal:
        settings["net.netfilter.nf_conntrack_tcp_be_liberal"] = "1"
    for name, seconds in (
        ("tcp_timeout_established", options.tcp_established_timeout),
        ("tcp_timeout_close_wait", options.tcp_close_wait_timeout),
        ("udp_timeout", options.udp_timeout),
        ("udp_timeout_stream", options.udp_stream_timeout),
    ):
        if seconds:
            settings[f"net.netfilter.nf_conntrack_{name}"] = str(seconds)
    return settings
