"""The emulator's recording of the same events: given the dump of the node, and what the kernel chose at random."""

from ipaddress import ip_address
from typing import Any

from judge.choices import from_frames
from judge.logged import emulated
from judge.recording import Frame, Recording, Step


def unavailable() -> str | None:
    """Why the emulator cannot be asked, or None."""
    try:
        from dataplane import Host, HostConfig  # noqa: F401
    except (ImportError, AttributeError) as error:
        return f"the emulator is not built: {error}"
    return None


def balances() -> bool:
    """Whether the emulator has IPVS."""
    from dataplane import Host

    return hasattr(Host, "ipvsadm")


def run(kernel: Recording) -> Recording:
    """Replay the events of a recording of the kernel."""
    from dataplane import Host, HostConfig
    from dataplane._fast.chance import Choice

    config = HostConfig.load(kernel.folder)
    chosen = from_frames(kernel) if kernel.readable else kernel.choices
    choices = {Choice[kind]: values for kind, values in chosen.items()}
    host = Host(config, seed=0, choices=choices, listening=kernel.listeners)
    made = Recording(kernel.scenario, kernel.folder, ports=kernel.ports)
    seen = set(kernel.ports)
    before: dict[str, int] = {}
    for theirs in kernel.steps:
        step = Step(theirs.kind, theirs.time_ns, theirs.interface, theirs.data, theirs.ethernet)

        def frames(out: list[tuple[str, bytes]]) -> list[Frame]:
            return [Frame(name, bytes(data)) for name, data in out if name in seen]

        passed = frames(host.advance(step.time_ns))
        if step.kind == "wait":
            step.out = passed
        else:
            step.late = passed
            if step.kind == "change":
                host.restore(step.data.decode(), int(step.interface))
            elif step.kind == "unplug":
                host.reconfigure(_without(host.config, step.interface))
            elif step.kind == "ipvs":
                host.ipvsadm_restore(step.data.decode())
            elif step.kind == "sysctl":
                name, _, value = step.data.decode().partition(" = ")
                host.reconfigure(host.config.with_(sysctl={**host.config.sysctl, name: value}))
            elif step.kind == "forget":
                host.delete_connections(_deletion(step.data.decode().split()))
            elif step.kind == "receive":
                step.out = frames(host.receive(step.data, interface=step.interface, time_ns=step.time_ns))
            else:
                step.out = frames(host.send(step.data, time_ns=step.time_ns))
        drops = {reason.name: count for reason, count in host.drops().items()}
        step.drops = [(reason, "") for reason, count in drops.items() for _ in range(count - before.get(reason, 0))]
        before = drops
        if theirs.logged is not None:
            step.logged = emulated(host)
        if theirs.connections is not None:
            host.advance(theirs.looked_ns)
            if 4 in theirs.rules:
                step.rules[4] = host.iptables_save(counters=True)
            if 6 in theirs.rules:
                step.rules[6] = host.ip6tables_save(counters=True)
            step.connections = host.connections().text()
            if theirs.sets:
                step.sets = host.ipset_save()
            step.ipvs = {words: host.ipvsadm(words) for words in theirs.ipvs}
        made.steps.append(step)
    made.interfaces = {name: counters._asdict() for name, counters in host.counters().items()}
    return made


def _without(config: Any, interface: str) -> Any:
    """A configuration without a link, and what the kernel takes along."""
    return config.with_(
        links=tuple(link for link in config.links if link.name != interface),
        addresses=tuple(address for address in config.addresses if address.interface != interface),
        routes=tuple(route for route in config.routes if all(hop.device != interface for hop in route.nexthops)),
        neighbours=tuple(entry for entry in config.neighbours if entry.interface != interface),
        fdb=tuple(entry for entry in config.fdb if entry.interface != interface),
    )


def _deletion(words: list[str]) -> Any:
    """The words of `conntrack -D` as kube-proxy uses them."""
    from dataplane.host.conntrack_delete import PROTOCOLS, ConntrackDelete

    given = dict(zip(words[::2], words[1::2], strict=True))
    addresses = {name: ip_address(given[name]) for name in ("--orig-dst", "--dst-nat") if name in given}
    return ConntrackDelete(
        6 if given.get("-f") == "ipv6" else 4,
        PROTOCOLS[given["-p"]],
        addresses.get("--orig-dst"),
        addresses.get("--dst-nat"),
        int(given.get("--orig-port-dst", 0)),
    )
