"""Settings: the text, and the values in force."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataplane.host.sysctl import DEFAULTS, Sysctl, parse, settable, text

SAMPLE = (Path(__file__).parent / "samples" / "node" / "sysctl.txt").read_text()


def test_the_sample() -> None:
    values = parse(SAMPLE)
    assert text(values) == SAMPLE
    assert values["net.ipv4.ip_local_port_range"] == "32768\t60999"
    assert values["net.ipv4.ip_local_reserved_ports"] == ""
    assert values["net.ipv4.conf.flannel/1.rp_filter"] == "0"
    assert values.port_range() == (32768, 60999)
    assert values.number("net.ipv4.ip_forward") == 1
    assert values.forwarding("eth0")
    assert values.forwarding("eth0", 6)
    assert values.rp_filter("flannel.1") == 2
    assert values.conntrack("tcp_timeout_established") == 432000
    assert values.true("net.netfilter.nf_conntrack_acct")
    assert values.true("net.bridge.bridge-nf-call-iptables")


def test_defaults_are_the_kernels() -> None:
    """Every default is what a fresh namespace of the sample's kernel has, apart from what the scene set."""
    values = parse(SAMPLE)
    changed = {
        "net.ipv4.ip_forward",
        "net.netfilter.nf_conntrack_acct",
        # Not there until br_netfilter is loaded, as it is on the sample's machine.
        *(name for name in DEFAULTS if name.startswith("net.bridge.bridge-nf-call-")),
    }
    compared = [name for name in DEFAULTS if name in values and name not in changed]
    assert len(compared) > 60
    assert {name: int(values[name]) for name in compared} == {name: DEFAULTS[name] for name in compared}
    empty = Sysctl()
    for name in values:
        parts = name.split(".")
        if parts[1:3] in (["ipv4", "conf"], ["ipv6", "conf"]) and parts[3] == "eth0" and parts[4] != "forwarding":
            family = int(parts[1][3])
            try:
                own = empty.own(family, parts[4], "eth0")
            except KeyError:
                continue  # not a setting of the packet path
            assert (name, str(own)) == (name, {"accept_dad": "1", "accept_redirects": "1"}.get(parts[4], values[name]))
        if parts[1:3] in (["ipv4", "neigh"], ["ipv6", "neigh"]) and parts[3] == "eth0":
            try:
                assert empty.neighbour(int(parts[1][3]), parts[4], "eth0") == values.neighbour(
                    int(parts[1][3]), parts[4], "eth0"
                )
            except KeyError:
                continue


@pytest.mark.parametrize(
    ("all_", "own", "highest", "either", "both"),
    [("0", "0", 0, False, False), ("1", "0", 1, True, False), ("0", "2", 2, True, False), ("1", "2", 2, True, True)],
)
def test_how_all_and_an_interfaces_own_join(all_: str, own: str, highest: int, either: bool, both: bool) -> None:
    def values(name: str, family: int = 4) -> Sysctl:
        prefix = f"net.ipv{family}.conf"
        return Sysctl({f"{prefix}.all.{name}": all_, f"{prefix}.eth0.{name}": own, f"{prefix}.default.{name}": "7"})

    for name in ("rp_filter", "arp_ignore", "arp_announce", "arp_accept", "arp_notify"):
        assert getattr(values(name), name)("eth0") == highest
    for name in (
        "accept_local",
        "route_localnet",
        "src_valid_mark",
        "log_martians",
        "send_redirects",
        "shared_media",
        "secure_redirects",
        "arp_filter",
        "proxy_arp",
        "proxy_arp_pvlan",
        "drop_gratuitous_arp",
        "ignore_routes_with_linkdown",
        "drop_unicast_in_l2_multicast",
    ):
        assert getattr(values(name), name)("eth0") is either
    for name in ("bc_forwarding", "accept_source_route"):
        assert getattr(values(name), name)("eth0") is both
    assert values("proxy_ndp", 6).proxy_ndp("eth0") is either
    assert values("ignore_routes_with_linkdown", 6).ignore_routes_with_linkdown("eth0", 6) is either


