"""kube-proxy with more than 1,000 endpoints, here 5: rules of endpoints go without comments, and chains that nothing uses
any more are looked for once in a sync period."""

from dataclasses import replace

from dataplane.agents.kubeproxy.node_proxy import NodeProxy, Sync
from dataplane.agents.kubeproxy.options import ProxyOptions
from dataplane.agents.kubeproxy.proxier import Proxier
from dataplane.cluster import ClusterState, complete, read_manifests
from dataplane.cluster.objects import Endpoint

SECOND = 1_000_000_000
OPTIONS = ProxyOptions(large_cluster_endpoints=5)


def documents(name: str, number: int) -> list[dict]:
    labels = {"kubernetes.io/service-name": name}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"clusterIP": f"10.96.0.{number}", "ports": [{"name": "p", "port": 80}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": f"{name}-1", "labels": labels},
            "addressType": "IPv4",
            "ports": [{"name": "p", "port": 8080}],
            "endpoints": [{"addresses": [f"192.0.2.{number + at}"]} for at in range(2)],
        },
    ]


class Running:
    def __init__(self, options: ProxyOptions = OPTIONS) -> None:
        services = [*documents("a", 10), *documents("b", 20)]
        self.state: ClusterState = complete(read_manifests(services))
        self.proxier = Proxier(self.state, options)
        self.proxy = NodeProxy(self.proxier, self.state.nodes[0], ())

    def with_endpoints(self, name: str, *addresses: str, now: int = 0) -> Sync:
        """The Service has other endpoints; what the node's proxy writes."""
        key = ("default", name)
        (piece,) = self.state.endpoints[key]
        piece = replace(piece, endpoints=tuple(map(Endpoint, addresses)))
        self.state = self.state.changed((), {key: (piece,)})
        self.proxier.update(self.state, [key])
        (sync,) = [sync for sync in self.proxy.sync([key], now) if sync.restore.family == 4]
        return sync


def of_endpoints(sync: Sync) -> dict[str, list[str]]:
    """Service -> its rules that name or are of endpoints, by the comment; "" where they have none."""
    found: dict[str, list[str]] = {}
    for chain, rules in sync.restore.chains["nat"].items():
        for rule in rules:
            if chain.startswith("KUBE-SEP-") or "-j KUBE-SEP-" in rule:
                comment = rule.partition('--comment "default/')[2][:1]
                found.setdefault(comment, []).append(rule)
    return found


def test_the_comments_go_when_there_are_too_many_and_come_back() -> None:
    """A sync writes what has changed: other Services keep the comments that they have."""
    running = Running()
    assert of_endpoints(running.with_endpoints("a", "192.0.2.1", "192.0.2.2", "192.0.2.3")).keys() == {"a"}
    assert of_endpoints(running.with_endpoints("b", "192.0.2.4", "192.0.2.5", "192.0.2.6")).keys() == {""}
    assert of_endpoints(running.with_endpoints("b", "192.0.2.4", "192.0.2.5")).keys() == {"b"}
    # What is not ready counts: it is known.
    large = Running()
    large.with_endpoints("a", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.7")
    assert large.proxier.is_large(4)
    assert not large.proxier.is_large(6)


def test_chains_that_are_left_over_go_once_in_a_sync_period() -> None:
    running = Running()
    many = [f"192.0.2.{number}" for number in range(100, 106)]
    first = running.with_endpoints("a", *many, now=100 * SECOND)
    assert len(first.restore.deleted["nat"]) == 2  # the two that were there
    assert not running.with_endpoints("a", *many[:5], now=110 * SECOND).restore.deleted
    assert not running.with_endpoints("a", *many[:4], now=129 * SECOND).restore.deleted
    assert len(running.with_endpoints("b", *many, now=131 * SECOND).restore.deleted["nat"]) == 4


def test_the_sync_period_is_the_configured_one() -> None:
    running = Running(replace(OPTIONS, sync_period=5))
    many = [f"192.0.2.{number}" for number in range(100, 106)]
    running.with_endpoints("a", *many, now=100 * SECOND)
    assert not running.with_endpoints("a", *many[:5], now=104 * SECOND).restore.deleted
    assert running.with_endpoints("a", *many[:4], now=106 * SECOND).restore.deleted


def test_in_a_small_cluster_they_go_at_once() -> None:
    running = Running(ProxyOptions())
    assert len(running.with_endpoints("a", "192.0.2.10", now=SECOND).restore.deleted["nat"]) == 1
    assert len(running.with_endpoints("a", "192.0.2.99", now=2 * SECOND).restore.deleted["nat"]) == 1
