"""Nodes that are lost and return, pods that are made anew, proxies that go and come: as the packets meet it."""

import re
from pathlib import Path

import pytest

from dataplane import Cluster
from dataplane.agents.cloud.node_health import Finding
from dataplane.agents.node import Agents
from dataplane.errors import InputError, ModelError
from dataplane.testing import Conversation, Run
from dataplane.testing.wire import TCP, UDP

SHOP = Path(__file__).parent / "shop.yaml"
SECOND = 1_000_000_000
NODE_PORT = 30080
NODE_2 = "192.168.1.12"
ETHERNET_ARP = bytes.fromhex("0806")


@pytest.fixture
def run() -> Run:
    return Run(Cluster.load(SHOP))


def service(run: Run, name: str) -> str:
    found = run.timeline.state.service("default", name)
    assert found is not None
    return str(found.cluster_ips[0])


def on_node(run: Run, node: str, prefix: str) -> list[str]:
    return [str(pod) for pod in run.timeline.state.pods_on(node) if pod.name.startswith(prefix)]


def whole(run: Run, node: str) -> None:
    """The node is configured as it would be had it been built for the cluster as it is now."""
    fresh = Agents(run.timeline.state, run.cluster.options).host(node)
    running = run.fabric.running(node)
    for family, expected in ((4, fresh.iptables), (6, fresh.ip6tables)):
        rules = running.ruleset(family)
        assert rules is not None
        assert expected is not None
        # Policies count while time passes: neighbours are looked for.
        assert re.sub(r" \[\d+:\d+\]", "", rules.text()) == re.sub(r" \[\d+:\d+\]", "", expected.text())
    assert {link.name for link in running.config.links} == {link.name for link in fresh.links}
    assert set(running.config.routes) == set(fresh.routes)


def reached(run: Run, target: str, port: int, count: int = 12, protocol: int = TCP, sport: int = 50_000) -> set[str]:
    """Who gets connections of the client; what becomes of those that nobody gets."""
    found = set()
    for number in range(count):
        played = run.play(Conversation("default/client", target, protocol, sport + number, port))
        first = played.requests[0]
        found.add(first.receiver if first.delivered else first.reason.name)
    return found


# ---- nodes -------------------------------------------------------------------------------------------------------------


def test_a_node_that_was_cut_off_goes_on_as_it_was(run: Run) -> None:
    (there, *_) = on_node(run, "node-2", "web")
    talk = run.begin(Conversation("default/client", service(run, "web"), TCP, 41_000, 80))
    for port in range(41_000, 41_040):  # until one reaches the pod
        talk = run.begin(Conversation("default/client", service(run, "web"), TCP, port, 80))
        requests, _ = run.exchange(talk, b"one", b"1")
        if requests[0].receiver == there:
            break
    run.change({"lose": "node/node-2", "evictAfter": 0})
    assert not run.exchange(talk, b"two", b"2")[0][0].delivered
    run.wait(60 * SECOND)
    assert there not in reached(run, service(run, "web"), 80)
    run.change({"return": "node/node-2"})
    requests, replies = run.exchange(talk, b"three", b"3")
    assert [passage.receiver for passage in requests] == [there]
    assert replies[0].delivered
    assert there in reached(run, service(run, "web"), 80, 30, sport=52_000)


def test_changes_reach_a_node_when_it_is_back(run: Run) -> None:
    run.change({"lose": "node/node-2", "evictAfter": "20s"})
    run.wait(61 * SECOND)
    run.change({"scale": "deployment/web", "replicas": 6})
    run.change({"delete": "service/sticky"})
    run.change({"apply": {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "late"}}})
    assert not on_node(run, "node-2", "web-") or all(
        pod.terminating for pod in run.timeline.state.pods_on("node-2") if pod.name.startswith("web-")
    )
    run.change({"return": "node/node-2"})
    whole(run, "node-2")
    run.change({"scale": "deployment/web", "replicas": 9})
    assert on_node(run, "node-2", "web")
    assert set(on_node(run, "node-2", "web")) <= reached(run, service(run, "web"), 80, 80)
    whole(run, "node-2")


def test_a_node_that_starts_anew_has_forgotten_its_connections(run: Run) -> None:
    def outsider(port: int) -> Conversation:
        return Conversation("outside", NODE_2, TCP, port, NODE_PORT)

    assert all(run.play(outsider(port)).complete for port in range(42_000, 42_010))
    before = {pod.name: pod.ips for pod in run.timeline.state.pods_on("node-2")}
    assert "dport=30080" in run.connections("node-2").text()
    run.change({"lose": "node/node-2"})
    run.wait(SECOND)
    assert not run.play(outsider(42_100)).requests[0].delivered
    run.change({"return": "node/node-2", "rebooted": True})
    assert "dport=30080" not in run.connections("node-2").text()
    run.wait(2 * SECOND)  # until who looks for the node asks again
    after = {pod.name: pod.ips for pod in run.timeline.state.pods_on("node-2")}
    assert before.keys() == after.keys()
    assert not {ip for ips in before.values() for ip in ips} & {ip for ips in after.values() for ip in ips}
    whole(run, "node-2")
    assert run.play(outsider(42_200)).complete
    assert set(on_node(run, "node-2", "web")) <= reached(run, service(run, "web"), 80, 40)


