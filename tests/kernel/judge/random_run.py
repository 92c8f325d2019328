"""One random case: drawn from a seed, run in the kernel, replayed in the emulator, compared."""

from __future__ import annotations

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
    return compare(recording, emulated.run(recording), MASKS)


def _count(recording: Recording) -> int:
    return len(recording.steps) + sum(len(step.out) for step in recording.steps)
