"""Kernel settings of one network namespace: `sysctl -a`.

`Sysctl` holds the texts by their names. Its methods give the values in force for an interface, where the kernel joins
`conf.all` with the interface's own (include/linux/inetdevice.h), and the kernel's defaults for what is not in the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from dataplane.errors import DumpError
from dataplane.host.notes import Notes

__all__ = ["DEFAULTS", "Sysctl", "parse", "settable", "text"]

DEFAULTS: Mapping[str, int] = {
    "net.bridge.bridge-nf-call-arptables": 0,  # not there: br_netfilter is not loaded; once it is, 1
    "net.bridge.bridge-nf-call-ip6tables": 0,
    "net.bridge.bridge-nf-call-iptables": 0,
    "net.bridge.bridge-nf-filter-pppoe-tagged": 0,
    "net.bridge.bridge-nf-filter-vlan-tagged": 0,
    "net.bridge.bridge-nf-pass-vlan-input-dev": 0,
    "net.ipv4.fib_multipath_hash_fields": 7,
    "net.ipv4.fib_multipath_hash_policy": 0,
    "net.ipv4.fib_multipath_hash_seed": 0,  # 0: random, made at boot
    "net.ipv4.fib_multipath_use_neigh": 0,
    "net.ipv4.fwmark_reflect": 0,
    "net.ipv4.icmp_echo_ignore_all": 0,
    "net.ipv4.icmp_echo_ignore_broadcasts": 1,
    "net.ipv4.icmp_errors_use_inbound_ifaddr": 0,
    "net.ipv4.icmp_ignore_bogus_error_responses": 1,
    "net.ipv4.icmp_msgs_burst": 50,
    "net.ipv4.icmp_msgs_per_sec": 1000,
    "net.ipv4.icmp_ratelimit": 1000,  # ms between errors of a kind to one destination
    "net.ipv4.icmp_ratemask": 6168,  # bits of ICMP types 3, 4, 11, 12
    "net.ipv4.ip_default_ttl": 64,
    "net.ipv4.ip_early_demux": 1,
    "net.ipv4.ip_forward": 0,
    "net.ipv4.ip_forward_update_priority": 1,
    "net.ipv4.ip_forward_use_pmtu": 0,
    "net.ipv4.ip_no_pmtu_disc": 0,
    "net.ipv4.ip_nonlocal_bind": 0,
    "net.ipv4.ipfrag_high_thresh": 4194304,  # bytes
    "net.ipv4.ipfrag_low_thresh": 3145728,
    "net.ipv4.ipfrag_max_dist": 64,
    "net.ipv4.ipfrag_time": 30,  # seconds
    "net.ipv4.neigh.default.gc_thresh1": 128,
    "net.ipv4.neigh.default.gc_thresh2": 512,
    "net.ipv4.neigh.default.gc_thresh3": 1024,
    "net.ipv4.route.min_pmtu": 552,
    "net.ipv4.route.mtu_expires": 600,
    "net.ipv4.vs.am_droprate": 10,
    "net.ipv4.vs.amemthresh": 1024,
    "net.ipv4.vs.backup_only": 0,
    "net.ipv4.vs.cache_bypass": 0,
    "net.ipv4.vs.conn_reuse_mode": 1,
    "net.ipv4.vs.conntrack": 0,
    "net.ipv4.vs.drop_entry": 0,
    "net.ipv4.vs.drop_packet": 0,
    "net.ipv4.vs.expire_nodest_conn": 0,
    "net.ipv4.vs.expire_quiescent_template": 0,
    "net.ipv4.vs.ignore_tunneled": 0,
    "net.ipv4.vs.lblc_expiration": 86400,  # seconds
    "net.ipv4.vs.lblcr_expiration": 86400,
    "net.ipv4.vs.nat_icmp_send": 0,
    "net.ipv4.vs.pmtu_disc": 1,
    "net.ipv4.vs.run_estimation": 1,
    "net.ipv4.vs.schedule_icmp": 0,
    "net.ipv4.vs.secure_tcp": 0,
    "net.ipv4.vs.sloppy_sctp": 0,
    "net.ipv4.vs.sloppy_tcp": 0,
    "net.ipv4.vs.snat_reroute": 1,
    "net.ipv6.auto_flowlabels": 1,
    "net.ipv6.fib_multipath_hash_fields": 7,
    "net.ipv6.fib_multipath_hash_policy": 0,
    "net.ipv6.flowlabel_reflect": 0,
    "net.ipv6.fwmark_reflect": 0,
    "net.ipv6.icmp.echo_ignore_all": 0,
    "net.ipv6.icmp.echo_ignore_anycast": 0,
    "net.ipv6.icmp.echo_ignore_multicast": 0,
    "net.ipv6.icmp.ratelimit": 100,  # ms; 1000 in kernels before 6.18
    "net.ipv6.ip6frag_high_thresh": 4194304,
    "net.ipv6.ip6frag_low_thresh": 3145728,
    "net.ipv6.ip6frag_time": 60,
    "net.ipv6.ip_nonlocal_bind": 0,
    "net.ipv6.neigh.default.gc_thresh1": 128,
    "net.ipv6.neigh.default.gc_thresh2": 512,
    "net.ipv6.neigh.default.gc_thresh3": 1024,
    "net.ipv6.route.mtu_expires": 600,
    "net.netfilter.nf_conntrack_acct": 0,
    "net.netfilter.nf_conntrack_buckets": 262144,
    "net.netfilter.nf_conntrack_checksum": 1,
    "net.netfilter.nf_conntrack_dccp_loose": 1,
    "net.netfilter.nf_conntrack_dccp_timeout_closereq": 64,
    "net.netfilter.nf_conntrack_dccp_timeout_closing": 64,
    "net.netfilter.nf_conntrack_dccp_timeout_open": 43200,
    "net.netfilter.nf_conntrack_dccp_timeout_partopen": 480,
    "net.netfilter.nf_conntrack_dccp_timeout_request": 240,
    "net.netfilter.nf_conntrack_dccp_timeout_respond": 480,
    "net.netfilter.nf_conntrack_dccp_timeout_timewait": 240,
    "net.netfilter.nf_conntrack_expect_max": 4096,
    "net.netfilter.nf_conntrack_frag6_high_thresh": 4194304,
    "net.netfilter.nf_conntrack_frag6_low_thresh": 3145728,
    "net.netfilter.nf_conntrack_frag6_timeout": 60,
    "net.netfilter.nf_conntrack_generic_timeout": 600,
    "net.netfilter.nf_conntrack_gre_timeout": 30,
    "net.netfilter.nf_conntrack_gre_timeout_stream": 180,
    "net.netfilter.nf_conntrack_helper": 0,
    "net.netfilter.nf_conntrack_icmp_timeout": 30,
    "net.netfilter.nf_conntrack_icmpv6_timeout": 30,
    "net.netfilter.nf_conntrack_log_invalid": 0,
    "net.netfilter.nf_conntrack_max": 262144,
    "net.netfilter.nf_conntrack_sctp_timeout_closed": 10,
    "net.netfilter.nf_conntrack_sctp_timeout_cookie_echoed": 3,
    "net.netfilter.nf_conntrack_sctp_timeout_cookie_wait": 3,
    "net.netfilter.nf_conntrack_sctp_timeout_established": 210,
    "net.netfilter.nf_conntrack_sctp_timeout_heartbeat_sent": 30,
    "net.netfilter.nf_conntrack_sctp_timeout_shutdown_ack_sent": 3,
    "net.netfilter.nf_conntrack_sctp_timeout_shutdown_recd": 3,
    "net.netfilter.nf_conntrack_sctp_timeout_shutdown_sent": 3,
    "net.netfilter.nf_conntrack_tcp_be_liberal": 0,
    "net.netfilter.nf_conntrack_tcp_ignore_invalid_rst": 0,
    "net.netfilter.nf_conntrack_tcp_loose": 1,
    "net.netfilter.nf_conntrack_tcp_max_retrans": 3,
    "net.netfilter.nf_conntrack_tcp_timeout_close": 10,
    "net.netfilter.nf_conntrack_tcp_timeout_close_wait": 60,
    "net.netfilter.nf_conntrack_tcp_timeout_established": 432000,
    "net.netfilter.nf_conntrack_tcp_timeout_fin_wait": 120,
    "net.netfilter.nf_conntrack_tcp_timeout_last_ack": 30,
    "net.netfilter.nf_conntrack_tcp_timeout_max_retrans": 300,
    "net.netfilter.nf_conntrack_tcp_timeout_syn_recv": 60,
    "net.netfilter.nf_conntrack_tcp_timeout_syn_sent": 120,
    "net.netfilter.nf_conntrack_tcp_timeout_time_wait": 120,
    "net.netfilter.nf_conntrack_tcp_timeout_unacknowledged": 300,
    "net.netfilter.nf_conntrack_timestamp": 0,
    "net.netfilter.nf_conntrack_udp_timeout": 30,
    "net.netfilter.nf_conntrack_udp_timeout_stream": 120,
}
"""The kernel's defaults (Linux 6.18). Times in seconds where the comment says nothing else."""

