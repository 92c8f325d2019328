"""The pods that workloads call for, with the names that their controllers would give them.

Where a controller draws (pod-template-hash, the suffix of a pod's name), a hash takes its place, in the same alphabet
and length: the same manifest gives the same names.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256

from dataplane.cluster.objects import TEMPLATE_HASH, Owner, PodSpec, PodState, Workload

# The alphabet of k8s.io/apimachinery/pkg/util/rand: no vowels, nothing that looks like another letter.
ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
# generateName keeps room for the suffix in a name of 63 characters.
_BASE = 58

Key = tuple[str, str, str, int]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A pod to be created. key: the order in which pods are bound and get their addresses."""

    key: Key
    pod: PodState


@dataclass(frozen=True, slots=True)
class DaemonSet:
    """A DaemonSet with the nodes on which it has its pod already."""

    key: Key
    workload: Workload
    nodes: frozenset[str] = frozenset()


def word(length: int, *names: object) -> str:
    """A word of ALPHABET that follows from the names."""
    value = int.from_bytes(sha256("/".join(map(str, names)).encode()).digest()[:16], "big")
    letters = []
    for _ in range(length):
        value, letter = divmod(value, len(ALPHABET))
        letters.append(ALPHABET[letter])
    return "".join(letters)


def template_hash(workload: Workload) -> str:
    """The pod-template-hash (10 characters) of a Deployment's ReplicaSet."""
    template = workload.template
    text = json.dumps([dict(template.labels), dict(template.annotations), template.spec.manifest], sort_keys=True)
    return word(10, workload.namespace, workload.name, text)


def wanted_pods(workloads: Iterable[Workload], pods: Iterable[PodState]) -> tuple[list[Wanted], list[DaemonSet]]:
    """What the controllers would create beyond the pods that are there, in the order of `Wanted.key`.

    A workload has the pods whose controller reference names it. A Deployment has those of its ReplicaSets, or, where
    these are not given, those whose ReplicaSet bears its name and their pod-template-hash; a ReplicaSet,
    ReplicationController or StatefulSet adopts pods without a controller that its selector matches. Finished and
    terminating pods do not count. A workload that comes from a dump together with pods of its own gets no more.
    """
    pods = list(pods)
    workloads = sorted(workloads, key=lambda workload: (workload.namespace, workload.name, workload.kind))
    given = {(workload.namespace, workload.kind, workload.name) for workload in workloads}
    parents = {
        (workload.namespace, workload.owner.name)
        for workload in workloads
        if workload.kind == "ReplicaSet" and workload.owner is not None and workload.owner.kind == "Deployment"
    }
    names: dict[str, set[str]] = defaultdict(set)
    owned: dict[tuple[str, str, str], list[PodState]] = defaultdict(list)
    seen: set[tuple[str, str, str]] = set()
    orphans: dict[str, list[PodState]] = defaultdict(list)
    for pod in pods:
        names[pod.namespace].add(pod.name)
        owner = _owner(pod, given)
        if owner is not None:
            seen.add((pod.namespace, owner.kind, owner.name))
        if pod.finished or pod.terminating:
            continue
        if owner is not None:
            owned[pod.namespace, owner.kind, owner.name].append(pod)
        elif pod.owner is None:
            orphans[pod.namespace].append(pod)

    wanted: list[Wanted] = []
    daemons: list[DaemonSet] = []
    for workload in workloads:
        key = (workload.namespace, workload.name, workload.kind, 0)
        have = owned[workload.namespace, workload.kind, workload.name]
        if workload.kind == "Deployment" and (workload.namespace, workload.name) in parents:
            continue
        if workload.observed and (workload.namespace, workload.kind, workload.name) in seen:
            continue
        if workload.kind == "DaemonSet":
            daemons.append(DaemonSet(key, workload, frozenset(pod.node for pod in have if pod.node)))
            continue
        if workload.kind != "Job" and orphans[workload.namespace]:
            have = have + _adopted(workload, orphans[workload.namespace])
        wanted.extend(_missing(workload, have, names[workload.namespace]))
    return wanted, daemons


def _owner(pod: PodState, given: set[tuple[str, str, str]]) -> Owner | None:
    owner = pod.owner
    if owner is None or (pod.namespace, owner.kind, owner.name) in given:
        return owner
    suffix = "-" + pod.labels.get(TEMPLATE_HASH, "")
    if owner.kind == "ReplicaSet" and len(suffix) > 1 and owner.name.endswith(suffix):
        return Owner("Deployment", owner.name.removesuffix(suffix))
    return owner


