"""One random case: drawn from a seed, run in the kernel, replayed in the emulator, compared."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from judge import emulated
from judge.compare import Difference, compare, masked
from judge.node import Node
from judge.random_case import MASKS, scenario_of, set_up, steps_of
from judge.random_change import change
from judge.random_hosts import host
from judge.random_rules import rules
from judge.random_talk import Talk
from judge.recording import Frame, Recording, Step
from judge.scenario import Kernel, Scenario

BACKENDS = ("legacy", "nft")


@dataclass(frozen=True, slots=True)
class Outcome:
    seed: int
    lines: list[str]  # of the case: set-up, then steps
    packets: int  # that went in and came out
    differences: list[Difference]


def draw(kernel: Kernel, seed: int, packets: int, folder: Path) -> Outcome:
    """Draw a case, talk to the kernel, compare."""
    random = Random(seed)
    drawn = host(random)
    other = Random(~seed)
    backend = other.choice(BACKENDS)
    changes = other.sample(range(packets), k=other.choice([0, 0, 0, 1, 3]))
    said = [*drawn.lines, *rules(random, drawn)]
    lines = [f"backend {backend}", *said]

    def body(node: Node) -> None:
        set_up(node, said)
        talk = Talk(random, drawn)
        rests = {packets // 2} if any(TIMEOUT in line for line in drawn.lines) else ()
        for number in range(packets):
            if number in rests:
                node.wait(1.3)
            if number in changes and (made := change(other, drawn, said)):
                node.change(made[1], made[0])
            port, frame = talk.next()
            talk.saw(node.receive(port, frame) if port else node.send(frame))
        node.look()

    recording = kernel.run(Scenario(f"random/{seed}", "", 4, body, MASKS, "", backend), folder)
    return Outcome(seed, [*lines, *steps_of(recording)], _count(recording), against(recording))


def again(kernel: Kernel, lines: list[str], folder: Path) -> list[Difference]:
    """The same lines once more."""
    return against(kernel.run(scenario_of("random/again", "", lines), folder))


def against(recording: Recording) -> list[Difference]:
    """Compare with the emulator, which is told the ports that the kernel drew, as far as they can be seen.

    Who was there first keeps its port, and the next one gets a random one. Each port that is handed over must make the
    two agree for longer; where none does, they differ."""
    ports = recording.choices.setdefault("CHOICE_PORT", [])
    made = emulated.run(recording)
    found = compare(recording, made, MASKS)
    while found and len(ports) < _CLASHES:
        best = None
        for port in dict.fromkeys([*_ports_in_frames(recording, made), *_ports_in_table(recording, made)]):
            ports.append(port)
            other = emulated.run(recording)
            differences = compare(recording, other, MASKS)
            ports.pop()
            if _rank(differences) < _rank(best[1] if best else found):
                best = port, differences, other
        if best is None:
            break
        ports.append(best[0])
        found, made = best[1:]
    return found


def _rank(differences: list[Difference]) -> tuple[int, int]:
    """The later the first difference, the better; then the fewer."""
    steps = [one.step for one in differences if one.step >= 0]
    return -min(steps, default=sys.maxsize), len(differences)


TIMEOUT = "_timeout"  # a host that has short ones is left alone for a while
_CLASHES = 40
_ROW = re.compile(
    r"^(\S+ +\d+ \S+ +\d+ ).*?(src=\S+ dst=\S+ (?:sport=\d+ dport=\d+|type=\d+ code=\d+ id=\d+)) .*?"
    r"(src=\S+ dst=\S+ )(?:sport=\d+ dport=(\d+)|type=\d+ code=\d+ id=(\d+))"
)


def _ports_in_frames(kernel: Recording, emulator: Recording) -> Iterator[int]:
    """The kernel's source port or echo id in the first frame that differs in it alone."""
    for ours, theirs in zip(kernel.steps, emulator.steps, strict=True):
        for one, other in zip(_by_interface(ours), _by_interface(theirs), strict=False):
            if masked(one, MASKS) == masked(other, MASKS):
                continue
            for answer in (False, True):
                left, right = _port_and_rest(one.packet, answer), _port_and_rest(other.packet, answer)
                if left and right and left[0] != right[0] and left[1] == right[1]:
                    yield left[0]
                    return


def _by_interface(step: Step) -> list[Frame]:
    return sorted([*step.late, *step.out], key=lambda frame: frame.interface)


def _port_and_rest(packet: Packet, answer: bool = False) -> tuple[int, tuple[object, ...]] | None:
    """The port that NAT may have drawn, and what else tells the packet: of an answer it is the destination's."""
    network = packet.getlayer(IP) or packet.getlayer(IPv6)
    drawn, kept = ("dport", "sport") if answer else ("sport", "dport")
    for kind, others in ((TCP, ("seq", "ack", "flags")), (UDP, ("len",))):
        if network is not None and network.haslayer(kind):
            layer = network[kind]
            return getattr(layer, drawn), (
                network.src,
                network.dst,
                *(getattr(layer, name) for name in (kept, *others)),
            )
    if network is not None and network.haslayer(ICMP):
        return network[ICMP].id or 0, (network.src, network.dst, network[ICMP].type, network[ICMP].seq)
    return None


def _ports_in_table(kernel: Recording, emulator: Recording) -> Iterator[int]:
    """The kernel's port (or ICMP id) of the first connection for which the emulator drew another."""
    theirs = dict(_bindings(kernel))
    for key, port in _bindings(emulator):
        if theirs.get(key, port) != port:
            yield theirs[key]
            return


def _bindings(recording: Recording) -> Iterator[tuple[tuple[str, ...], int]]:
    """Original tuple and both reply addresses, and the port that replies go to, in the order of the table."""
    text = recording.steps[-1].connections if recording.steps else None
    for line in (text or "").splitlines():
        if match := _ROW.match(line.strip()):
            yield (match[1], match[2], match[3]), int(match[4] or match[5])


def _count(recording: Recording) -> int:
    return len(recording.steps) + sum(len(step.out) for step in recording.steps)
