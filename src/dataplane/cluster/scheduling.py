"""Which node a pod runs on: round robin over the nodes that take it.

A node takes a pod when it bears the labels of its nodeSelector, when each of its taints of effect NoSchedule or
NoExecute is tolerated (an unschedulable node has such a taint), and when it has fewer pods than it allows. Everything
else that the true scheduler weighs (resources, affinity, spreading) is left out, and listed where it is set.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from dataplane.cluster.objects import NodeState, PodSpec, Taint, Toleration

UNSCHEDULABLE = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")
# What the DaemonSet controller adds to its pods.
DAEMON_TOLERATIONS = tuple(
    Toleration(f"node.kubernetes.io/{name}", "Exists", effect=effect)
    for name, effect in (
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
    )
)
_NETWORK_UNAVAILABLE = Toleration("node.kubernetes.io/network-unavailable", "Exists", effect="NoSchedule")


def takes(node: NodeState, spec: PodSpec, tolerations: Sequence[Toleration]) -> bool:
    """Whether labels and taints of the node let the pod in."""
    if any(node.labels.get(key) != value for key, value in spec.node_selector.items()):
        return False
    taints = (*node.taints, UNSCHEDULABLE) if node.unschedulable else node.taints
    return all(
        taint.effect == "PreferNoSchedule" or any(toleration.tolerates(taint) for toleration in tolerations)
        for taint in taints
    )


def daemon_tolerations(spec: PodSpec) -> tuple[Toleration, ...]:
    extra = (_NETWORK_UNAVAILABLE,) if spec.host_network else ()
    return (*spec.tolerations, *DAEMON_TOLERATIONS, *extra)


class RoundRobin:
    """Hands out nodes in turn. `count` tells it of a pod that is bound already, so that the turn goes on after it."""

    def __init__(self, nodes: Sequence[NodeState]) -> None:
        self._nodes = nodes
        self._room = [node.max_pods for node in nodes]
        self._cursor = 0
        self._open: dict[object, list[int]] = {}

    def count(self, node: int, *, turn: bool) -> None:
        """A pod is on the node. turn: it was bound by the scheduler, not by a DaemonSet."""
        self._room[node] -= 1
        if turn and self._nodes:
            self._cursor = (self._cursor + 1) % len(self._nodes)

    def bind(self, spec: PodSpec) -> int | None:
        """The index of the next node that takes the pod, None when none does."""
        signature = (frozenset(spec.node_selector.items()), spec.tolerations)
        eligible = self._open.get(signature)
        if eligible is None:
            eligible = [i for i, node in enumerate(self._nodes) if takes(node, spec, spec.tolerations)]
            self._open[signature] = eligible
        while eligible:
            at = bisect_left(eligible, self._cursor) % len(eligible)
            index = eligible[at]
            if self._room[index] > 0:
                self._room[index] -= 1
                self._cursor = (index + 1) % len(self._nodes)
                return index
            del eligible[at]  # a full node stays full
        return None

    def reason(self, spec: PodSpec) -> str:
        """Why no node takes the pod, as the scheduler words it."""
        count = len(self._nodes)
        return f"0/{count} nodes are available: " + ", ".join(self._refusals(spec)) + "."

    def _refusals(self, spec: PodSpec) -> Iterable[str]:
        selector = sum(
            any(node.labels.get(key) != value for key, value in spec.node_selector.items()) for node in self._nodes
        )
        allowed = [i for i, node in enumerate(self._nodes) if takes(node, spec, spec.tolerations)]
        full = sum(self._room[i] <= 0 for i in allowed)
        tainted = len(self._nodes) - selector - len(allowed)
        if selector:
            yield f"{selector} node(s) didn't match Pod's node affinity/selector"
        if tainted:
            yield f"{tainted} node(s) had untolerated taint(s)"
        if full:
            yield f"{full} Too many pods"
