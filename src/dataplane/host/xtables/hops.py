"""What the matches and the targets on TTL and hop limit share."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.packet import Field
from dataplane._fast.ruleset import TargetKind
from dataplane.host.xtables.declare import Extension, Option
from dataplane.host.xtables.predicate import ANY, Action, Test, Word
from dataplane.host.xtables.values import number

CHANGES = ("set", "inc", "dec")


def hop_options(prefix: str) -> tuple[Option, ...]:
    eq, lt, gt = f"{prefix}-eq", f"{prefix}-lt", f"{prefix}-gt"
    return (
        Option(eq, number(0, 255), invert=True, also=(prefix,), excludes=(lt, gt)),
        Option(lt, number(0, 255), excludes=(gt,)),
        Option(gt, number(0, 255)),
    )


def hop_tests(match: Extension, prefix: str) -> Iterator[Test]:
    if match.has(f"{prefix}-eq"):
        value = match.value(f"{prefix}-eq")
        yield Word(Field.FIELD_TTL, value, value, invert=match.inverted(f"{prefix}-eq"))
    elif match.has(f"{prefix}-lt"):
        # Not at or above: nothing lies below 0.
        yield Word(Field.FIELD_TTL, match.value(f"{prefix}-lt"), ANY, invert=True)
    else:
        yield Word(Field.FIELD_TTL, match.value(f"{prefix}-gt") + 1, ANY)


def change_options(prefix: str) -> tuple[Option, ...]:
    names = [f"{prefix}-{change}" for change in CHANGES]
    return tuple(
        Option(name, number(0 if at == 0 else 1, 255), excludes=tuple(names[at + 1 :])) for at, name in enumerate(names)
    )


def change_action(target: Extension, prefix: str) -> Action:
    """flags: 0 set, 1 add, 2 subtract; value: by how much."""
    for at, change in enumerate(CHANGES):
        if target.has(f"{prefix}-{change}"):
            return Action(TargetKind.TARGET_TTL, flags=at, value=target.value(f"{prefix}-{change}"))
    raise AssertionError("one of them was given")
