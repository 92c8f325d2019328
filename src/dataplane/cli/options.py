"""Options that several verbs have, with one spelling and one meaning."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from typing import Annotated, Literal

from cyclopts import Parameter

from dataplane.agents.cloud.addresses import Assigned
from dataplane.agents.cloud.kinds import honoured, kind_of
from dataplane.cluster import ClusterState, complete, load_manifests
from dataplane.errors import InputError

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
Cloud = Annotated[
    Literal["none", "aws-nlb", "aws-classic", "gcp", "azure", "metallb-l2"],
    Parameter(
        negative=(),
        help="What the load balancers outside are. none: a plain one, at the addresses that the status of Services has.",
    ),
]
Mtu = Annotated[int, Parameter(help="Of the nodes' network, in bytes.")]
KubeVersion = Annotated[
    str,
    Parameter(
        metavar="VERSION",
        help="Whose kube-proxy is followed where versions differ: topology hints (1.31, 1.34), UDP connections that a "
        "change has made stale (1.32). Rules are written as 1.30 writes them.",
    ),
]


def version(text: str) -> tuple[int, int]:
    """(1, 30) of "1.30", "v1.30.5"."""
    match = re.fullmatch(r"v?1\.(\d{1,3})(?:\.\d+)?", text)
    if match is None:
        raise InputError("dataplane", field="--kube-version", message=f"{text!r} is no version; 1.30 is one")
    return 1, int(match[1])


def load(manifests: list[str], nodes: int, seed: int = 0, cloud: str = "none") -> ClusterState:
    """The completed cluster with its load balancers, and on the standard error what of the manifests plays no part."""
    kind = kind_of(cloud)
    state = Assigned().assign(kind, complete(load_manifests(manifests), nodes=nodes, seed=seed))
    report(state.warnings)
    report(
        f"ignored: {item.kind} {item.name} ({item.file}, document {item.document}): {item.why}"
        for item in state.ignored
    )
    report(
        f"not modelled: {item.object}: {item.field}: {item.why}"
        for item in state.not_modelled
        if not honoured(kind, item.field)
    )
    return state


def report(lines: Iterable[object]) -> None:
    """Warnings, one per line, on the standard error; yellow where a person reads it."""
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    for line in lines:
        print(f"\x1b[33m{line}\x1b[0m" if colour else line, file=sys.stderr)
