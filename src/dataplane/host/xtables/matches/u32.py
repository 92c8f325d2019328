"""-m u32: arithmetic on any four bytes of the packet (net/netfilter/xt_u32.c)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from dataplane._fast.ruleset import OpKind
from dataplane.host.xtables.declare import Kind, Match, Option, Scope
from dataplane.host.xtables.predicate import Custom, Test
from dataplane.host.xtables.values import integer

STEPS = {"&": 0, "<<": 1, ">>": 2, "@": 3}
_TOKEN = re.compile(r"\s*(0[xX][0-9a-fA-F]+|[0-9]+|&&|<<|>>|&|@|=|:|,)\s*")


class Comparison(NamedTuple):
    """start: offset of the first four bytes; steps: (operator, number); ranges: of values."""

    start: int
    steps: tuple[tuple[str, int], ...]
    ranges: tuple[tuple[int, int], ...]


def _tokens(text: str) -> list[str]:
    tokens, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if not match:
            raise ValueError(f"{text[at:]!r} is not understood")
        tokens.append(match[1])
        at = match.end()
    return tokens


def _read(text: str, scope: Scope) -> tuple[Comparison, ...]:
    tokens = [*_tokens(text), ""]
    at = 0

    def number() -> int:
        nonlocal at
        at += 1
        return integer(tokens[at - 1])

    tests = []
    while True:
        start, steps = number(), []
        while tokens[at] in STEPS:
            at += 1
            steps.append((tokens[at - 1], number()))
        if tokens[at] != "=":
            raise ValueError(f"{tokens[at]!r} where = should be")
        ranges = []
        while tokens[at] in ("=", ","):
            at += 1
            low = high = number()
            if tokens[at] == ":":
                at += 1
                high = number()
            ranges.append((low, high))
        tests.append(Comparison(start, tuple(steps), tuple(ranges)))
        if not tokens[at]:
            break
        if tokens[at] != "&&":
            raise ValueError(f"{tokens[at]!r} where && should be")
        at += 1
    if any(len(test.steps) > 9 or len(test.ranges) > 10 for test in tests) or len(tests) > 10:
        raise ValueError("longer than the kernel takes")
    return tuple(tests)


def _show(tests: tuple[Comparison, ...]) -> str:
    shown = []
    for test in tests:
        steps = "".join(f"{operator}{value:#x}" for operator, value in test.steps)
        ranges = ",".join(f"{low:#x}" if low == high else f"{low:#x}:{high:#x}" for low, high in test.ranges)
        shown.append(f"{test.start:#x}{steps}={ranges}")
    return f'"{"&&".join(shown)}"'


class U32(Match):
    name = "u32"
    options = (Option("u32", Kind(_read, _show), invert=True, required=True),)

    def tests(self) -> Iterator[Test]:
        words: list[int] = []
        for test in self.value("u32"):
            words += (test.start, len(test.steps), len(test.ranges))
            for operator, value in test.steps:
                words += (STEPS[operator], value)
            for low, high in test.ranges:
                words += (low, high)
        yield Custom(OpKind.OP_U32, tuple(words), invert=self.inverted("u32"))


MATCH = U32
