"""What the node itself chose at random in a frame, taken out: random cases drop packets on their way, so that the order
of choices cannot be read from what came out.

Senders of random cases use a few IP ids and flow labels only; any other is the node's. What is put in its place keeps
the checksums' truth: a frame whose checksum was wrong is still told from one whose checksum was right.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from judge.random_wire import FRAGMENT_IDS, ICMP, IDS, LABELS, UDP, total
from judge.times import without_times4

TUNNELS = (4789, 8472)
FRAGMENT = 44
REPEATED = (0, 43, 60)


_TUNNEL = re.compile(r"^(ipv[46] +\d+ udp +\d+ )(\d+)( .*? dport=(?:4789|8472) .*)$")
_SOURCE = re.compile(r"sport=(\d+)(?= dport=(?:4789|8472))")


def tunnels_joined(lines: Iterable[str]) -> list[str]:
    """Connections of tunnels differ in the source port alone, which is that hash again: those between the same two ends
    are shown as one, with what all of them carried. Only what was never answered is joined, for only that is certain."""
    kept: list[str] = []
    joined: dict[str, list[int]] = {}
    for line in lines:
        match = _TUNNEL.match(line.strip())
        if not match or "[UNREPLIED]" not in line:
            kept.append(line)
            continue
        port = _SOURCE.search(line)
        counts = [int(text) for text in re.findall(r"(?:packets|bytes)=(\d+)", line)]
        plain = re.sub(r"(packets|bytes)=\d+", r"\1=#", line.strip())
        plain = re.sub(r" (use|delta-time)=\d+", "", plain)
        if port:
            plain = re.sub(rf"([sd]port)={port[1]}\b", r"\1=any", plain)
        plain = re.sub(_TUNNEL, r"\g<1>#\3", plain)
        timeout = int(match[2])
        old = joined.setdefault(plain, [0] * (len(counts) + 1))
        old[0] = max(old[0], timeout)
        for i, count in enumerate(counts):
            old[i + 1] += count
    for plain, (timeout, *counts) in joined.items():
        text = plain.replace("#", str(timeout), 1)
        for count in counts:
            text = text.replace("=#", f"={count}", 1)
        kept.append(text)
    return kept


def without_choices(frame: bytes) -> bytes:
    place = 14
    kind = frame[12:14]
    if kind == b"\x81\x00":
        place, kind = 18, frame[16:18]
    if kind == b"\x08\x00":
        return frame[:place] + without_times4(_ip4(frame[place:]))
    if kind == b"\x86\xdd":
        return frame[:place] + _ip6(frame[place:])
    return frame


def _ip4(data: bytes) -> bytes:
    if len(data) < 20 or data[0] >> 4 != 4:
        return data
    size = (data[0] & 15) * 4
    header, body = bytearray(data[:size]), data[size:]
    if _built_here(header, body) or int.from_bytes(header[4:6], "big") not in IDS:
        true = total(bytes(header)) == 0xFFFF
        header[4:6] = b"\0\x01"
        header[10:12] = b"ok" if true else b"no"
    if header[9] == UDP and not int.from_bytes(header[6:8], "big") & 0x1FFF:
        body = _tunnel(body, bytes(header[12:20]))
    return bytes(header) + body


def _built_here(header: bytes, body: bytes) -> bool:
    """Whether the node may have drawn the id: once in 16,384 packets it draws one of the senders' own."""
    later = int.from_bytes(header[6:8], "big") & 0x1FFF
    return header[9] == ICMP or (header[9] == UDP and (later != 0 or int.from_bytes(body[2:4], "big") in TUNNELS))


def _ip6(data: bytes) -> bytes:
    if len(data) < 40:
        return data
    header, body = bytearray(data[:40]), data[40:]
    label = int.from_bytes(header[1:4], "big") & 0xFFFFF
    if label not in LABELS:
        header[1:4] = (int.from_bytes(header[1:4], "big") & 0xF00000 | 1).to_bytes(3, "big")
    body = _fragment_id(header[6], body)
    if header[6] == UDP:
        body = _tunnel(body, bytes(header[8:40]))
    return bytes(header) + body


def _fragment_id(following: int, body: bytes) -> bytes:
    """A fragment header of the node's own, behind the headers that every fragment repeats."""
    at = 0
    while following in REPEATED and len(body) >= at + 8:
        following, at = body[at], at + 8 + 8 * body[at + 1]
    if (
        following == FRAGMENT
        and len(body) >= at + 8
        and int.from_bytes(body[at + 4 : at + 8], "big") not in FRAGMENT_IDS
    ):
        return body[: at + 4] + b"\0\0\0\1" + body[at + 8 :]
    return body


def _tunnel(body: bytes, addresses: bytes) -> bytes:
    """The source port of a tunnel's outer header is a hash with a secret."""
    if len(body) < 8 + 8 + 14 or int.from_bytes(body[2:4], "big") not in TUNNELS:
        return body
    given = body[6:8]
    pseudo = addresses + len(body).to_bytes(4, "big") + bytes([0, 0, 0, UDP])
    if _reset(body[16:]):
        # Of its own TCP the kernel leaves the inner sum to the device, and NAT then spoils the outer one: known.py.
        given = b"\0\0"
    word = b"\0\0" if given == b"\0\0" else b"ok" if total(pseudo + body) == 0xFFFF else b"no"
    return b"\0\0" + body[2:6] + word + body[8:16] + without_choices(body[16:])


def _reset(frame: bytes) -> bool:
    """Whether a frame carries a TCP reset."""
    place = {b"\x08\x00": 14 + 20, b"\x86\xdd": 14 + 40}.get(frame[12:14], 0)
    proto = frame[23:24] if place == 34 else frame[20:21]
    return bool(place) and proto == b"\x06" and len(frame) > place + 13 and bool(frame[place + 13] & 4)
