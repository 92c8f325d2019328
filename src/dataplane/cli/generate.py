"""dataplane generate"""

from __future__ import annotations

import sys
from typing import Annotated

import numpy as np
from cyclopts import Parameter, validators

from dataplane import generate as traffic
from dataplane.agents.node import Agents, Options
from dataplane.cli import EXPECTED
from dataplane.cli.options import Cloud, Manifests, Nodes, Seed, load
from dataplane.cli.progress import progress
from dataplane.cli.table import columns
from dataplane.cluster import ClusterState
from dataplane.errors import InputError

Share = Annotated[float, Parameter(validator=validators.Number(gte=0, lte=1))]
Count = Annotated[int, Parameter(validator=validators.Number(gte=1))]
KINDS = (("pod", "Service"), ("pod", "pod"), ("outside", "NodePort"), ("outside", "LoadBalancer"))


def generate(
    out: str,
    /,
    *,
    cluster: Manifests,
    packets: Count = 100_000,
    flows: Count = 1_000,
    size: str = "64",
    mix: str = "tcp=8,udp=2",
    services: Share = 0.8,
    external: Share = 0.0,
    ipv6: Share = 0.0,
    concurrent: Annotated[int, Parameter(validator=validators.Number(gte=0))] = 0,
    rate: float = 100_000,
    nodes: Nodes = 3,
    seed: Seed = 0,
    cloud: Cloud = "none",
) -> int:
    """Make a large capture for a cluster: conversations of its pods, and of clients outside, in both directions.

    Parameters
    ----------
    out
        The capture to write: pcapng where the name says so, else pcap; .gz is compressed, - is the standard output.
    packets
        Packets of both directions together.
    flows
        Conversations, with as many packets each.
    size
        Bytes of a frame: one size, sizes with weights (64:7,594:4,1444:1), or imix (which means these).
    mix
        Protocols with their weights: tcp, udp, icmp.
    services
        Share of the flows that go to Services; the others go from pod to pod.
    external
        Share of the flows that come from outside: with --cloud to load balancers, else to NodePorts.
    ipv6
        Share of the flows in IPv6.
    concurrent
        Flows alive at a time; 0: all of them.
    rate
        Packets per second, for the timestamps.
    """
    try:
        recipe = traffic.Recipe(
            packets=packets,
            flows=flows,
            sizes=traffic.parse_sizes(size),
            protocols=traffic.parse_mix(mix),
            services=services,
            external=external,
            ipv6=ipv6,
            concurrent=concurrent,
            rate=rate,
            seed=seed,
        )
    except ValueError as error:
        raise InputError("generate", message=str(error)) from None
    state = load(cluster, nodes, seed, cloud)
    plan = traffic.plan(state, recipe, fronts(state, cloud, seed) if cloud != "none" else ())
    with progress(packets, "packets") as advance:
        traffic.write(plan, out, advance)
    counts = [(plan.kind == kind, *names) for kind, names in enumerate(KINDS)]
    rows = [
        (
            source,
            target,
            f"IPv{family}",
            int((chosen & (plan.family == family)).sum()),
            int(plan.packets[chosen & (plan.family == family)].sum()),
        )
        for chosen, source, target in counts
        for family in np.unique(plan.family)
    ]
    text = columns(("from", "to", "family", "flows", "packets"), (row for row in rows if row[3]), ("flows", "packets"))
    print(text, end="", file=sys.stderr if out == "-" else sys.stdout)
    return EXPECTED


def fronts(state: ClusterState, cloud: str, seed: int) -> list[traffic.Front]:
    """What the load balancers of a cloud listen on, of Services that have a node to send to."""
    agents = Agents(state, Options(cloud=cloud, seed=seed))
    return [
        (front.address, listener.protocol, listener.port)
        for balancer in agents.cloud.balancers()
        for front in balancer.fronts
        for listener in balancer.listeners
        if balancer.receives(front) and not balancer.open
    ]
