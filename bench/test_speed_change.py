"""One endpoint that changes: of the objects, of what kube-proxy renders, and in the rules of a running node."""

from collections.abc import Callable
from typing import Any

import pytest

from dataplane.agents.kubeproxy.node_proxy import Sync
from dataplane.agents.node import Agents
from dataplane.bench.services import NODE, cluster, endpoint_ip, service_name
from dataplane.cluster.changes import SetEndpoint
from dataplane.datapath.compile import compile_host
from dataplane.datapath.running_host import RunningHost


class Changing:
    """A cluster, its kube-proxy on one node, and that node."""

    def __init__(self, services: int, endpoints: int) -> None:
        self.services, self.endpoints, self.number = services, endpoints, 0
        self.state = cluster(services, endpoints)
        self.agents = Agents(self.state)
        config = self.agents.host(NODE)
        self.running = RunningHost(compile_host(config), config)
        self.proxy = self.agents.node_proxy(NODE)
        # The first change of a host makes room.
        self.apply(self.render(*self.objects()))

    def objects(self) -> tuple[Any, Any]:
        """An endpoint goes, and comes back in the next round: every round changes something."""
        self.number += 1
        service = self.service
        address = str(endpoint_ip(service * self.endpoints))
        ready = self.number % 2 == 0
        changed = SetEndpoint("default", address=address, service=service_name(service), ready=ready).apply(
            self.state, 0
        )
        assert changed.services
        self.state = changed.state
        return changed.state, changed.services

    @property
    def service(self) -> int:
        """The one that changes: another after every two rounds."""
        return (self.number + 1) // 2 * 7919 % self.services

    def render(self, state: Any, services: Any) -> list[Sync]:
        self.agents.update(state, services)
        return self.proxy.sync(services, self.number * 1_000_000_000)

    def apply(self, syncs: list[Sync]) -> None:
        for sync in syncs:
            self.running.restore(sync.restore)


@pytest.fixture(scope="module", params=[1_000, 10_000])
def changing(request: pytest.FixtureRequest) -> Changing:
    return Changing(request.param, 10)


def test_change_of_the_objects(changing: Changing, per: Callable[..., Any]) -> None:
    def again() -> Any:
        # What was not rendered must not be forgotten.
        changing.apply(changing.render(changing.state, {("default", service_name(changing.service))}))
        return (), {}

    per(1, changing.objects, again)


def test_change_rendered(changing: Changing, per: Callable[..., Any]) -> None:
    per(1, changing.render, lambda: (changing.objects(), {}))


def test_change_applied(changing: Changing, per: Callable[..., Any]) -> None:
    per(1, changing.apply, lambda: ((changing.render(*changing.objects()),), {}))


def test_change_in_all(changing: Changing, per: Callable[..., Any]) -> None:
    """From the event to the rules that the next packet meets."""
    per(1, lambda: changing.apply(changing.render(*changing.objects())))
