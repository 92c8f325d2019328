"""One random case: drawn from a seed, run in the kernel, replayed in the emulator, compared."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from judge import emulated
from judge.compare import Difference, compare
from judge.node import Node
from judge.random_case import MASKS, scenario_of, set_up, steps_of
from judge.random_hosts import host
from judge.random_rules import rules
from judge.random_talk import Talk
from judge.recording import Recording
from judge.scenario import Kernel, Scenario


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
    lines = [*drawn.lines, *rules(random, drawn)]

    def body(node: Node) -> None:
        set_up(node, lines)
        talk = Talk(random, drawn)
        for _ in range(packets):
            port, frame = talk.next()
            talk.saw(node.receive(port, frame))
        node.look()

    recording = kernel.run(Scenario(f"random/{seed}", "", 4, body, MASKS, "", "legacy"), folder)
    return Outcome(seed, [*lines, *steps_of(recording)], _count(recording), against(recording))


def again(kernel: Kernel, lines: list[str], folder: Path) -> list[Difference]:
    """The same lines once more."""
    return against(kernel.run(scenario_of("random/again", "", lines), folder))


def against(recording: Recording) -> list[Difference]:
    """Compare with the emulator, which is told the kernel's choices as far as its connections show them."""
    made = emulated.run(recording)
    ports = recording.choices.setdefault("CHOICE_PORT", [])
    while (port := _port_of_clash(recording, made)) and len(ports) < _CLASHES:
        ports.append(port)
        made = emulated.run(recording)
    return compare(recording, made, MASKS)


_CLASHES = 40
_ROW = re.compile(
    r"^(\S+ +\d+ \S+ +\d+ ).*?(src=\S+ dst=\S+ (?:sport=\d+ dport=\d+|type=\d+ code=\d+ id=\d+)) .*?"
    r"(src=\S+ dst=\S+ )(?:sport=\d+ dport=(\d+)|type=\d+ code=\d+ id=(\d+))"
)


def _port_of_clash(kernel: Recording, emulator: Recording) -> int:
    """The port (or ICMP id) that the kernel drew for the first connection for which the emulator drew another; 0: none.

    Who was there first keeps its port, and the next one gets a random one."""
    theirs = {key: port for key, port in _bindings(kernel)}
    for key, port in _bindings(emulator):
        if theirs.get(key, port) != port:
            return theirs[key]
    return 0


def _bindings(recording: Recording) -> Iterator[tuple[tuple[str, ...], int]]:
    """Original tuple and both reply addresses, and the port that replies go to, in the order of the table."""
    text = recording.steps[-1].connections if recording.steps else None
    for line in (text or "").splitlines():
        if match := _ROW.match(line.strip()):
            yield (match[1], match[2], match[3]), int(match[4] or match[5])


def _count(recording: Recording) -> int:
    return len(recording.steps) + sum(len(step.out) for step in recording.steps)
