"""Scenarios: small functions that set a node up and feed it, known by `subject/name`."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from judge.drops import DropTrace
from judge.namespace import Fence, pin
from judge.node import Node
from judge.recording import Recording

Body = Callable[[Node], None]


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str  # subject/name, or subject/name/ipv6
    shows: str  # one line
    family: int
    body: Body
    masks: tuple[str, ...]  # see compare.py and README.md
    random: str  # what the kernel chooses at random here, if anything: two runs differ in it
    backend: str  # of iptables, where the two differ: "nft" or "legacy"


SCENARIOS: dict[str, Scenario] = {}


def scenario(
    *, families: tuple[int, ...] = (4,), masks: tuple[str, ...] = (), random: str = "", backend: str = ""
) -> Callable[[Body], Body]:
    """Enter a function into the list. Its first docstring line says what it shows; it is run once per family."""

    def enter(body: Body) -> Body:
        shows = (body.__doc__ or "").strip().splitlines()[0]
        subject = body.__module__.partition(".")[2].replace(".", "/")
        for family in families:
            name = f"{subject}/{body.__name__}" + ("/ipv6" if family == 6 else "")
            if name in SCENARIOS:
                raise ValueError(f"two scenarios are called {name}")
            SCENARIOS[name] = Scenario(name, shows, family, body, masks, random, backend)
        return body

    return enter


def load(package: str = "scenarios") -> dict[str, Scenario]:
    """All scenarios of one folder, in the order of files and lines. Those of `scenarios.ipvs` need a kernel that has it;
    with the others go the cases of the folder `found`."""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")
    known = {name: asked for name, asked in SCENARIOS.items() if asked.body.__module__.rpartition(".")[0] == package}
    if package == "scenarios":
        from judge.random_case import found  # made of scenarios, and so above this module

        known |= found()
    return known


class Kernel:
    """What one process needs to ask the kernel: a processor of its own, a fence, a trace of drops."""

    def __init__(self, processor: int | None = None, node: type[Node] = Node) -> None:
        self._node = node
        pin(processor)
        self._fence = Fence()
        self._trace = DropTrace()

    def run(self, asked: Scenario, folder: Path) -> Recording:
        node = self._node(asked.name, folder, asked.family, self._fence, self._trace, asked.backend)
        try:
            try:
                asked.body(node)
            except Exception as error:
                error.recording = node.recording  # type: ignore[attr-defined]  # what the kernel did until then
                raise
            node.start()
            return node.finish()
        finally:
            node.close()

    def close(self) -> None:
        self._fence.close()
        self._trace.close()


@contextmanager
def kernel(processor: int | None = None) -> Iterator[Kernel]:
    made = Kernel(processor)
    try:
        yield made
    finally:
        made.close()
