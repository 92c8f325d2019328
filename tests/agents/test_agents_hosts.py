"""Whole hosts: what the agents say of a node, a pod and the outside is what the kernel's own tools then print."""

import time
from pathlib import Path

import pytest
from agent_namespaces import build, namespace, needs_namespaces

from dataplane.agents import Agents
from dataplane.cluster import complete, load_manifests
from dataplane.host.config import HostConfig, mac_text
from dataplane.host.loader import commands

SAMPLE = Path(__file__).parent / "sample.yaml"
TABLES = {254: "main", 255: "local", 253: "default"}


@pytest.fixture(scope="module")
def agents():
    return Agents(complete(load_manifests(SAMPLE)))


def said(agents, name):
    match name:
        case "pod":
            return agents.pod("default", "web-1")
        case "outside":
            return agents.outside()
        case "underlay":
            return agents.underlay()
    return agents.host(name)


@pytest.fixture(scope="module", params=["node-1", "pod", "outside", "underlay"])
def pair(agents, request):
    """(what the agents say, a namespace built from it)"""
    config = said(agents, request.param)
    with namespace() as far, namespace() as host:
        build(host, far, config)
        settle(host, config)
        yield config, host


def settle(host, config):
    """Until every link-local address is there: the kernel adds it when it has seen the carrier."""
    wanted = sum(address.scope == "link" for address in config.addresses)
    for _ in range(100):
        if host.run("ip", "-6", "-oneline", "address", "show", "scope", "link").count("\n") == wanted:
            return
        time.sleep(0.05)


@needs_namespaces
def test_links(pair):
    config, host = pair
    theirs = {link["ifname"]: link for link in host.json("ip", "-details", "-json", "link", "show")}
    assert list(theirs) == [link.name for link in config.links]
    for link in config.links:
        real = theirs[link.name]
        kind = real.get("linkinfo", {}).get("info_kind", "")
        assert (real["ifindex"], real["address"], real["mtu"]) == (link.index, mac_text(link.mac), link.mtu)
        assert real.get("master") == link.master
        assert kind == link.kind or (link.kind == "" and kind == "veth")  # a wire of ours is a veth pair here
        assert "LOWER_UP" in real["flags"]
        assert (real["promiscuity"] > 0, real["allmulti"] > 0) == (link.promisc, link.allmulti)
        if link.port is not None:
            assert real["linkinfo"]["info_slave_data"]["hairpin"] == link.port.hairpin
        if link.vxlan is not None:
            data = real["linkinfo"]["info_data"]
            local = data.get("local") or data.get("local6")
            assert (data["id"], data["port"], data["learning"], local, data["link"]) == (
                link.vxlan.vni,
                link.vxlan.port,
                link.vxlan.learning,
                str(link.vxlan.local),
                link.vxlan.device,
            )


@needs_namespaces
def test_addresses(pair):
    config, host = pair
    theirs = [
        (
            link["ifname"],
            f"{a['local']}/{a['prefixlen']}",
            a["scope"],
            a.get("broadcast"),
            a.get("noprefixroute", False),
        )
        for link in host.json("ip", "-json", "address", "show")
        for a in link["addr_info"]
    ]
    ours = [
        (
            a.interface,
            str(a.address),
            a.scope,
            str(a.broadcast) if a.broadcast else None,
            "noprefixroute" in a.flags,
        )
        for a in config.addresses
    ]
    assert ours == theirs


def route_row(route):
    """One route as a row of texts, the way `ip -json` leaves defaults out."""
    hop = route.nexthops[0] if route.nexthops else None
    full = route.destination.prefixlen == route.destination.max_prefixlen
    return (
        TABLES[route.table],
        route.type,
        "default"
        if route.destination.prefixlen == 0
        else str(route.destination.network_address if full else route.destination),
        str(hop.gateway) if hop and hop.gateway else None,
        hop.device if hop else None,
        bool(hop and hop.onlink),
        route.protocol,
        route.scope if route.family == 4 else "global",
        str(route.prefsrc) if route.prefsrc else None,
        route.priority,
    )


def real_row(real):
    return (
        real.get("table", "main"),
        real.get("type", "unicast"),
        real["dst"],
        real.get("gateway"),
        real.get("dev"),
        "onlink" in real["flags"],
        real.get("protocol", "boot"),
        real.get("scope", "global"),
        real.get("prefsrc"),
        real.get("metric", 0),
    )


@needs_namespaces
def test_ipv4_routes_in_order(pair):
    config, host = pair
    theirs = [real_row(real) for real in host.json("ip", "-4", "-json", "route", "show", "table", "all")]
    assert [route_row(route) for route in config.routes if route.family == 4] == theirs


@needs_namespaces
def test_ipv6_routes(pair):
    """The order between links is that in which they came up; apart from that it is ours."""
    config, host = pair
    theirs = [real_row(real) for real in host.json("ip", "-6", "-json", "route", "show", "table", "all")]
    ours = [route_row(route) for route in config.routes if route.family == 6]
    assert [row[:3] for row in ours] == [row[:3] for row in theirs]
    assert sorted(map(repr, ours)) == sorted(map(repr, theirs))


@needs_namespaces
@pytest.mark.parametrize("family", [4, 6])
def test_rules(pair, family):
    config, host = pair
    theirs = [(r["priority"], r["table"]) for r in host.json("ip", f"-{family}", "-json", "rule", "show")]
    ours = [(r.priority, TABLES[r.table]) for r in config.rules if r.family == family]
    assert ours == theirs or (family == 6 and not ours)  # a host whose IPv6 is off lists no rules of it


@needs_namespaces
def test_neighbours(pair):
    config, host = pair
    theirs = {
        (n["dev"], n["dst"], n["lladdr"]) for n in host.json("ip", "-json", "neighbour", "show", "nud", "permanent")
    }
    assert {(n.interface, str(n.address), mac_text(n.mac)) for n in config.neighbours} == theirs


@needs_namespaces
def test_fdb(pair):
    config, host = pair
    theirs = {
        (e["ifname"], e["mac"], e.get("dst"), e.get("master"), "self" in e["flags"])
        for e in host.json("bridge", "-json", "fdb", "show")
        if e["state"] == "permanent"
    }
    ours = {(e.interface, mac_text(e.mac), str(e.dst) if e.dst else None, e.master, e.self_) for e in config.fdb}
    assert ours == theirs


@pytest.mark.parametrize("name", ["node-1", "node-2", "pod", "outside", "underlay"])
def test_a_dump_reads_back(agents, name, tmp_path):
    config = said(agents, name)
    config.save(tmp_path)
    found = HostConfig.load(tmp_path)
    for part in ("links", "addresses", "routes", "rules", "neighbours", "fdb", "sysctl", "iptables", "ip6tables"):
        assert getattr(found, part) == getattr(config, part), part
    assert found.warnings == found.unmodelled == ()


@needs_namespaces
@pytest.mark.parametrize("name", ["node-1", "pod", "outside", "underlay"])
def test_the_commands_that_make_a_host_real_all_succeed(agents, name):
    config = said(agents, name)
    far_names = {link.name: f"far{link.index}" for link in config.links}
    with namespace() as far, namespace() as host:
        for command in commands(config, far.name, far_names):
            host.run(*command.argv, text=command.input)
        assert [link["ifname"] for link in host.json("ip", "-json", "link", "show")] == [
            link.name for link in config.links
        ]
