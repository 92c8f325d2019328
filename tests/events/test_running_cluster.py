"""After any changes, once every proxy has synced, each host is what it would be had it been built for them."""

from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from dataplane import Cluster
from dataplane.agents.node import Agents
from dataplane.host.config import HostConfig, RealServer, VirtualService
from dataplane.timeline import Timeline

SHOP = Path(__file__).parent / "shop.yaml"
NEW_SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "extra"},
    "spec": {"selector": {"app": "web"}, "externalIPs": ["198.51.100.9"], "ports": [{"port": 8000}]},
}


def random_service(random: Random, name: str, selector: Mapping[str, str]) -> dict[str, Any]:
    """Any features together that the API takes together."""
    kind = random.choice(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName", "headless"])
    service: dict[str, Any] = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}}
    if kind == "ExternalName":
        return {**service, "spec": {"type": kind, "externalName": "example.com"}}
    ports = [{"name": "one", "port": 80, "targetPort": 8080}, {"name": "two", "port": 80, "protocol": "UDP"}]
    spec: dict[str, Any] = {"selector": selector, "ports": ports[: random.choice([1, 2])]}
    if kind == "headless":
        return {**service, "spec": {**spec, "clusterIP": "None"}}
    spec["type"] = kind
    spec["internalTrafficPolicy"] = random.choice(["Cluster", "Local"])
    spec["sessionAffinity"] = random.choice(["None", "ClientIP"])
    spec["publishNotReadyAddresses"] = random.random() < 0.2
    if random.random() < 0.3:
        spec["externalIPs"] = ["198.51.100.20"]
    if kind != "ClusterIP":
        spec["externalTrafficPolicy"] = random.choice(["Cluster", "Local"])
    if kind == "LoadBalancer":
        spec["allocateLoadBalancerNodePorts"] = random.random() < 0.7
        spec["loadBalancerSourceRanges"] = random.choice([[], ["203.0.113.0/24"], ["192.168.1.0/24"]])
        ingress = random.choice([[], [{"ip": "198.51.100.7"}], [{"ip": "198.51.100.8", "ipMode": "Proxy"}]])
        service["status"] = {"loadBalancer": {"ingress": ingress}}
    if random.random() < 0.2:
        service["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": "other"}
    return {**service, "spec": spec}


def random_change(random: Random, timeline: Timeline, number: int) -> Mapping[str, Any]:
    state = timeline.state
    pods = [pod for pod in state.pods if pod.name != "client" and not pod.terminating]
    pod = random.choice(pods or [None])
    service = random.choice(["web", "sticky", "dns", "front"])
    selector = {"app": random.choice(["web", "dns", "none"])}
    ready = random.choice([0, "500ms"])
    listed = {e.address for piece in state.slices for e in piece.endpoints if piece.service}
    choices: list[Mapping[str, Any]] = []
    if pod is not None:
        choices += [
            {"restart": f"pod/{pod.name}", "readyAfter": ready},
            {"delete": f"pod/{pod.name}", "gracePeriod": random.choice([0, "2s"]), "readyAfter": ready},
        ]
    if pod is not None and {str(ip) for ip in pod.ips} & listed:
        choices += [
            {"endpoint": f"pod/{pod.name}", "ready": random.choice([True, False])},
            {"endpoint": f"pod/{pod.name}", "terminating": random.choice([True, False])},
        ]
    choices += [
        {"scale": "deployment/web", "replicas": random.randrange(6), "readyAfter": ready},
        {"scale": "statefulset/dns", "replicas": random.randrange(4)},
        {"rollout": "deployment/web", "readyAfter": ready, "maxSurge": random.randrange(3)},
        {"rollout": "statefulset/dns"},
        {"apply": {**NEW_SERVICE, "metadata": {"name": f"extra-{number}"}}},
        {"apply": {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"late-{number}"}}},
        {
            "apply": {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": service},
                "spec": {"selector": selector, "ports": [{"port": 80 + number, "protocol": "UDP"}]},
            }
        },
        {"apply": random_service(random, service, selector)},
        {"restartProxy": "*", "for": random.choice([0, "1s"])},
    ]
    if state.service("default", service) is not None and random.random() < 0.3:
        choices.append({"delete": f"service/{service}"})
    lost = [node.name for node in state.nodes if node.lost]
    if lost:
        choices += [{"return": f"node/{lost[0]}", "rebooted": reboot} for reboot in (False, True)]
    elif len(state.nodes) > 2:
        choices.append({"lose": "node/node-2", "notReadyAfter": ready, "evictAfter": random.choice([0, "1s"])})
    if timeline.agents.mode == "iptables":
        choices.append({"proxyMode": "none", "cleanup": random.choice([True, False])})
    choices.append({"proxyMode": timeline.agents.mode})
    late = [node.name for node in state.nodes if node.name.startswith("late")]
    if late:
        choices.append({"delete": f"node/{late[0]}"})
    return random.choice(choices)


def balanced(config: HostConfig) -> set[tuple[VirtualService, frozenset[RealServer]]]:
    """The virtual services of a host; servers are in the order in which they happened to come."""
    return {(service.with_(servers=()), frozenset(service.servers)) for service in config.ipvs}


@pytest.mark.parametrize("mode", ["iptables", "ipvs"])
@pytest.mark.parametrize("seed", range(16))
def test_syncs_lead_to_what_a_full_render_gives(seed: int, mode: str) -> None:
    random = Random(seed)
    cluster = Cluster.load(SHOP, seed=seed, mode=mode)
    fabric = cluster.fabric()
    timeline = cluster.timeline(fabric, sync_delay=random.choice(["0", "1s+3s", "2s,node-2=5s"]))
    timeline.start(0)
    from dataplane.cluster.events import read_change

    now = 0
    for number in range(12):
        now += random.randrange(3_000_000_000)
        timeline.until(now)
        timeline.change(read_change(random_change(random, timeline, number)), now)
    for node in timeline.state.nodes:
        if node.lost:
            timeline.change(read_change({"return": f"node/{node.name}"}), now)
    timeline.change(read_change({"proxyMode": mode}), now)
    timeline.until(now + 600_000_000_000)
    assert timeline.next is None
    agents = Agents(timeline.state, cluster.options)
    for node in timeline.state.nodes:
        running, fresh = fabric.running(node.name), agents.host(node.name)
        for family in (4, 6):
            rules, expected = running.ruleset(family), fresh.iptables if family == 4 else fresh.ip6tables
            assert rules is not None
            assert expected is not None
            # Policies count while time passes: neighbours are looked for.
            assert rules.text().replace("[0:0]", "") == expected.text().replace("[0:0]", ""), (node.name, family)
        assert {link.name for link in running.config.links} == {link.name for link in fresh.links}
        assert running.slots.keys() == {link.name for link in fresh.links}
        assert set(running.config.addresses) == set(fresh.addresses)
        assert set(running.config.routes) == set(fresh.routes)
        assert set(running.config.neighbours) == set(fresh.neighbours)
        assert running.config.ipsets == fresh.ipsets
        assert balanced(running.config) == balanced(fresh)
        assert bool(fresh.ipvs) == (mode == "ipvs")
    hosts = {"underlay", "outside", *(n.name for n in timeline.state.nodes), *map(str, agents.pods())}
    assert fabric.ids.keys() == hosts
    for wire in agents.topology():
        assert fabric.wires[wire.host_a, wire.interface_a] == (wire.host_b, wire.interface_b)
