"""Helpers of connection tracking: their expectations are not modelled, and are named."""

from dataclasses import replace

from conftest import Router, build, tcp

from dataplane import Host, HostConfig
from dataplane.host.config import Link
from dataplane.host.iptables import Ruleset

RAW = "*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n{}COMMIT\n"


def host(*rules: str, **sysctl: str) -> Host:
    text = RAW.format("".join(f"{rule}\n" for rule in rules))
    names = {f"net.netfilter.nf_conntrack_{name}": value for name, value in sysctl.items()}
    return Host(HostConfig("node", links=(Link.lo(),), iptables=Ruleset.parse(text, 4), sysctl=names), 0)


def test_each_helper_is_named_once() -> None:
    made = host(
        "-A PREROUTING -p tcp -m tcp --dport 21 -j CT --helper ftp",
        "-A OUTPUT -p tcp -m tcp --dport 21 -j CT --helper ftp",
        "-A PREROUTING -p udp -m udp --dport 69 -j CT --helper tftp",
    )
    assert made.unmodelled == (
        "-j CT --helper ftp: connections that it expects",
        "-j CT --helper tftp: connections that it expects",
    )


def test_helpers_by_sysctl_are_named_where_connections_are_tracked() -> None:
    (name,) = host("-A PREROUTING -m conntrack --ctstate NEW", helper="1").unmodelled
    assert name.startswith("net.netfilter.nf_conntrack_helper")
    assert host(helper="1").unmodelled == ()
    assert host("-A PREROUTING -j CT --notrack", helper="1").unmodelled == ()


def test_the_helped_connection_itself_is_tracked() -> None:
    config = build().host.config
    assert config.iptables is not None
    text = config.iptables.text() + RAW.format("-A PREROUTING -p tcp -m tcp --dport 80 -j CT --helper ftp\n")
    router = Router(Host(replace(config, iptables=Ruleset.parse(text, 4)), 0))
    router.one(tcp(">", "S", 1))
    router.one(tcp("<", "SA", 9, 2))
    assert router.state() == ("SYN_RECV", 60, False)
