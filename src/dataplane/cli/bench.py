"""dataplane bench"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from dataplane.bench.conntrack import CONNECTIONS
from dataplane.bench.conntrack import measure as bench_conntrack
from dataplane.bench.core import Core, Effort
from dataplane.bench.engines import kernels
from dataplane.bench.machine import Machine
from dataplane.bench.modes import KERNEL_MODES, Plan, check_modes, run
from dataplane.bench.path import FLOWS as PATH_FLOWS
from dataplane.bench.path import measure as bench_path
from dataplane.bench.plot import check
from dataplane.bench.plot import plot as draw
from dataplane.bench.replay import FLOWS as REPLAY_FLOWS
from dataplane.bench.replay import measure as bench_replay
from dataplane.bench.vxlan import SIZES
from dataplane.bench.vxlan import measure as bench_vxlan
from dataplane.cli import EXPECTED
from dataplane.cli.bench_output import Form, print_cores, print_modes
from dataplane.cli.options import Seed, report
from dataplane.cli.progress import steps
from dataplane.errors import InputError

Output = Annotated[Form, Parameter(name=["--output", "-o"], help="table, json or csv.")]
Repeats = Annotated[int, Parameter(help="How often each measurement is made; figures are medians of them.")]
Packets = Annotated[int, Parameter(help="Of each kind, timed one by one in each repeat.")]


def _listed(numbers: Iterable[int]) -> str:
    return ",".join(map(str, numbers))


def modes(
    *,
    modes: Annotated[str, Parameter(metavar="MODE,...")] = "iptables,ipvs",
    services: Annotated[str, Parameter(metavar="N,...")] = "10,100,1000,5000,10000,30000",
    endpoints: int = 10,
    packets: Packets = 2_000,
    connections: int = 1_000,
    changes: int = 10,
    repeats: Repeats = 7,
    seed: Seed = 0,
    kernel: Annotated[bool, Parameter(negative=())] = False,
    plot: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    output: Output = "table",
) -> int:
    """kube-proxy's modes over the number of Services: first packets, established packets, and changes of endpoints.

    A node of a made-up cluster is put between two interfaces. Packets are new connections to Services chosen at random
    (any), to the first and to the last one, and packets of established connections. WALKED is how many rules the kernel
    holds a packet against, a count. "model" is this program, which has an index over long runs of rules; "model in turn"
    is the same without it, rule by rule as the kernel goes.

    Parameters
    ----------
    modes
        iptables, ... with commas. What they cost is also held against a router without any rules ("none").
    services
        Numbers of Services, with commas.
    endpoints
        Of each Service.
    connections
        That are established.
    changes
        Of one endpoint each, timed until the rules hold them.
    kernel
        The same rules and packets through this machine's kernel, too, in a network namespace (root): iptables legacy and
        nft, and rules of the shape that kube-proxy writes in nftables mode.
    plot
        A picture to draw, .png or .svg: first packets and changes over the number of Services.
    """
    if plot is not None:
        check(plot)
    plan = Plan(
        modes=tuple(part.strip() for part in modes.split(",") if part.strip()),
        services=_numbers(services, "--services"),
        endpoints=endpoints,
        packets=packets,
        connections=connections,
        changes=changes,
        repeats=repeats,
        seed=seed,
    )
    check_modes(plan.modes)
    if kernel:
        report(f"--kernel: {mode} runs in the model only" for mode in plan.modes if mode not in KERNEL_MODES)
    machine = Machine.here()
    rows = []
    with steps() as advance:
        for row in run(plan, kernels() if kernel else (), advance):
            rows.append(row)
    if plot is not None:
        draw(rows, plot, machine.line())
    print_modes(rows, machine, plan, output)
    return EXPECTED


def conntrack(
    *,
    connections: Annotated[str, Parameter(metavar="N,...")] = _listed(CONNECTIONS),
    packets: Packets = 4_000,
    repeats: Repeats = 7,
    seed: Seed = 0,
    kernel: Annotated[bool, Parameter(negative=())] = False,
    output: Output = "table",
) -> int:
    """Connection tracking over the number of open connections: first packets and packets of those.

    Parameters
    ----------
    connections
        Numbers of connections that are open, with commas.
    kernel
        This machine's kernel, too, in a network namespace (root).
    """
    counts = _numbers(connections, "--connections")
    if kernel:
        kernels()
    return _cores(
        partial(bench_conntrack, counts, kernel=kernel), Effort(packets, repeats, seed), output, "CONNECTIONS"
    )


def path(
    *,
    flows: Annotated[str, Parameter(metavar="N,...")] = _listed(PATH_FLOWS),
    packets: Packets = 4_000,
    repeats: Repeats = 7,
    seed: Seed = 0,
    output: Output = "table",
) -> int:
    """A packet's whole way in a cluster: from pod to pod and to Service, on one node and across two.

    Parameters
    ----------
    flows
        Numbers of conversations that packets are chosen from, with commas.
    """
    return _cores(partial(bench_path, _numbers(flows, "--flows")), Effort(packets, repeats, seed), output, "FLOWS")


def vxlan(
    *,
    sizes: Annotated[str, Parameter(metavar="BYTES,...")] = _listed(SIZES),
    packets: Packets = 4_000,
    repeats: Repeats = 7,
    seed: Seed = 0,
    output: Output = "table",
) -> int:
    """VXLAN over the size of packets: pod to pod across two nodes, in Flannel's tunnel and without one.

    Parameters
    ----------
    sizes
        Of the pods' IP packets, with commas.
    """
    return _cores(partial(bench_vxlan, _numbers(sizes, "--sizes")), Effort(packets, repeats, seed), output, "BYTES")


def replay(
    *,
    flows: Annotated[str, Parameter(metavar="N,...")] = _listed(REPLAY_FLOWS),
    packets: Annotated[int, Parameter(help="Of the capture.")] = 200_000,
    repeats: Repeats = 5,
    seed: Seed = 0,
    output: Output = "table",
) -> int:
    """From capture file to capture file through a cluster of two nodes, as dataplane replay goes.

    Parameters
    ----------
    flows
        Numbers of conversations in the capture, with commas.
    """
    return _cores(partial(bench_replay, _numbers(flows, "--flows")), Effort(packets, repeats, seed), output, "FLOWS")


bench = {"modes": modes, "conntrack": conntrack, "vxlan": vxlan, "path": path, "replay": replay}


def _cores(measure: Callable[[Effort], Iterable[Core]], effort: Effort, output: Form, size: str) -> int:
    machine = Machine.here()
    rows = []
    with steps() as advance:
        for row in measure(effort):
            rows.append(row)
            advance(f"{row.what}, {row.size} {size.lower()}")
    print_cores(rows, machine, effort, output, size)
    return EXPECTED


def _numbers(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise InputError("bench", field=option, message=f"{text!r} are not numbers with commas") from None
