"""Packets cut into fragments, in order or not, whole or not, with what goes wrong between them."""

from __future__ import annotations

import struct
from itertools import pairwise
from random import Random

from judge.random_wire import total

MORE = 0x2000


def cut(random: Random, frame: bytes) -> list[bytes]:
    """The frames of its fragments; the frame alone where it holds nothing to be cut."""
    kind, data = frame[12:14], frame[14:]
    if kind == b"\x08\0" and len(data) >= 20 + 16 and data[0] == 0x45:
        length = int.from_bytes(data[2:4], "big")
        if len(data) < length or int.from_bytes(data[6:8], "big") & 0x3FFF:
            return [frame]
        pieces = _pieces(random, data[20:length])
        made = [_four(random, data[:20], *piece) for piece in pieces]
    elif kind == b"\x86\xdd" and len(data) >= 40 + 16 and data[0] >> 4 == 6 and data[6] != 44:
        length = 40 + int.from_bytes(data[4:6], "big")
        if len(data) < length:
            return [frame]
        ident = random.choice([1, 2, 0xABCDEF])
        pieces = _pieces(random, data[40:length])
        made = [_six(random, data[:40], ident, *piece) for piece in pieces]
    else:
        return [frame]
    return [frame[:14] + piece for piece in made]


def _pieces(random: Random, body: bytes) -> list[tuple[int, bool, bytes]]:
    """Where each piece begins, whether more follow, and its bytes."""
    blocks = (len(body) - 1) // 8
    if blocks < 1:
        return [(0, False, body)]
    count = min(random.choice([1, 1, 1, 2, 2, 3, 5]), blocks)
    cuts = [0, *(8 * block for block in sorted(random.sample(range(1, blocks + 1), count))), len(body)]
    pieces = [(a, b < len(body), body[a:b]) for a, b in pairwise(cuts)]
    chance = random.random()
    if chance < 0.25:
        random.shuffle(pieces)
    elif chance < 0.35:
        del pieces[random.randrange(len(pieces))]
    elif chance < 0.45:
        pieces.insert(random.randrange(len(pieces)), random.choice(pieces))
    elif chance < 0.53:  # one reaches into the next, or begins too early
        i = random.randrange(len(pieces))
        start, more, part = pieces[i]
        pieces[i] = random.choice(
            [(start, more, part + b"overlaps"), (max(start - 8, 0), more, part), (start, more, part[:-3])]
        )
    elif chance < 0.56:  # beyond what an IP packet can hold
        pieces.append((65528, False, b"far beyond its end"))
    elif chance < 0.59:  # more after the last
        pieces.append((len(body) + 7 & ~7, True, bytes(16)))
    return pieces or [(0, True, body[:8])]


def _four(random: Random, header: bytes, start: int, more: bool, part: bytes) -> bytes:
    flags = int.from_bytes(header[6:8], "big") & 0xC000
    if random.random() < 0.1:
        flags ^= 0x4000
    tos = header[1] ^ random.choice([0] * 10 + [1, 2, 3, 0x10])
    ttl = random.choice([header[8]] * 10 + [1, 63])
    made = bytes([0x45, tos]) + struct.pack("!H", 20 + len(part)) + header[4:6]
    made += struct.pack("!HBBH", flags | (MORE if more else 0) | start // 8, ttl, header[9], 0) + header[12:]
    return made[:10] + (~total(made) & 0xFFFF).to_bytes(2, "big") + made[12:] + part


def _six(random: Random, header: bytes, ident: int, start: int, more: bool, part: bytes) -> bytes:
    first = bytes([header[0], header[1] ^ random.choice([0] * 10 + [0x10, 0x20, 0x30])])
    made = (
        first
        + header[2:4]
        + struct.pack("!HBB", 8 + len(part), 44, random.choice([header[7]] * 10 + [1, 63]))
        + header[8:]
    )
    return made + struct.pack("!BBHI", header[6], 0, start | more, ident) + part