# Settings of an interface: the default of conf.all, and of conf.default, which a new interface takes over.
_CONF4 = {
    "accept_local": (0, 0),
    "accept_redirects": (1, 1),
    "accept_source_route": (0, 1),
    "arp_accept": (0, 0),
    "arp_announce": (0, 0),
    "arp_filter": (0, 0),
    "arp_ignore": (0, 0),
    "arp_notify": (0, 0),
    "bc_forwarding": (0, 0),
    "drop_gratuitous_arp": (0, 0),
    "drop_unicast_in_l2_multicast": (0, 0),
    "forwarding": (0, 0),
    "ignore_routes_with_linkdown": (0, 0),
    "log_martians": (0, 0),
    "mc_forwarding": (0, 0),
    "medium_id": (0, 0),
    "promote_secondaries": (0, 0),
    "proxy_arp": (0, 0),
    "proxy_arp_pvlan": (0, 0),
    "route_localnet": (0, 0),
    "rp_filter": (0, 0),
    "secure_redirects": (1, 1),
    "send_redirects": (1, 1),
    "shared_media": (1, 1),
    "src_valid_mark": (0, 0),
}
_CONF6 = {
    "accept_dad": (0, 1),
    "accept_ra": (1, 1),
    "accept_redirects": (1, 1),
    "accept_source_route": (0, 0),
    "addr_gen_mode": (0, 0),
    "dad_transmits": (1, 1),
    "disable_ipv6": (0, 0),
    "drop_unicast_in_l2_multicast": (0, 0),
    "drop_unsolicited_na": (0, 0),
    "force_forwarding": (0, 0),
    "forwarding": (0, 0),
    "hop_limit": (64, 64),
    "ignore_routes_with_linkdown": (0, 0),
    "mc_forwarding": (0, 0),
    "ndisc_notify": (0, 0),
    "proxy_ndp": (0, 0),
    "suppress_frag_ndisc": (1, 1),
    "use_oif_addrs_only": (0, 0),
}
_NEIGHBOUR = {
    "app_solicit": 0,
    "base_reachable_time_ms": 30000,
    "delay_first_probe_time": 5,  # seconds
    "gc_stale_time": 60,  # seconds
    "locktime": 100,  # hundredths of a second; 0 for IPv6
    "mcast_resolicit": 0,
    "mcast_solicit": 3,
    "proxy_delay": 80,  # hundredths of a second
    "proxy_qlen": 64,
    "retrans_time_ms": 1000,
    "ucast_solicit": 3,
    "unres_qlen": 101,  # packets
    "unres_qlen_bytes": 212992,
}
_NANOSECONDS = {
    "base_reachable_time_ms": 1_000_000,
    "delay_first_probe_time": 1_000_000_000,
    "gc_stale_time": 1_000_000_000,
    "locktime": 10_000_000,
    "proxy_delay": 10_000_000,
    "retrans_time_ms": 1_000_000,
}


