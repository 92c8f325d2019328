"""The time of one endpoint change in a large cluster, from the objects to the rules of a running node.

    python bench/change.py [SERVICES] [ENDPOINTS]

Prints medians in ms: the change of the objects, what kube-proxy renders of it, and its way into the compiled rules of
the node, which go on counting meanwhile. The first change of a host makes room, and is told by itself.
"""

import resource
import sys
from statistics import median
from time import perf_counter

from dataplane.agents.node import Agents
from dataplane.cluster.changes import SetEndpoint
from dataplane.cluster.completion import complete
from dataplane.cluster.manifests import read_manifests
from dataplane.datapath.compile import compile_host
from dataplane.datapath.running_host import RunningHost

CHANGES = 20


def manifests(services: int, endpoints: int) -> list[dict[str, object]]:
    """Services without pods of their own: a slice of hand-written endpoints each, on ten nodes."""
    made: list[dict[str, object]] = [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": f"node-{number}"},
            "spec": {"podCIDR": f"10.{100 + number}.0.0/16"},
        }
        for number in range(10)
    ]
    each = endpoints // services
    for number in range(services):
        name = f"service-{number:05}"
        made.append(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name},
                "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
            }
        )
        entries = []
        for at in range(each):
            place = number * each + at
            node, host = place % 10, place // 10 + 2
            entries.append(
                {
                    "addresses": [f"10.{100 + node}.{host >> 8}.{host & 255}"],
                    "conditions": {"ready": True},
                    "nodeName": f"node-{node}",
                }
            )
        made.append(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": f"{name}-abcde", "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
                "endpoints": entries,
            }
        )
    return made


def main() -> None:
    services = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    endpoints = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    began = perf_counter()
    state = complete(
        read_manifests(manifests(services, endpoints)), cluster_cidr="10.96.0.0/11", service_cidr="172.16.0.0/12"
    )
    print(f"objects {perf_counter() - began:.2f} s", flush=True)
    agents = Agents(state)
    began = perf_counter()
    config = agents.host("node-0")
    print(f"rendered {perf_counter() - began:.2f} s", flush=True)
    began = perf_counter()
    running = RunningHost(compile_host(config), config)
    print(f"compiled {perf_counter() - began:.2f} s", flush=True)
    proxy = agents.node_proxy("node-0")
    times: list[tuple[float, float, float]] = []
    for number in range(CHANGES + 1):
        key = ("default", f"service-{number * services // (CHANGES + 1):05}")
        address = state.endpoints[key][0].endpoints[0].address
        start = perf_counter()
        changed = SetEndpoint("default", address=address, service=key[1], ready=False).apply(state, 0)
        state = changed.state
        objects = perf_counter()
        agents.update(state, changed.services or ())
        syncs = proxy.sync(changed.services or (), number * 1_000_000_000)
        rendered = perf_counter()
        for sync in syncs:
            running.restore(sync.restore)
        times.append((objects - start, rendered - objects, perf_counter() - rendered))
    first, later = times[0], times[1:]
    print("first change: " + ", ".join(f"{name} {1000 * t:.1f} ms" for name, t in zip(NAMES, first, strict=True)))
    medians = [median(column) for column in zip(*later, strict=True)]
    print("medians: " + ", ".join(f"{name} {1000 * t:.1f} ms" for name, t in zip(NAMES, medians, strict=True)))
    print(f"render and apply {1000 * median(render + apply for _, render, apply in later):.1f} ms")
    print(f"memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")


NAMES = ("objects", "render", "apply")

if __name__ == "__main__":
    main()