def test_forwarding() -> None:
    assert not Sysctl().forwarding("eth0")
    on = Sysctl({"net.ipv4.ip_forward": "1"})
    assert on.forwarding("eth0")
    assert not on.forwarding("eth0", 6)
    off_here = Sysctl({"net.ipv4.ip_forward": "1", "net.ipv4.conf.eth0/5.forwarding": "0"})
    assert not off_here.forwarding("eth0.5")
    assert off_here.forwarding("eth0")
    # IPv6 asks conf.all, whatever the interface says, and the interface's force_forwarding.
    assert Sysctl({"net.ipv6.conf.all.forwarding": "1", "net.ipv6.conf.e.forwarding": "0"}).forwarding("e", 6)
    assert not Sysctl({"net.ipv6.conf.e.forwarding": "1"}).forwarding("e", 6)
    assert Sysctl({"net.ipv6.conf.e.forwarding": "1"}).router("e")
    assert Sysctl({"net.ipv6.conf.e.force_forwarding": "1"}).forwarding("e", 6)
    assert Sysctl({"net.ipv4.conf.all.forwarding": "1"}).number("net.ipv4.ip_forward") == 1


def test_redirects_are_accepted_by_hosts_and_not_by_routers() -> None:
    assert Sysctl().accept_redirects("eth0")
    assert not Sysctl({"net.ipv4.ip_forward": "1"}).accept_redirects("eth0")
    assert not Sysctl(
        {"net.ipv4.conf.all.accept_redirects": "0", "net.ipv4.conf.eth0.accept_redirects": "0"}
    ).accept_redirects("eth0")
    assert not Sysctl({"net.ipv6.conf.eth0.accept_redirects": "0"}).accept_redirects("eth0", 6)


def test_what_a_new_interface_takes_over() -> None:
    values = Sysctl({"net.ipv4.conf.default.rp_filter": "1", "net.ipv6.conf.default.disable_ipv6": "1"})
    assert values.rp_filter("eth0") == 1
    assert values.disable_ipv6("eth0")
    assert Sysctl({"net.ipv6.conf.all.disable_ipv6": "1"}).disable_ipv6("eth0")
    assert Sysctl({"net.ipv6.conf.default.hop_limit": "7"}).hop_limit("eth0") == 7
    assert Sysctl().hop_limit("eth0") == 64


def test_bridge_netfilter_that_is_not_there_is_off() -> None:
    assert Sysctl().number("net.bridge.bridge-nf-call-iptables") == 0


def test_times_of_neighbours_are_nanoseconds() -> None:
    values = Sysctl({"net.ipv4.neigh.eth0.retrans_time_ms": "250", "net.ipv4.neigh.default.locktime": "50"})
    assert values.neighbour(4, "retrans_time_ms", "eth0") == 250_000_000
    assert values.neighbour(4, "retrans_time_ms", "eth1") == 1_000_000_000
    assert values.neighbour(4, "locktime", "eth0") == 500_000_000
    assert values.neighbour(6, "locktime", "eth0") == 0
    assert values.neighbour(4, "gc_stale_time", "eth0") == 60_000_000_000
    assert values.neighbour(4, "mcast_solicit", "eth0") == 3


def test_masks_of_icmp() -> None:
    assert Sysctl().number("net.ipv4.icmp_ratemask") == 1 << 3 | 1 << 4 | 1 << 11 | 1 << 12
    assert Sysctl({"net.ipv6.icmp.ratemask": "1,3-4"}).icmp6_ratemask() == 1 << 1 | 1 << 3 | 1 << 4
    assert Sysctl().icmp6_ratemask() == (1 << 128) - 1 - (1 << 2)
    assert Sysctl({"net.ipv6.icmp.ratemask": ""}).icmp6_ratemask() == 0


def test_values_of_several_lines_and_complaints() -> None:
    lines = "a.b = one\na.b = two\nc =\nsysctl: permission denied on key 'x'\n"
    values = parse(lines)
    assert dict(values) == {"a.b": "one\ntwo", "c": ""}
    assert text(values) == "a.b = one\na.b = two\nc = \n"


def test_an_unknown_setting_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        Sysctl().number("net.ipv4.odd")


def test_settings_are_written_in_an_order_in_which_none_undoes_another() -> None:
    values = parse(SAMPLE)
    names = settable(values)
    assert names[0] == "net.ipv4.ip_forward"
    place = {name: number for number, name in enumerate(names)}
    assert place["net.ipv6.conf.all.forwarding"] < place["net.ipv6.conf.default.forwarding"]
    assert place["net.ipv6.conf.default.forwarding"] < place["net.ipv6.conf.cni0.forwarding"]
    assert not {"net.netfilter.nf_conntrack_max", "net.netfilter.nf_conntrack_count", "kernel.printk"} & set(names)
    assert "net.ipv4.ip_local_port_range" in place
