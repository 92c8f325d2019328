"""The sysctls that every node starts from: written out, because a new namespace inherits some from the machine.

Kernel defaults, except where chance, rate limits or chatter of the node itself would blur the picture; each of those is
a subject of its own scenario, which sets it back.
"""

IPV4 = {
    "net.ipv4.ip_forward": 1,
    "net.ipv4.conf.{}.rp_filter": 0,
    "net.ipv4.conf.{}.send_redirects": 0,  # default 1
    "net.ipv4.conf.{}.accept_redirects": 0,  # default 1
    "net.ipv4.conf.{}.accept_source_route": 0,
    "net.ipv4.conf.{}.accept_local": 0,
    "net.ipv4.conf.{}.route_localnet": 0,
    "net.ipv4.conf.{}.proxy_arp": 0,
    "net.ipv4.conf.{}.arp_ignore": 0,
    "net.ipv4.conf.{}.arp_announce": 0,
    "net.ipv4.conf.{}.arp_filter": 0,
    "net.ipv4.conf.{}.arp_accept": 0,
    "net.ipv4.conf.{}.arp_notify": 0,
    "net.ipv4.conf.{}.log_martians": 0,
    "net.ipv4.conf.{}.shared_media": 1,
    "net.ipv4.conf.{}.src_valid_mark": 0,
    "net.ipv4.ip_default_ttl": 64,
    "net.ipv4.ip_local_port_range": "32768 60999",
    "net.ipv4.ip_no_pmtu_disc": 0,
    "net.ipv4.ip_forward_use_pmtu": 0,
    "net.ipv4.icmp_ratemask": 0,  # default 6168: no limit per destination
    "net.ipv4.icmp_msgs_per_sec": 100_000,  # default 1000
    "net.ipv4.icmp_msgs_burst": 10_000,  # default 50
    "net.ipv4.icmp_errors_use_inbound_ifaddr": 0,
    "net.ipv4.icmp_echo_ignore_all": 0,
    "net.ipv4.icmp_echo_ignore_broadcasts": 1,
    "net.ipv4.ipfrag_time": 30,
    "net.ipv4.igmp_qrv": 1,  # default 2: a second report of a group follows in a second
    "net.ipv4.fib_multipath_hash_policy": 0,
}

IPV6 = {
    "net.ipv6.conf.{}.accept_dad": 0,  # default 1: no probe before an address is used
    "net.ipv6.conf.{}.dad_transmits": 0,
    "net.ipv6.conf.{}.accept_ra": 0,
    "net.ipv6.conf.{}.autoconf": 0,
    "net.ipv6.conf.{}.router_solicitations": 0,
    "net.ipv6.conf.{}.mldv1_unsolicited_report_interval": 1,  # default 10000 ms: reports leave before the first step
    "net.ipv6.conf.{}.mldv2_unsolicited_report_interval": 1,  # default 1000 ms
    "net.ipv6.icmp.ratelimit": 0,  # default 1000 ms
    "net.ipv6.bindv6only": 0,
}

CONNTRACK = {
    "net.netfilter.nf_conntrack_acct": 1,  # default 0: packets and bytes of each connection are part of the comparison
    "net.netfilter.nf_conntrack_checksum": 1,
    "net.netfilter.nf_conntrack_tcp_loose": 1,
    "net.netfilter.nf_conntrack_tcp_be_liberal": 0,
    "net.netfilter.nf_conntrack_tcp_max_retrans": 3,
    "net.netfilter.nf_conntrack_tcp_ignore_invalid_rst": 0,
    "net.netfilter.nf_conntrack_tcp_timeout_syn_sent": 120,
    "net.netfilter.nf_conntrack_tcp_timeout_syn_recv": 60,
    "net.netfilter.nf_conntrack_tcp_timeout_established": 432_000,
    "net.netfilter.nf_conntrack_tcp_timeout_fin_wait": 120,
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait": 60,
    "net.netfilter.nf_conntrack_tcp_timeout_last_ack": 30,
    "net.netfilter.nf_conntrack_tcp_timeout_time_wait": 120,
    "net.netfilter.nf_conntrack_tcp_timeout_close": 10,
    "net.netfilter.nf_conntrack_tcp_timeout_max_retrans": 300,
    "net.netfilter.nf_conntrack_tcp_timeout_unacknowledged": 300,
    "net.netfilter.nf_conntrack_udp_timeout": 30,
    "net.netfilter.nf_conntrack_udp_timeout_stream": 120,
    "net.netfilter.nf_conntrack_icmp_timeout": 30,
    "net.netfilter.nf_conntrack_icmpv6_timeout": 30,
    "net.netfilter.nf_conntrack_generic_timeout": 600,
}

BRIDGE = {
    "net.bridge.bridge-nf-call-iptables": 1,
    "net.bridge.bridge-nf-call-ip6tables": 1,
    "net.bridge.bridge-nf-call-arptables": 1,
}


def settings(ipv6: bool) -> list[tuple[str, str]]:
    """Every setting in the order in which it is written. Without IPv6 the node has none at all."""
    found: list[tuple[str, str]] = []
    tables = [IPV4, CONNTRACK, BRIDGE]
    if ipv6:
        tables.append(IPV6)
    else:
        found += [(f"net.ipv6.conf.{place}.disable_ipv6", "1") for place in ("all", "default")]
    for table in tables:
        for name, value in table.items():
            places = ("all", "default") if "{}" in name else ("",)
            found += [(name.format(place), str(value)) for place in places]
    if ipv6:
        found += [(f"net.ipv6.conf.{place}.forwarding", "1") for place in ("all", "default")]
    return found
