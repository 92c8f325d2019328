"""dataplane connections"""

from __future__ import annotations

import sys
from typing import Annotated, Literal

from cyclopts import Parameter

from dataplane.cli import EXPECTED, FAILED
from dataplane.cli.options import Cloud, Cni, KubeVersion, Manifests, Mode, Mtu, Nodes, Seed, report, version
from dataplane.cli.progress import progress
from dataplane.emulation import Cluster
from dataplane.errors import InputError

PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "gre": 47, "icmpv6": 58, "sctp": 132}


def connections(
    capture: str,
    /,
    *,
    cluster: Manifests,
    node: str,
    family: Annotated[Literal["ipv4", "ipv6"] | None, Parameter(name=["--family", "-f"])] = None,
    protocol: Annotated[
        Literal["icmp", "tcp", "udp", "gre", "icmpv6", "sctp"] | None, Parameter(name=["--proto", "-p"])
    ] = None,
    output: Annotated[Literal["", "extended"], Parameter(name=["--output", "-o"])] = "",
    mode: Mode = "",
    cni: Cni = "flannel",
    nodes: Nodes = 3,
    mtu: Mtu = 1500,
    seed: Seed = 0,
    cloud: Cloud = "none",
    map: Annotated[tuple[str, ...], Parameter(negative=(), show_default=False, metavar="FROM=TO")] = (),
    events: Annotated[str | None, Parameter(metavar="FILE")] = None,
    sync_delay: Annotated[
        tuple[str, ...], Parameter(negative=(), show_default=False, metavar="[NODE=]TIME[+JITTER]")
    ] = (),
    kube_version: KubeVersion = "1.30",
) -> int:
    """Print what `conntrack -L` would print on a node when the last packet of a capture has gone through the cluster.

    Parameters
    ----------
    capture
        pcap or pcapng, plain or gzip; - is the standard input.
    node
        The node whose connections are listed.
    family
        ipv4 or ipv6; by default both.
    protocol
        Only these connections.
    output
        extended puts the network protocol first, as `conntrack -L -o extended` does.
    map
        As in replay.
    events
        A script of what changes in the cluster meanwhile, as in replay.
    sync_delay
        How long after a change kube-proxy writes it to its node, as in replay.
    """
    if events is None and sync_delay:
        raise InputError("connections", field="--sync-delay", message="goes with --events")
    loaded = Cluster.load(
        *cluster, mode=mode, cni=cni, nodes=nodes, seed=seed, mtu=mtu, cloud=cloud, kube_version=version(kube_version)
    )
    loaded.agents.node(node)
    with progress(None, "packets") as advance:
        result = loaded.replay(
            capture,
            events=events if events is not None else (),
            sync_delay=sync_delay,
            maps=map,
            progress=advance,
            connections=(node,),
        )
    report(result.notes)
    rows = [
        row
        for row in result.connections[node]
        if (family is None or row.family == int(family[-1]))
        and (protocol is None or row.protocol == PROTOCOLS[protocol])
    ]
    print(type(result.connections[node])(rows).text(extended=output == "extended"), end="")
    sys.stdout.flush()
    print(f"{len(rows)} flow entries have been shown.", file=sys.stderr)
    if result.error is not None:
        report([f"dataplane: {result.error}"])
        return FAILED
    return EXPECTED
