"""The time of day that the node writes into packets: it cannot be foreseen, so it is taken out of both sides' frames.

It stands in timestamp options of IPv4 and in ICMP timestamp replies, and again where an error quotes such a header. Words
that nobody has written are 0 and stay, so that it still shows where a time was written. A checksum that was right becomes
`ok`; a wrong one, as of a header that the node changed and did not sum up again, `no`.
"""

from __future__ import annotations

from judge.random_wire import ICMP, total

TIMESTAMP, REPLY = 68, 14
ERRORS = (3, 4, 5, 11, 12)


def without_times(frame: bytes) -> bytes:
    """An Ethernet frame."""
    return frame[:14] + without_times4(frame[14:]) if frame[12:14] == b"\x08\x00" else frame


def without_times4(packet: bytes) -> bytes:
    """An IPv4 packet, whole or quoted."""
    size = (packet[0] & 15) * 4 if packet else 0
    if size < 20 or len(packet) < size or packet[0] >> 4 != 4:
        return packet
    header = _header(packet[:size])
    body = packet[size:]
    if packet[9] == ICMP and not int.from_bytes(packet[6:8], "big") & 0x1FFF and len(body) >= 8:
        body = _message(body)
    return header + body


def _header(header: bytes) -> bytes:
    at, made = 20, bytearray(header)
    while at + 1 < len(header) and header[at]:
        if header[at] == 1:
            at += 1
            continue
        length = header[at + 1]
        if length < 2 or at + length > len(header):
            break
        if header[at] == TIMESTAMP and length >= 4:
            _clear(made, at, length)
        at += length
    if made != header:
        made[10:12] = b"ok" if total(header) == 0xFFFF else b"no"
    return bytes(made)


def _clear(made: bytearray, at: int, length: int) -> None:
    """The times of one option that somebody has written."""
    each = 8 if made[at + 3] & 15 in (1, 3) else 4
    for place in range(made[at + 2] - 5, each - 1, -each):  # the pointer stands behind what was written last
        if place + 4 <= length and any(made[at + place : at + place + 4]):
            made[at + place : at + place + 4] = b"time"


def _message(message: bytes) -> bytes:
    made = message
    if message[0] == REPLY and len(message) >= 20:
        made = message[:12] + b"timetime" + message[20:]
    elif message[0] in ERRORS:
        made = message[:8] + without_times4(message[8:])
    if made != message:
        made = made[:2] + (b"ok" if total(message) == 0xFFFF else b"no") + made[4:]
    return made
