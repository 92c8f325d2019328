"""Damage to an input: bits, bytes, pieces, lines, numbers, and pieces of other inputs of its kind."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import yaml

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


# ---- by structure ----------------------------------------------------------------------------------------------------

ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    65536,
    1 << 63,
    1e308,
    "",
    "a" * 300,
    "\ud800",
    [],
    {},
    [[]],
    "0.0.0.0/0",
    "::1",
    "\n",
]


def _tree(random: Random, value: Any) -> Any:
    """One change somewhere in a tree: a value of another kind, one that goes, comes twice, or moves elsewhere."""
    spots: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key, child in list(node.items() if isinstance(node, dict) else enumerate(node)):
            spots.append((node, key))
            if isinstance(child, dict | list) and len(spots) < 3000:
                walk(child)

    if isinstance(value, dict | list):
        walk(value)
    if not spots:
        return random.choice(ODD)
    node, key = random.choice(spots)
    other, place = random.choice(spots)
    kind = random.randrange(5)
    if kind == 0:
        node[key] = random.choice(ODD)
    elif kind == 1:
        node[key] = json.loads(json.dumps(other[place], default=str))
    elif kind == 2:
        del node[key]
    elif kind == 3 and isinstance(node, list):
        node.append(json.loads(json.dumps(node[key], default=str)))
    elif isinstance(node, dict):
        node[random.choice([str(place), "", "x"])] = node.pop(key)
    return value


def json_tree(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    try:
        value = json.loads(data)
        return json.dumps(_tree(random, value)).encode()
    except (ValueError, RecursionError):
        return word(random, data, others)


def yaml_tree(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Of files that are small enough to be read again and again."""
    if len(data) > 6000:
        return line(random, data, others)
    try:
        documents = list(yaml.safe_load_all(data))
        at = random.randrange(len(documents))
        documents[at] = _tree(random, documents[at])
        return yaml.safe_dump_all(documents).encode()
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return word(random, data, others)


def _sum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) // 2 * 2]))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def aim(destinations: Sequence[tuple[bytes, bytes]]) -> Change:
    """A change that makes a frame fit for a host: to one of its (MAC, address), with right lengths and header checksum."""

    def aimed(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
        mac, address = random.choice(destinations)
        frame = bytearray(mac + data[6:])
        if len(frame) >= 34 and frame[12:14] == b"\x08\0" and len(address) == 4:
            header = max(20, (frame[14] & 15) * 4)
            if len(frame) < 14 + header:
                return bytes(frame)
            if random.random() < 0.7:
                frame[30:34] = address
            frame[16:18] = struct.pack("!H", min(len(frame) - 14, 65535))
            frame[24:26] = b"\0\0"
            frame[24:26] = struct.pack("!H", _sum(bytes(frame[14 : 14 + header])))
        elif len(frame) >= 54 and frame[12:14] == b"\x86\xdd" and len(address) == 16:
            if random.random() < 0.7:
                frame[38:54] = address
            frame[18:20] = struct.pack("!H", min(len(frame) - 54, 65535))
        return bytes(frame)

    return aimed


def extension(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """IPv4 options or an IPv6 extension header, put in where they belong."""
    if data[12:14] == b"\x08\0" and len(data) >= 34 and data[14] == 0x45:
        options = bytes(
            random.choice([0, 1, 7, 68, 130, 131, 137, 148, 3, 4, 11, 40]) for _ in range(4 * random.randint(1, 10))
        )
        return data[:14] + bytes([0x45 + len(options) // 4]) + data[15:34] + options + data[34:]
    if data[12:14] == b"\x86\xdd" and len(data) >= 54:
        kind = random.choice([0, 43, 44, 60, 51, 135, 59])
        more = 0 if kind == 44 else random.choice([0, 0, 1, 4])
        body = bytes(random.choice([0, 1, 2, 4, 5, 0xC2, 255]) for _ in range(6 + 8 * more))
        return data[:20] + bytes([kind]) + data[21:54] + bytes([data[20], more]) + body + data[54:]
    return data


BINARY: tuple[Change, ...] = (bit, bit, edge, edge, cut, drop, repeat, splice)
TEXT: tuple[Change, ...] = (number, number, word, word, line, line, cut, splice, bit, drop)
JSON: tuple[Change, ...] = (json_tree,) * 6 + TEXT
YAML: tuple[Change, ...] = (yaml_tree,) * 4 + TEXT
FRAME: tuple[Change, ...] = (*BINARY, extension)
LIMIT = 1 << 20  # bytes of an input


def mutate(random: Random, data: bytes, others: Sequence[bytes], changes: Sequence[Change]) -> bytes:
    """One to five changes, one after the other."""
    for _ in range(random.choice([1, 1, 1, 2, 3, 5])):
        data = random.choice(changes)(random, data, others)
    return data[:LIMIT]
