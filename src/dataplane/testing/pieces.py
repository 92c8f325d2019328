"""Packets larger than a link: cut into fragments as their sender would, and put together again.

cut(packet, 1450)        # fragments that fit; of IPv6 with a fragment header (RFC 8200, 4.5)
whole([first, second])   # the packet; None while a piece is missing
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from dataplane.testing.wire import checked, internet_sum

MORE, DONT = 0x2000, 0x4000
FRAGMENT = 44  # IPv6's next header
FIXED = 40


def cut(packet: bytes, size: int, *, id: int = 1) -> list[bytes]:
    """The fragments of a whole packet that fit into `size` bytes, or the packet itself where it fits.

    id: of IPv6's fragment header. ValueError where nothing of the payload would fit.
    """
    if len(packet) <= size:
        return [packet]
    six = packet[0] >> 4 == 6
    header = FIXED if six else (packet[0] & 15) * 4
    room = (size - header - (8 if six else 0)) // 8 * 8
    if room <= 0:
        raise ValueError(f"nothing of the payload fits into {size} bytes")
    body, made = packet[header:], []
    for at in range(0, len(body), room):
        piece, more = body[at : at + room], at + room < len(body)
        if six:
            extension = struct.pack("!BBHI", packet[6], 0, at | more, id)
            head = packet[:4] + struct.pack("!HB", 8 + len(piece), FRAGMENT) + packet[7:FIXED]
            made.append(head + extension + piece)
            continue
        head = packet[:2] + struct.pack("!H", header + len(piece)) + packet[4:6]
        head += struct.pack("!H", at // 8 | (MORE if more else 0)) + packet[8:header]
        made.append(checked(head, 10, b"") + piece)
    return made


def place(packet: bytes) -> tuple[int, bool] | None:
    """(offset in bytes, whether more follow) of a fragment; None for a whole packet, and for what is no IP packet."""
    if len(packet) >= 20 and packet[0] >> 4 == 4:
        field = int(struct.unpack_from("!H", packet, 6)[0])
        return ((field & 0x1FFF) * 8, bool(field & MORE)) if field & 0x3FFF else None
    if len(packet) >= FIXED + 8 and packet[0] >> 4 == 6 and packet[6] == FRAGMENT:
        field = int(struct.unpack_from("!H", packet, FIXED + 2)[0])
        return field & 0xFFF8, bool(field & 1)
    return None


def whole(pieces: Sequence[bytes]) -> bytes | None:
    """The packet whose fragments these are, in any order. A header whose checksum is wrong in one of them has a wrong one
    in the packet, too. None where a piece is missing."""
    placed = sorted((found, piece) for piece in pieces if (found := place(piece)) is not None)
    body, last = b"", False
    for (offset, more), piece in placed:
        if offset > len(body):
            return None
        start = FIXED + 8 if piece[0] >> 4 == 6 else (piece[0] & 15) * 4
        end = FIXED + int.from_bytes(piece[4:6], "big") if piece[0] >> 4 == 6 else int.from_bytes(piece[2:4], "big")
        body = body[:offset] + piece[start:end]
        last = last or not more
    if not placed or not last:
        return None
    first = placed[0][1]
    if first[0] >> 4 == 6:
        return first[:4] + struct.pack("!HB", len(body) & 0xFFFF, first[FIXED]) + first[7:FIXED] + body
    header = (first[0] & 15) * 4
    head = first[:2] + struct.pack("!H", header + len(body)) + first[4:6] + b"\0\0" + first[8:header]
    if all(internet_sum(piece[: (piece[0] & 15) * 4]) == 0xFFFF for _, piece in placed):
        head = checked(head, 10, b"")
    return head + body
