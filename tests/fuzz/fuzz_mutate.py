"""Damage to an input: bits, bytes, pieces, lines, numbers, and pieces of other inputs of its kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

NUMBERS = [b"0", b"-1", b"1", b"255", b"256", b"65535", b"65536", b"4294967295", b"4294967296", b"18446744073709551616"]
WORDS = [
    b"",
    b"null",
    b"[]",
    b"{}",
    b'"',
    b"'",
    b"\\",
    b"\0",
    b"\n",
    b" ",
    b"\xff",
    b"\xc3\x28",
    b"&a",
    b"*a",
    b"<<",
    b"!!int",
]
EDGES = (0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF)

Change = Callable[[Random, bytes, Sequence[bytes]], bytes]


def _place(random: Random, data: bytes) -> int:
    """Mostly near the beginning, where headers are."""
    if not data:
        return 0
    return random.randrange(min(len(data), 64)) if random.random() < 0.4 else random.randrange(len(data))


def bit(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = _place(random, data)
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :] if data else data


def edge(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at, size = _place(random, data), random.choice([1, 1, 2, 4, 8])
    return data[:at] + bytes([random.choice(EDGES)]) * size + data[at + size :]


def cut(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: _place(random, data)]


def drop(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = _place(random, data)
    return data[:at] + data[at + random.choice([1, 2, 4, 16, 200]) :]


def repeat(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at, size = _place(random, data), random.choice([1, 4, 16, 64])
    return data[: at + size] + data[at : at + size] * random.choice([1, 2, 30]) + data[at + size :]


def splice(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = random.choice(others) if others else data
    at, there = _place(random, data), _place(random, other)
    size = random.choice([4, 16, 64, 400])
    return data[:at] + other[there : there + size] + data[at + random.choice([0, size]) :]


def number(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    found = list(re.finditer(rb"\d+", data[:200_000]))
    if not found:
        return edge(random, data, ())
    one = random.choice(found)
    return data[: one.start()] + random.choice(NUMBERS) + data[one.end() :]


def word(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    found = list(re.finditer(rb"[^\s,:{}\[\]]+", data[:200_000]))
    if not found:
        return data
    one, other = random.choice(found), random.choice(found)
    return data[: one.start()] + random.choice([random.choice(WORDS), other.group()]) + data[one.end() :]


def line(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    lines = data.split(b"\n")
    at, other = random.randrange(len(lines)), random.randrange(len(lines))
    kind = random.randrange(3)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(at, lines[other])
    else:
        lines[at], lines[other] = lines[other], lines[at]
    return b"\n".join(lines)


BINARY: tuple[Change, ...] = (bit, bit, edge, edge, cut, drop, repeat, splice)
TEXT: tuple[Change, ...] = (number, number, word, word, line, line, cut, splice, bit, drop)
LIMIT = 1 << 20  # bytes of an input


def mutate(random: Random, data: bytes, others: Sequence[bytes], changes: Sequence[Change]) -> bytes:
    """One to five changes, one after the other."""
    for _ in range(random.choice([1, 1, 1, 2, 3, 5])):
        data = random.choice(changes)(random, data, others)
    return data[:LIMIT]