def test_a_cluster_that_has_lost_a_node_before() -> None:
    cluster = Cluster.load(SHOP)
    cluster.apply({"lose": "node/node-2", "evictAfter": 0})
    run = Run(cluster)
    assert not run.play(Conversation("outside", NODE_2, TCP, 40_000, NODE_PORT)).requests[0].delivered
    assert not any("node-2" in name for name in reached(run, service(run, "web"), 80))
    run.change({"return": "node/node-2"})
    run.wait(2 * SECOND)  # until who looks for the node asks again
    assert run.play(Conversation("outside", NODE_2, TCP, 40_001, NODE_PORT)).complete


def through_the_balancer(run: Run, port: int) -> str:
    """The node through which an outsider comes in by the balancer's address, which is its endpoint's; "" for none."""
    played = run.play(Conversation("outside", "198.51.100.7", TCP, port, 443))
    pod = run.timeline.state.pod("default", played.endpoints[0].partition("/")[2]) if played.complete else None
    return (pod.node or "") if pod is not None else ""


def test_a_balancer_passes_a_lost_node_over(run: Run) -> None:
    first = through_the_balancer(run, 40_000)
    assert first
    run.change({"lose": f"node/{first}", "evictAfter": 0})
    second = through_the_balancer(run, 40_001)
    assert second not in ("", first)
    run.change({"return": f"node/{first}"})
    run.wait(2 * SECOND)
    assert through_the_balancer(run, 40_002) == first
    cluster = Cluster.load(SHOP)
    cluster.apply({"lose": f"node/{first}", "evictAfter": 0})
    assert through_the_balancer(Run(cluster), 40_003) == second


def test_a_balancer_that_asks_kube_proxy_finds_it_gone() -> None:
    run = Run(Cluster.load(SHOP, cloud="gcp"))
    assert not any("does not run" in finding.why for finding in findings(run))
    run.change({"proxyMode": "none"})
    assert all("kube-proxy does not run" in finding.why for finding in findings(run))
    run.change({"proxyMode": "iptables"})
    assert not any("does not run" in finding.why for finding in findings(run))


def findings(run: Run) -> list[Finding]:
    """What the balancer's check would get from each node now."""
    cloud, state = run.timeline.agents.cloud, run.timeline.state
    front = state.service("default", "front")
    assert front is not None
    return [cloud.find(front, node) for node in state.nodes]


# ---- pods --------------------------------------------------------------------------------------------------------------


def test_a_new_pod_tells_its_address(run: Run) -> None:
    """By an ARP request for itself, which all pods of the node hear, under a MAC address of its own."""
    before = run.fabric.running("default/dns-0").config.link("eth0")
    run.fabric.walk.captured()
    run.change({"restart": "pod/dns-0"})
    after = run.fabric.running("default/dns-0").config.link("eth0")
    assert before is not None
    assert after is not None
    assert after.mac != before.mac
    pod = run.timeline.state.pod("default", "dns-0")
    assert pod is not None
    seen, _, _ = run.fabric.walk.captured()
    frames = {run.fabric.places[seen.interface[n]]: bytes(seen.frame(n)) for n in range(len(seen))}
    assert {f"{name}/eth0" for name in on_node(run, pod.node or "", "")} <= frames.keys()
    (frame,) = set(frames.values())
    own = (after.mac or 0).to_bytes(6)
    assert (
        frame
        == b"\xff" * 6
        + own
        + ETHERNET_ARP
        + bytes.fromhex("0001080006040001")
        + own
        + pod.ips[0].packed
        + bytes(6)
        + pod.ips[0].packed
    )


def test_neighbours_learn_who_has_an_address_now(run: Run) -> None:
    """An address that another pod gets at once: whoever knew the first by its MAC address is not led astray."""
    client = run.timeline.state.pod("default", "client")
    assert client is not None
    here = [p for p in run.timeline.state.pods_on(client.node or "") if p.name.startswith("web")]
    was = here[0]
    target = str(was.ips[0])
    assert reached(run, target, 8080, 1) == {str(was)}
    run.change({"delete": f"pod/{was.name}", "readyAfter": "1h"})
    run.change(
        {
            "apply": {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "heir"},
                "spec": {"nodeName": client.node, "containers": [{"name": "c", "image": "i"}]},
                "status": {"podIP": target},
            }
        }
    )
    assert reached(run, target, 8080, 1, sport=51_000) == {"default/heir"}


# ---- proxies -----------------------------------------------------------------------------------------------------------


