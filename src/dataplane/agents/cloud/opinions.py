"""What balancers come to think of nodes while a cluster changes: a check asks at its interval, and after so many equal
answers in a row the opinion changes.

Each node is asked at moments of its own, which the seed draws. Nothing is queued for checks whose answer stays the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass

from dataplane.agents.cloud.controller import Cloud, Key
from dataplane.agents.cloud.kinds import Check
from dataplane.agents.cloud.node_health import Finding
from dataplane.cluster.addresses import place
from dataplane.cluster.objects import NodeState, ServiceState

NOT_ASKED = Finding(False, "not asked often enough yet")


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What the last question of a row will have found, unless something changes before."""

    service: Key
    node: str
    finding: Finding


class Opinions:
    """The opinions of all balancers of a cloud about their nodes."""

    def __init__(self, cloud: Cloud, seed: int) -> None:
        self.cloud = cloud
        self.seed = seed
        self._awaited: dict[tuple[Key, str], Answer] = {}

    def start(self) -> None:
        """Balancers know what can be known at the beginning."""
        for balancer in self.cloud.balancers():
            if balancer.kind.check(balancer.service).what:
                for node, finding in balancer.findings.items():
                    self.cloud.think((balancer.service.namespace, balancer.service.name), node, finding)

    def ask(
        self, now: int, late: Set[str], services: Set[Key] | None = None, nodes: Set[str] | None = None
    ) -> Iterator[tuple[int, Answer]]:
        """(time, answer) of each opinion that will change, if nothing happens before.

        late: nodes whose kube-proxy has not taken up what has changed, and answers as before. services, nodes: only
        these; None: all.
        """
        for balancer in self.cloud.balancers(services):
            check = balancer.kind.check(balancer.service)
            if not check.what:
                continue
            for node in balancer.nodes:
                if nodes is None or node.name in nodes:
                    if node.name in late and node.name not in self.cloud.outages:
                        continue
                    answer = self._ask(balancer.service, node)
                    if answer is not None:
                        yield self._due(check, answer, now), answer

    def _ask(self, service: ServiceState, node: NodeState) -> Answer | None:
        key = (service.namespace, service.name)
        finding = self.cloud.find(service, node)
        # A node, or a Service, that is new has to prove itself.
        known = self.cloud.thought.get((*key, node.name), NOT_ASKED)
        awaited = self._awaited.get((key, node.name))
        if finding.healthy == known.healthy:
            self._awaited.pop((key, node.name), None)
            self.cloud.think(key, node.name, finding)
            return None
        self.cloud.think(key, node.name, known)
        if awaited is not None:
            return None
        answer = self._awaited[key, node.name] = Answer(key, node.name, finding)
        return answer

    def settle(self, answer: Answer) -> str:
        """Let a balancer change its opinion; what happened in words, "" where the answer has been overtaken."""
        slot = (answer.service, answer.node)
        if self._awaited.get(slot) is not answer:
            return ""
        del self._awaited[slot]
        if self.cloud.state.node(answer.node) is None or self.cloud.state.service(*answer.service) is None:
            return ""
        self.cloud.think(answer.service, answer.node, answer.finding)
        word = "healthy" if answer.finding.healthy else "unhealthy"
        namespace, name = answer.service
        return f"{self.cloud.kind.name} {namespace}/{name}: {answer.node} {word} ({answer.finding.why})"

    def _due(self, check: Check, answer: Answer, now: int) -> int:
        """The moment of the question that decides."""
        phase = place(self.seed, "probe", *answer.service, answer.node) % check.interval
        first = now + (phase - now) % check.interval
        return first + ((check.rise if answer.finding.healthy else check.fall) - 1) * check.interval
