"""Options that several verbs have, with one spelling and one meaning."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Annotated

from cyclopts import Parameter

from dataplane.cluster import ClusterState, complete, load_manifests

# None of them may be given as --no-...: an option that is left out says it already.
Manifests = Annotated[
    list[str],
    Parameter(
        name=["--cluster", "-c"],
        consume_multiple=True,
        allow_repeating=True,
        negative=(),
        show_default=False,
        metavar="MANIFESTS",
        help="What `kubectl get -o yaml` prints: files, folders, or - for the standard input.",
    ),
]
Nodes = Annotated[int, Parameter(help="Nodes to make where no manifest states or names one.")]
Seed = Annotated[int, Parameter(help="Of every random choice: the same seed gives the same run.")]
Mode = Annotated[
    str,
    Parameter(
        show_default=False,
        help="kube-proxy's mode: iptables or ipvs. By default what the cluster's configuration of it says.",
    ),
]
Cni = Annotated[str, Parameter(help="What connects the pods: flannel; its backend is what its net-conf.json says.")]
Mtu = Annotated[int, Parameter(help="Of the nodes' network, in bytes.")]


def load(manifests: list[str], nodes: int, seed: int = 0) -> ClusterState:
    """The completed cluster, and on the standard error what of the manifests plays no part."""
    state = complete(load_manifests(manifests), nodes=nodes, seed=seed)
    report(state.warnings)
    report(
        f"ignored: {item.kind} {item.name} ({item.file}, document {item.document}): {item.why}"
        for item in state.ignored
    )
    report(f"not modelled: {item.object}: {item.field}: {item.why}" for item in state.not_modelled)
    return state


def report(lines: Iterable[object]) -> None:
    """Warnings, one per line, on the standard error; yellow where a person reads it."""
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    for line in lines:
        print(f"\x1b[33m{line}\x1b[0m" if colour else line, file=sys.stderr)
