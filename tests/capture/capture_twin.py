"""A slow twin of the writers: pcap and pcapng files made field by field with struct, in either byte order."""

from __future__ import annotations

import struct

SECTION = 0x0A0D0D0A
INTERFACE = 1
OBSOLETE_PACKET = 2
SIMPLE_PACKET = 3
NAME_RESOLUTION = 4
STATISTICS = 5
ENHANCED_PACKET = 6
SECRETS = 10
CUSTOM = 0xBAD

MICROSECONDS = 0xA1B2C3D4
NANOSECONDS = 0xA1B23C4D


def pcap_header(order: str = "<", magic: int = MICROSECONDS, link_type: int = 1, snap_length: int = 65535) -> bytes:
    return struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snap_length, link_type)


def pcap_record(
    data: bytes, seconds: int = 0, fraction: int = 0, original: int | None = None, order: str = "<"
) -> bytes:
    wire = len(data) if original is None else original
    return struct.pack(order + "IIII", seconds, fraction, len(data), wire) + data


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + padded(value)


def comment(text: str, order: str = "<") -> bytes:
    return option(1, text.encode(), order) + option(0, b"", order)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    length = len(body) + 12
    return struct.pack(order + "II", kind, length) + body + struct.pack(order + "I", length)


def section(order: str = "<", options: bytes = b"", major: int = 1, minor: int = 0) -> bytes:
    return block(SECTION, struct.pack(order + "IHHq", 0x1A2B3C4D, major, minor, -1) + options, order)


def interface(
    link_type: int = 1,
    name: str = "",
    resolution: int | None = None,
    offset: int | None = None,
    snap_length: int = 0,
    options: bytes = b"",
    order: str = "<",
) -> bytes:
    body = struct.pack(order + "HHI", link_type, 0, snap_length)
    if name:
        body += option(2, name.encode(), order)
    if resolution is not None:
        body += option(9, bytes([resolution]), order)
    if offset is not None:
        body += option(14, struct.pack(order + "q", offset), order)
    return block(INTERFACE, body + options, order)


def enhanced(
    data: bytes,
    ticks: int = 0,
    index: int = 0,
    original: int | None = None,
    options: bytes = b"",
    order: str = "<",
    captured: int | None = None,
) -> bytes:
    wire = len(data) if original is None else original
    length = len(data) if captured is None else captured
    head = struct.pack(order + "IIIII", index, ticks >> 32, ticks & 0xFFFFFFFF, length, wire)
    return block(ENHANCED_PACKET, head + padded(data) + options, order)


def simple(data: bytes, original: int | None = None, order: str = "<") -> bytes:
    wire = len(data) if original is None else original
    return block(SIMPLE_PACKET, struct.pack(order + "I", wire) + padded(data), order)


def obsolete(
    data: bytes, ticks: int = 0, index: int = 0, original: int | None = None, options: bytes = b"", order: str = "<"
) -> bytes:
    wire = len(data) if original is None else original
    head = struct.pack(order + "HHIIII", index, 0xFFFF, ticks >> 32, ticks & 0xFFFFFFFF, len(data), wire)
    return block(OBSOLETE_PACKET, head + padded(data) + options, order)
