"""What a dump asks for and the walk does not do is named, each thing once."""

import json
from pathlib import Path

import pytest

from dataplane import Host, HostConfig
from dataplane.host.config import Bridge, BridgePort, Link, Vxlan


def named(*links: Link, **sysctl: str) -> tuple[str, ...]:
    config = HostConfig(links=links, sysctl={name.replace("__", "."): value for name, value in sysctl.items()})
    return Host(config).unmodelled


@pytest.mark.parametrize(
    ("link", "line"),
    [
        (Link("br0", "bridge", 2, 1, 1500, bridge=Bridge(vlan_filtering=True)), "bridge vlan_filtering (br0)"),
        (Link("br0", "bridge", 2, 1, 1500, bridge=Bridge(stp=True)), "bridge stp_state (br0)"),
        (Link("p", "veth", 2, 1, 1500, port=BridgePort(locked=True)), "bridge port locked (p)"),
        (Link("p", "veth", 2, 1, 1500, port=BridgePort(neigh_suppress=True)), "bridge port neigh_suppress (p)"),
        (Link("vx", "vxlan", 2, 1, 1450, vxlan=Vxlan(1, gpe=True)), "vxlan gpe (vx)"),
        (Link("vx", "vxlan", 2, 1, 1450, vxlan=Vxlan(1, local_bypass=False)), "vxlan nolocalbypass (vx)"),
    ],
)
def test_a_switch_of_a_link_is_named(link: Link, line: str) -> None:
    assert named(link) == (f"links.json: {line}",)


def test_settings_that_the_kernel_joins_are_named_where_they_hold() -> None:
    links = (Link("eth0", "", 2, 1, 1500), Link("eth1", "", 3, 2, 1500))
    assert named(*links, net__ipv4__conf__all__drop_gratuitous_arp="1") == (
        "sysctl.txt: net.ipv4.conf.*.drop_gratuitous_arp (2 times, first eth0)",
    )
    # Both switches must be on.
    assert named(*links, net__ipv4__conf__eth0__bc_forwarding="1") == ()
    assert named(*links, net__ipv4__conf__eth0__bc_forwarding="1", net__ipv4__conf__all__bc_forwarding="1") == (
        "sysctl.txt: net.ipv4.conf.*.bc_forwarding (eth0)",
    )
    assert named(*links, net__ipv6__fwmark_reflect="1") == ("sysctl.txt: net.ipv6.fwmark_reflect = 1",)


def test_settings_that_the_walk_follows_are_not_named() -> None:
    links = (Link("eth0", "", 2, 1, 1500),)
    source_routes = {f"net.ipv4.conf.{name}.accept_source_route": "1" for name in ("all", "eth0")}
    followed = {**source_routes, "net.ipv6.conf.eth0.force_forwarding": "1"}
    assert Host(HostConfig(links=links, sysctl=followed)).unmodelled == ()


def test_routes_of_a_source_are_left_out_and_named(tmp_path: Path) -> None:
    route = {"dst": "fd09::/64", "from": "fd01::/64", "dev": "eth0", "flags": [], "metric": 1024, "pref": "medium"}
    (tmp_path / "routes6.json").write_text(json.dumps([route]))
    assert Host(HostConfig.load(tmp_path)).unmodelled == ("routes.json: from, and the route is left out (fd09::/64)",)