class Sysctl(Mapping[str, str]):
    """The settings by their dotted names, in the order given, and the values that are in force.

    A name is written as `sysctl` prints it; a dot in an interface's name is a slash there (net.ipv4.conf.eth0/5.mtu).
    A number that does not parse raises ValueError from the accessors: `parse` refuses such texts first.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = dict(values or {})

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Sysctl({self._values!r})"

    # One value of the namespace

    def number(self, name: str) -> int:
        """A setting of the whole namespace, such as "net.ipv4.ip_default_ttl". KeyError if neither it nor a default is
        known."""
        value = self._values.get(name)
        if value is not None:
            return int(value)
        if name == "net.ipv4.ip_forward":
            return self._all(4, "forwarding")
        return DEFAULTS[name]

    def true(self, name: str) -> bool:
        return self.number(name) != 0

    def conntrack(self, name: str) -> int:
        """net.netfilter.nf_conntrack_<name>: timeouts in seconds, limits in entries."""
        return self.number(f"net.netfilter.nf_conntrack_{name}")

    def port_range(self) -> tuple[int, int]:
        """First and last local port (ip_local_port_range)."""
        first, last = self._values.get("net.ipv4.ip_local_port_range", "32768 60999").split()
        return int(first), int(last)

    def icmp6_ratemask(self) -> int:
        """Bits of the ICMPv6 types that the rate limit holds for (net.ipv6.icmp.ratemask, a list of ranges)."""
        mask = 0
        for span in self._values.get("net.ipv6.icmp.ratemask", "0-1,3-127").split(","):
            first, _, last = span.partition("-")
            if first:
                mask |= (1 << int(last or first) + 1) - (1 << int(first))
        return mask

    # One value of an interface, as the kernel joins it with conf.all

    def own(self, family: int, name: str, interface: str) -> int:
        """net.ipv<family>.conf.<interface>.<name> itself, or what a new interface takes over."""
        for where in (interface.replace(".", "/"), "default"):
            value = self._values.get(f"net.ipv{family}.conf.{where}.{name}")
            if value is not None:
                return int(value)
        if name in ("forwarding", "disable_ipv6") and self._all(family, name):
            return 1  # writing conf.all (or ip_forward) writes every interface
        return (_CONF4 if family == 4 else _CONF6)[name][1]

    def _all(self, family: int, name: str) -> int:
        value = self._values.get(f"net.ipv{family}.conf.all.{name}")
        if value is None and family == 4 and name == "forwarding":
            value = self._values.get("net.ipv4.ip_forward")
        if value is not None:
            return int(value)
        if family == 4 and name == "accept_redirects" and self._all(4, "forwarding"):
            return 0  # turning forwarding on turns it off
        return (_CONF4 if family == 4 else _CONF6)[name][0]

    def _either(self, name: str, interface: str, family: int = 4) -> bool:
        return self._all(family, name) != 0 or self.own(family, name, interface) != 0

    def _both(self, name: str, interface: str) -> bool:
        return self._all(4, name) != 0 and self.own(4, name, interface) != 0

    def _highest(self, name: str, interface: str) -> int:
        return max(self._all(4, name), self.own(4, name, interface))

    def forwarding(self, interface: str, family: int = 4) -> bool:
        """Whether packets that come in here are forwarded.

        IPv4 asks the interface; IPv6 asks conf.all, or, since Linux 6.17, the interface's force_forwarding.
        """
        if family == 4:
            return self.own(4, "forwarding", interface) != 0
        return self._all(6, "forwarding") != 0 or self.own(6, "force_forwarding", interface) != 0

    def router(self, interface: str) -> bool:
        """Whether the host is an IPv6 router here: the router flag of its neighbour advertisements."""
        return self.own(6, "forwarding", interface) != 0

    def bc_forwarding(self, interface: str) -> bool:
        return self._both("bc_forwarding", interface)

    def rp_filter(self, interface: str) -> int:
        """Reverse path check: 0 none, 1 strict, 2 loose."""
        return self._highest("rp_filter", interface)

    def accept_local(self, interface: str) -> bool:
        return self._either("accept_local", interface)

    def route_localnet(self, interface: str) -> bool:
        return self._either("route_localnet", interface)

    def src_valid_mark(self, interface: str) -> bool:
        return self._either("src_valid_mark", interface)

    def log_martians(self, interface: str) -> bool:
        return self._either("log_martians", interface)

    def accept_source_route(self, interface: str) -> bool:
        return self._both("accept_source_route", interface)

    def send_redirects(self, interface: str) -> bool:
        return self._either("send_redirects", interface)

    def shared_media(self, interface: str) -> bool:
        return self._either("shared_media", interface)

    def secure_redirects(self, interface: str) -> bool:
        return self._either("secure_redirects", interface)

    def accept_redirects(self, interface: str, family: int = 4) -> bool:
        if family == 6:
            return self.own(6, "accept_redirects", interface) != 0
        join = self._both if self.forwarding(interface) else self._either
        return join("accept_redirects", interface)

    def arp_ignore(self, interface: str) -> int:
        return self._highest("arp_ignore", interface)

    def arp_announce(self, interface: str) -> int:
        return self._highest("arp_announce", interface)

    def arp_filter(self, interface: str) -> bool:
        return self._either("arp_filter", interface)

    def arp_accept(self, interface: str) -> int:
        return self._highest("arp_accept", interface)

    def arp_notify(self, interface: str) -> int:
        return self._highest("arp_notify", interface)

    def drop_gratuitous_arp(self, interface: str) -> bool:
        return self._either("drop_gratuitous_arp", interface)

    def proxy_arp(self, interface: str) -> bool:
        return self._either("proxy_arp", interface)

    def proxy_arp_pvlan(self, interface: str) -> bool:
        return self._either("proxy_arp_pvlan", interface)

    def proxy_ndp(self, interface: str) -> bool:
        return self._either("proxy_ndp", interface, 6)

    def ignore_routes_with_linkdown(self, interface: str, family: int = 4) -> bool:
        return self._either("ignore_routes_with_linkdown", interface, family)

    def drop_unicast_in_l2_multicast(self, interface: str, family: int = 4) -> bool:
        return self._either("drop_unicast_in_l2_multicast", interface, family)

    def disable_ipv6(self, interface: str) -> bool:
        return self.own(6, "disable_ipv6", interface) != 0

    def hop_limit(self, interface: str) -> int:
        return self.own(6, "hop_limit", interface)

    def addr_gen_mode(self, interface: str) -> int:
        """How the link-local address is made: 0 of the MAC (EUI-64), 1 not at all, 2 and 3 of a secret."""
        return self.own(6, "addr_gen_mode", interface)

    def neighbour(self, family: int, name: str, interface: str) -> int:
        """net.ipv<family>.neigh.<interface>.<name> as the kernel counts it; times in nanoseconds."""
        number = 0 if (family, name) == (6, "locktime") else _NEIGHBOUR[name]
        for where in (interface.replace(".", "/"), "default"):
            value = self._values.get(f"net.ipv{family}.neigh.{where}.{name}")
            if value is not None:
                number = int(value)
                break
        return number * _NANOSECONDS.get(name, 1)


_NUMERIC_FOLDERS = ("conf", "neigh")


def parse(text: str, file: str = "sysctl.txt", notes: Notes | None = None) -> Sysctl:
    """The settings of a `sysctl -a`. A value of several lines comes as several lines of one name.

    DumpError names the line and the setting, also where one that is used as a number is not one. Lines of the tool's
    own complaints ("sysctl: permission denied on key ...") are skipped.
    """
    values: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith(("sysctl: ", "#")):
            continue
        name, equals, value = line.partition(" =")
        if not equals:
            raise DumpError(file, f"line {number}", line[:40], "name = value is expected")
        value = value.removeprefix(" ")
        if _is_number(name):
            try:
                # Of an interface the kernel keeps an int, of the namespace sometimes a long.
                bits = 31 if name.count(".") == 4 and name.startswith("net.ipv") else 63
                in_range = -(1 << bits) <= int(value) < 1 << bits
            except ValueError:
                raise DumpError(file, f"line {number}", name, f"a number is expected, not {value!r}") from None
            if not in_range:
                raise DumpError(file, f"line {number}", name, f"{value} does not fit a kernel's number")
        if name in _RANGES and not _RANGES[name](value):
            raise DumpError(file, f"line {number}", name, f"{value!r} is not what the kernel has here")
        values[name] = f"{values[name]}\n{value}" if name in values and name not in _RANGES else value
    return Sysctl(values)


def _is_port_range(value: str) -> bool:
    """First and last port."""
    return (
        re.fullmatch(r"\d{1,5}\s+\d{1,5}", value.strip(), re.ASCII) is not None and max(map(int, value.split())) < 65536
    )


def _is_bitmap(value: str) -> bool:
    """Bits 0 to 255 as a list of ranges."""
    shaped = re.fullmatch(r"(\d{1,3}(-\d{1,3})?(,\d{1,3}(-\d{1,3})?)*)?", value.strip(), re.ASCII) is not None
    return shaped and all(int(number) < 256 for number in re.findall(r"\d+", value))


_RANGES: Mapping[str, Callable[[str], bool]] = {
    "net.ipv4.ip_local_port_range": _is_port_range,
    "net.ipv6.icmp.ratemask": _is_bitmap,
}


def _is_number(name: str) -> bool:
    if name in DEFAULTS:
        return True
    parts = name.split(".")
    if len(parts) != 5 or parts[0] != "net" or parts[2] not in _NUMERIC_FOLDERS:
        return False
    known: Mapping[str, object] = _NEIGHBOUR if parts[2] == "neigh" else _CONF4 if parts[1] == "ipv4" else _CONF6
    return parts[4] in known


def text(values: Mapping[str, str]) -> str:
    """What `sysctl -a` prints for these settings, in the order given."""
    lines = []
    for name, value in values.items():
        lines += [f"{name} = {part}" for part in value.split("\n")]
    return "".join(line + "\n" for line in lines)


_SETTABLE = frozenset(
    (
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv6.icmp.ratemask",
    )
)
# The whole machine's, so that a namespace other than the first cannot set them.
_MACHINE = frozenset(
    f"net.netfilter.nf_conntrack_{name}" for name in ("buckets", "expect_max", "helper", "max")
) | frozenset(f"net.ipv{family}.neigh.default.gc_thresh{number}" for family in (4, 6) for number in (1, 2, 3))


def settable(values: Mapping[str, str]) -> list[str]:
    """The settings of these that say something to the packet path and that a namespace can set, in an order in which
    none undoes another: ip_forward and conf.all write every interface, conf.default those not set yet."""

    def rank(name: str) -> int:
        if name == "net.ipv4.ip_forward":
            return 0
        return 1 if ".conf.all." in name else 2 if ".conf.default." in name else 3

    known = [
        name
        for name in values
        if (_is_number(name) or name in _SETTABLE)
        and name not in _MACHINE
        and not name.endswith(".mc_forwarding")  # a multicast routing program's alone
    ]
    return sorted(known, key=rank)
