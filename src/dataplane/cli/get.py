"""dataplane get"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from dataplane.cli import EXPECTED
from dataplane.cli.options import Cloud, Manifests, Nodes, Seed, load
from dataplane.cli.table import columns, comma_separated, structured
from dataplane.cluster import ClusterState
from dataplane.cluster.tables import Resource, resource, select, table
from dataplane.cluster.write_manifests import write
from dataplane.errors import ModelError

Form = Literal["table", "wide", "name", "json", "yaml", "csv"]
# What kubectl means by `all`, as far as it is modelled.
ALL = ("pods", "services", "daemonsets", "deployments", "replicasets", "statefulsets")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One resource, and the names asked for; none: all."""

    resource: Resource
    names: tuple[str, ...] = ()


def get(
    kinds: str,
    names: Annotated[tuple[str, ...], Parameter(show_default=False)] = (),
    /,
    *,
    cluster: Manifests,
    namespace: Annotated[str, Parameter(name=["--namespace", "-n"])] = "default",
    all_namespaces: Annotated[bool, Parameter(name=["--all-namespaces", "-A"], negative=())] = False,
    output: Annotated[Form, Parameter(name=["--output", "-o"])] = "table",
    no_headers: Annotated[bool, Parameter(negative=())] = False,
    nodes: Nodes = 3,
    seed: Seed = 0,
    cloud: Cloud = "none",
) -> int:
    """Show objects of a cluster: those that are stated, with what the cluster would fill in, and those that it makes.

    Parameters
    ----------
    kinds
        nodes, pods, services, endpoints, ... or their short names; several with commas, TYPE/NAME, or all.
    names
        Only these.
    namespace
        The namespace to look into.
    all_namespaces
        Look into every namespace.
    output
        The look; json and yaml are manifests that load again.
    no_headers
        Leave the headings out.
    """
    wanted = parse(kinds, names)
    state = load(cluster, nodes, seed, cloud)
    where = None if all_namespaces else namespace
    chosen = [(want, select(state, want.resource, where, want.names)) for want in wanted]
    found = [(want, items) for want, items in chosen if items]
    if output in ("json", "yaml"):
        made: Any = [write(state, item) for _, items in chosen for item in items]
        if [len(want.names) for want in wanted] != [1]:
            made = {"apiVersion": "v1", "items": made, "kind": "List", "metadata": {"resourceVersion": ""}}
        else:
            (made,) = made
        print(structured(made, output), end="")
    elif not found:
        place = (
            "" if where is None or not any(want.resource.namespaced for want in wanted) else f" in {where} namespace"
        )
        print(f"No resources found{place}.", file=sys.stderr)
    elif output == "name":
        print("".join(f"{_singular(want.resource)}/{item.name}\n" for want, items in found for item in items), end="")
    else:
        texts = [_text(state, want, where, output, no_headers, len(wanted) > 1) for want, _ in found]
        print("\n".join(texts), end="")
    return EXPECTED


def parse(kinds: str, names: Sequence[str]) -> list[Wanted]:
    """kubectl's grammar: KIND[,KIND...] [NAME...], or TYPE/NAME [TYPE/NAME...]. Raises ModelError for anything else."""
    if "/" in kinds:
        wanted = []
        for text in (kinds, *names):
            kind, slash, name = text.partition("/")
            if not slash or not name or "," in kind:
                raise ModelError(f"{text}: expected TYPE/NAME, as in what stands before it")
            wanted.append(Wanted(resource(kind), (name,)))
        return wanted
    if any("/" in name for name in names):
        raise ModelError("either KIND NAME... or TYPE/NAME..., not both")
    listed_kinds = ALL if kinds == "all" else tuple(kinds.split(","))
    if kinds == "all" and names:
        raise ModelError("all takes no names")
    return [Wanted(resource(kind), tuple(names)) for kind in listed_kinds]


def _singular(kind: Resource) -> str:
    return kind.kind.lower()


def _text(state: ClusterState, want: Wanted, where: str | None, output: Form, no_headers: bool, qualified: bool) -> str:
    shown = table(state, want.resource.name, namespace=where, names=want.names, wide=output == "wide")
    rows: list[Sequence[Any]] = list(shown.rows)
    if qualified:
        at = shown.columns.index("NAME")
        prefix = f"{_singular(want.resource)}/"
        rows = [(*row[:at], prefix + row[at], *row[at + 1 :]) for row in rows]
    text = (comma_separated if output == "csv" else columns)(shown.columns, rows)
    return text.partition("\n")[2] if no_headers else text