def _adopted(workload: Workload, orphans: list[PodState]) -> list[PodState]:
    adopted = [pod for pod in orphans if workload.selector.matches(pod.labels)]
    if workload.kind == "StatefulSet":
        adopted = [pod for pod in adopted if pod.name.rpartition("-")[0] == workload.name]
    return adopted


def _missing(workload: Workload, have: list[PodState], names: set[str]) -> Iterator[Wanted]:
    key = (workload.namespace, workload.name, workload.kind)
    if workload.kind == "StatefulSet":
        for ordinal in range(workload.first_ordinal, workload.first_ordinal + workload.replicas):
            if f"{workload.name}-{ordinal}" not in names:
                pod = _member(workload, ordinal)
                names.add(pod.name)
                yield Wanted((*key, ordinal), pod)
        return
    base = workload.name
    owner = Owner(workload.kind, base)
    labels = dict(workload.template.labels)
    if workload.kind == "Deployment":
        code = template_hash(workload)
        base = f"{workload.name}-{code}"
        labels[TEMPLATE_HASH] = code
        owner = Owner("ReplicaSet", base)
    elif workload.kind == "Job":
        labels.update({"batch.kubernetes.io/job-name": workload.name, "job-name": workload.name})
    for ordinal in range(workload.replicas - len(have)):
        middle = f"{base}-{ordinal}" if workload.indexed else base
        name = free_name(workload.namespace, middle, names, len(have) + ordinal)
        extra = {"batch.kubernetes.io/job-completion-index": str(ordinal)} if workload.indexed else {}
        yield Wanted((*key, ordinal), _pod(workload, workload.template.spec, name, {**labels, **extra}, owner))


def free_name(namespace: str, base: str, names: set[str], number: int = 0) -> str:
    """A name with a suffix of five characters that no pod of the namespace has yet; it is added to `names`.

    number: the first suffix to try, how many pods of this base there are already.
    """
    while (name := f"{base[:_BASE]}-{word(5, namespace, base, number)}") in names:
        number += 1
    names.add(name)
    return name


class Maker:
    """Knows a workload's pod by its name, where nothing but the name is stated."""

    def __init__(self, workloads: Iterable[Workload]) -> None:
        self._workloads = {(workload.namespace, workload.kind, workload.name): workload for workload in workloads}

    def pod(self, namespace: str, name: str) -> PodState | None:
        """The pod as its workload would make it, without node and addresses; None where no workload has such pods."""
        base, _, last = name.rpartition("-")
        upper, _, code = base.rpartition("-")
        for kind in ("ReplicaSet", "ReplicationController", "DaemonSet", "Job"):
            workload = self._workloads.get((namespace, kind, base))
            if workload is not None:
                return _pod(workload, workload.template.spec, name, workload.template.labels, Owner(kind, base))
        workload = self._workloads.get((namespace, "StatefulSet", base))
        if workload is not None and last.isdigit():
            return _member(workload, int(last))
        workload = self._workloads.get((namespace, "Deployment", upper))
        if workload is not None:
            labels = {**workload.template.labels, TEMPLATE_HASH: code}
            return _pod(workload, workload.template.spec, name, labels, Owner("ReplicaSet", base))
        return None


def _member(workload: Workload, ordinal: int) -> PodState:
    """A pod of a StatefulSet."""
    name = f"{workload.name}-{ordinal}"
    labels = {
        **workload.template.labels,
        "apps.kubernetes.io/pod-index": str(ordinal),
        "statefulset.kubernetes.io/pod-name": name,
    }
    spec = replace(workload.template.spec, hostname=name, subdomain=workload.service_name)
    return _pod(workload, spec, name, labels, Owner("StatefulSet", workload.name))


def _pod(workload: Workload, spec: PodSpec, name: str, labels: Mapping[str, str], owner: Owner) -> PodState:
    return PodState(
        namespace=workload.namespace,
        name=name,
        spec=spec,
        node=spec.node_name or None,
        labels=labels,
        annotations=workload.template.annotations,
        owner=owner,
        created=True,
    )


def daemon_pod(daemon: DaemonSet, node: str, names: set[str]) -> PodState:
    """The pod of a DaemonSet on a node."""
    workload = daemon.workload
    name = f"{workload.name[:_BASE]}-{word(5, workload.namespace, workload.name, node)}"
    if name in names:
        name = free_name(workload.namespace, workload.name, names)
    names.add(name)
    template = workload.template
    return replace(_pod(workload, template.spec, name, template.labels, Owner("DaemonSet", workload.name)), node=node)