def test_without_a_proxy_the_rules_stay_as_they_are(run: Run) -> None:
    run.change({"proxyMode": "none"})
    (gone, *_) = on_node(run, "node-1", "dns") or on_node(run, "node-2", "dns")
    found = reached(run, service(run, "dns"), 53, 20, UDP)
    assert gone in found
    run.change({"restart": f"pod/{gone.partition('/')[2]}"})
    stale = reached(run, service(run, "dns"), 53, 20, UDP, sport=52_000)
    assert len(stale) == 2
    assert gone not in stale
    run.change({"restartProxy": "*"})  # there is none
    assert reached(run, service(run, "dns"), 53, 20, UDP, sport=53_000) == stale
    run.change({"proxyMode": "iptables"})
    assert gone in reached(run, service(run, "dns"), 53, 20, UDP, sport=54_000)
    for node in run.timeline.state.nodes:
        whole(run, node.name)


def test_a_proxy_that_is_cleaned_up_takes_its_rules_along(run: Run) -> None:
    assert all(name.startswith("default/web") for name in reached(run, service(run, "web"), 80))
    run.change({"proxyMode": "none", "cleanup": True})
    for family in (4, 6):
        rules = run.fabric.running("node-1").ruleset(family)
        assert rules is not None
        text = rules.text()
        assert "KUBE-S" not in text
        assert "KUBE-KUBELET-CANARY" in text
        assert ("-j FLANNEL-POSTRTG" in text) is (family == 4)  # the cluster has no IPv6
        assert "-A INPUT -j KUBE-FIREWALL" in text
    assert reached(run, service(run, "web"), 80, sport=51_000) == {"IP_INADDRERRORS"}
    run.change({"apply": {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "late"}}})
    late = run.fabric.running("late").ruleset(4)
    assert late is not None
    assert "KUBE-SERVICES" not in late.text()
    run.change({"scale": "deployment/web", "replicas": 2})
    run.change({"proxyMode": "iptables"})
    for node in run.timeline.state.nodes:
        whole(run, node.name)
    assert len(reached(run, service(run, "web"), 80, 30, sport=52_000)) == 2
    run.change({"scale": "deployment/web", "replicas": 3})
    whole(run, "node-1")


def test_what_cannot_be_is_said() -> None:
    cluster = Cluster.load(SHOP)
    for mode in ("nftables", "userspace"):
        with pytest.raises(InputError, match=f"{mode!r} is not modelled; iptables, ipvs and none are"):
            cluster.at(1, {"proxyMode": mode})
    with pytest.raises(ModelError, match="do not change from iptables to ipvs while they run"):
        Run(cluster).change({"proxyMode": "ipvs"})
    with pytest.raises(InputError, match="cleanup goes with the mode none"):
        cluster.at(1, {"proxyMode": "iptables", "cleanup": True})
    with pytest.raises(ModelError, match="proxyMode none is an event"):
        cluster.apply({"proxyMode": "none"})
    with pytest.raises(ModelError, match="Node node-1 was not lost"):
        cluster.apply({"return": "node/node-1"})


def test_in_ipvs_mode_a_proxy_goes_and_comes_too() -> None:
    run = Run(Cluster.load(SHOP, mode="ipvs"))
    both = reached(run, service(run, "dns"), 53, 20, UDP)
    assert len(both) == 2
    run.change({"proxyMode": "none"})
    run.change({"scale": "statefulset/dns", "replicas": 1})
    stale = reached(run, service(run, "dns"), 53, 20, UDP, sport=53_000)
    assert "default/dns-0" in stale
    assert len(stale - both) == 1  # what is sent to the server that is gone
    run.change({"proxyMode": "ipvs"})
    assert reached(run, service(run, "dns"), 53, 20, UDP, sport=54_000) == {"default/dns-0"}
    for change, why in (
        ({"proxyMode": "none", "cleanup": True}, "cleanup of IPVS mode is not modelled"),
        ({"proxyMode": "iptables"}, "do not change from ipvs to iptables"),
    ):
        with pytest.raises(ModelError, match=why):
            run.change(change)
    run.change({"proxyMode": "none"})
    with pytest.raises(ModelError, match="node late starts without a kube-proxy"):
        run.change({"apply": {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "late"}}})


def test_a_node_in_ipvs_mode_returns() -> None:
    for rebooted in (False, True):
        run = Run(Cluster.load(SHOP, mode="ipvs"))
        run.change({"lose": "node/node-2", "evictAfter": 0})
        run.wait(60 * SECOND)
        assert not set(on_node(run, "node-2", "web")) & reached(run, service(run, "web"), 80, 30)
        run.change({"return": "node/node-2", "rebooted": rebooted})
        run.wait(2 * SECOND)
        assert set(on_node(run, "node-2", "web")) <= reached(run, service(run, "web"), 80, 30, sport=52_000)
        assert run.play(Conversation("outside", NODE_2, TCP, 40_001, NODE_PORT)).complete
