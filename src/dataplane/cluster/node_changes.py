"""Changes of nodes and of their kube-proxies: a node is lost and returns, a proxy starts anew or goes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dataplane.cluster.changes import SECOND, Change, Changed, PodsReady, completed, conditions
from dataplane.cluster.objects import ClusterState, NodeState, Silence, Taint
from dataplane.errors import ModelError

# The modes that a running cluster can go on in.
PROXY_MODES = ("iptables", "ipvs", "none")
UNREACHABLE = "node.kubernetes.io/unreachable"


@dataclass(frozen=True, slots=True)
class LoseNode:
    """A node dies without a word. After `not_ready_after` the control plane notices, and its endpoints are not ready;
    `evict_after` later its pods are deleted, and their workloads make others elsewhere. 0 for evict_after: never."""

    name: str
    not_ready_after: int = 40 * SECOND
    evict_after: int = 300 * SECOND

    def __str__(self) -> str:
        return f"lose node/{self.name}"

    def apply(self, state: ClusterState, seed: int) -> Changed:
        node = _node(state, "lose", self.name)
        if node.lost:
            raise ModelError(f"lose: Node {self.name} is lost already")
        number = node.silence.number + 1 if node.silence is not None else 1
        state = _with(state, replace(node, silence=Silence(number)))
        noticed = NodeNotReady(self.name, self.evict_after, number)
        return Changed(state, frozenset(), ((self.not_ready_after, noticed),))


def _node(state: ClusterState, verb: str, name: str) -> NodeState:
    node = state.node(name)
    if node is None:
        raise ModelError(f"{verb}: no Node {name}")
    return node


def _with(state: ClusterState, node: NodeState) -> ClusterState:
    return replace(state, nodes=tuple(node if known.name == node.name else known for known in state.nodes))


def _still_lost(state: ClusterState, name: str, number: int) -> NodeState | None:
    """The node, if it has not come back from that loss."""
    node = state.node(name)
    if node is None or node.silence is None or node.silence.over or node.silence.number != number:
        return None
    return node


@dataclass(frozen=True, slots=True)
class NodeNotReady:
    """The control plane has missed a node's heartbeats. number: of the loss, of which the node may have come back."""

    name: str
    evict_after: int = 0
    number: int = 1

    def __str__(self) -> str:
        return f"node/{self.name} not ready"

    def apply(self, state: ClusterState, seed: int) -> Changed:
        node = _still_lost(state, self.name, self.number)
        if node is None:
            return Changed(state, frozenset())
        ready = [pod for pod in state.pods_on(self.name) if pod.ready]
        silence = Silence(self.number, ready=frozenset((pod.namespace, pod.name) for pod in ready))
        taints = (Taint(UNREACHABLE, "", "NoSchedule"), Taint(UNREACHABLE, "", "NoExecute"))
        state = _with(state, replace(node, ready=False, silence=silence, taints=(*node.taints, *taints)))
        changed = conditions(state, [replace(pod, ready=False) for pod in ready])
        later: tuple[tuple[int, Change], ...] = ()
        if self.evict_after:
            later = ((self.evict_after, Evict(self.name, self.number)),)
        return changed._replace(later=later)


@dataclass(frozen=True, slots=True)
class Evict:
    """The pods of a lost node are deleted; nobody is there to end them, so they stay terminating."""

    name: str
    number: int = 1

    def __str__(self) -> str:
        return f"evict from node/{self.name}"

    def apply(self, state: ClusterState, seed: int) -> Changed:
        if _still_lost(state, self.name, self.number) is None:
            return Changed(state, frozenset())
        daemons = ("DaemonSet",)
        pods = [
            replace(pod, terminating=True)
            if pod.node == self.name and (pod.owner is None or pod.owner.kind not in daemons)
            else pod
            for pod in state.pods
        ]
        return completed(state, seed, pods=pods)


@dataclass(frozen=True, slots=True)
class ReturnNode:
    """A lost node is there again: what was to be deleted on it ends, its other pods are ready after `ready_after`.

    rebooted: it has started anew. Its kernel has forgotten all connections, and its pods come up with other addresses.
    Without, it was cut off: everything on it has gone on, and its kube-proxy catches up.
    """

    name: str
    rebooted: bool = False
    ready_after: int = 0

    def __str__(self) -> str:
        return f"node/{self.name} returns{' rebooted' if self.rebooted else ''}"

    def apply(self, state: ClusterState, seed: int) -> Changed:
        node = _node(state, "return", self.name)
        silence = node.silence
        if silence is None or silence.over:
            raise ModelError(f"return: Node {self.name} was not lost")
        taints = tuple(taint for taint in node.taints if taint.key != UNREACHABLE)
        back = replace(node, ready=True, taints=taints, silence=Silence(silence.number, over=True))
        pods = []
        starting = []
        for pod in state.pods:
            if pod.node != self.name or pod.finished:
                pods.append(pod)
                continue
            key = (pod.namespace, pod.name)
            serves = pod.ready or key in silence.ready
            if pod.terminating and (self.rebooted or not node.ready):
                continue  # the kubelet hears of the deletion now
            if self.rebooted and not pod.host_network:
                pod = replace(pod, ips=(), created=True, manifest={})
            if serves and self.ready_after and (self.rebooted or not pod.ready):
                starting.append(key)
                serves = False
            pods.append(replace(pod, ready=serves))
        nodes = [back if known.name == self.name else known for known in state.nodes]
        changed = completed(state, seed, nodes=nodes, pods=pods)
        if not starting:
            return changed
        return changed._replace(later=(*changed.later, (self.ready_after, PodsReady(tuple(starting)))))


@dataclass(frozen=True, slots=True)
class RestartProxy:
    """kube-proxy of a node ("*": of every node) stops, and does its full sync `down` later."""

    node: str = "*"
    down: int = 0

    def __str__(self) -> str:
        return f"restart kube-proxy of {self.node}"

    def apply(self, state: ClusterState, seed: int) -> Changed:
        if self.node != "*" and state.node(self.node) is None:
            raise ModelError(f"restartProxy: no Node {self.node}")
        return Changed(state, frozenset())


@dataclass(frozen=True, slots=True)
class ProxyMode:
    """Every kube-proxy goes on in another mode; "none": there is none any more.

    What it has written stays as it is, and no change reaches it; with `cleanup` it is taken away (kube-proxy --cleanup).
    The mode of the run after "none" is a proxy that starts, with a full sync; another one is an error.
    """

    mode: str
    cleanup: bool = False

    def __post_init__(self) -> None:
        if self.mode not in PROXY_MODES:
            raise ModelError(
                f"kube-proxy mode {self.mode!r} is not modelled; {', '.join(PROXY_MODES[:-1])} and {PROXY_MODES[-1]} are"
            )
        if self.cleanup and self.mode != "none":
            raise ModelError("cleanup goes with the mode none")

    def __str__(self) -> str:
        return f"proxy mode {self.mode}{', cleaned up' if self.cleanup else ''}"

    def apply(self, state: ClusterState, seed: int) -> Changed:
        return Changed(state, frozenset())
