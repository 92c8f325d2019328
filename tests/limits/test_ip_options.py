"""IPv4 options and IPv6 extension headers, as damaged as can be: no byte outside the packet is read or written."""

import struct
from ipaddress import ip_address
from random import Random

import numpy as np
import pytest

from dataplane import Host, HostConfig
from dataplane.host.config import Address, Link, Neighbour

ROUTER, CLIENT, SERVER = 0x020000000001, 0x020000000099, 0x0200000000AA
SECOND = 1_000_000_000
MORNING = 86_400 * 365 * SECOND + (6 * 3600 + 30 * 60) * SECOND + 7_999_999  # some day, 06:30:00.007


def mac(value: int) -> bytes:
    return value.to_bytes(6, "big")


def total(data: bytes) -> int:
    data += bytes(len(data) & 1)
    value = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while value >> 16:
        value = (value & 0xFFFF) + (value >> 16)
    return value


def ip4(target: str, options: bytes, body: bytes, protocol: int = 1) -> bytes:
    header = struct.pack(
        "!BBHHHBBH4s4s", 0x45 + len(options) // 4, 0, 20 + len(options) + len(body), 1, 0, 64, protocol, 0,
        ip_address("10.0.0.5").packed, ip_address(target).packed,
    ) + options  # fmt: skip
    header = header[:10] + struct.pack("!H", ~total(header) & 0xFFFF) + header[12:]
    return mac(ROUTER) + mac(CLIENT) + b"\x08\0" + header + body


def ip6(target: str, first: int, extra: bytes) -> bytes:
    header = struct.pack("!IHBB", 6 << 28, len(extra), first, 64)
    return (
        mac(ROUTER)
        + mac(CLIENT)
        + b"\x86\xdd"
        + header
        + ip_address("fd00::5").packed
        + ip_address(target).packed
        + extra
    )


def icmp(kind: int, rest: bytes) -> bytes:
    body = bytes([kind, 0, 0, 0]) + rest
    return body[:2] + struct.pack("!H", ~total(body) & 0xFFFF) + body[4:]


def router() -> Host:
    everywhere = {f"net.ipv4.conf.{name}.accept_source_route": "1" for name in ("all", "eth0", "eth1")}
    return Host(
        HostConfig(
            "router",
            links=(Link.lo(), Link("eth0", mac=ROUTER), Link("eth1", mac=ROUTER + 1)),
            addresses=(
                Address.of("eth0", "10.0.0.1/24"),
                Address.of("eth1", "10.0.1.1/24"),
                Address.of("eth0", "fd00::1/64"),
                Address.of("eth1", "fd00:1::1/64"),
            ),
            neighbours=(
                Neighbour.of("eth0", "10.0.0.5", CLIENT),
                Neighbour.of("eth1", "10.0.1.2", SERVER),
                Neighbour.of("eth0", "fd00::5", CLIENT),
                Neighbour.of("eth1", "fd00:1::2", SERVER),
            ),
            sysctl={
                "net.ipv4.ip_forward": "1",
                "net.ipv6.conf.all.forwarding": "1",
                "net.ipv4.icmp_ratemask": "0",
                **everywhere,
            },
        )
    )


def test_the_time_of_day_is_the_packets() -> None:
    """A timestamp reply, and both entries of a timestamp option, say milliseconds since midnight UT."""
    request = icmp(13, struct.pack("!HHIII", 7, 1, 1234, 0, 0))
    ((_, frame),) = router().receive(
        ip4("10.0.0.1", b"\x44\x0c\x05\0" + bytes(8), request), interface="eth0", time_ns=MORNING
    )
    now = (6 * 3600 + 30 * 60) * 1000 + 7
    data = bytes(frame)[14:]
    assert total(data[:32]) == 0xFFFF
    assert total(data[32:]) == 0xFFFF
    assert data[20:32] == struct.pack("!BBBBII", 68, 12, 13, 0, now, now)
    assert data[32:34] == b"\x0e\0"
    assert struct.unpack("!HHIII", data[36:52]) == (7, 1, 1234, now, now)


def test_a_record_route_of_a_forwarded_packet() -> None:
    """The address of the side that the packet leaves by; the checksum holds again."""
    ((port, frame),) = router().receive(
        ip4("10.0.1.2", b"\x07\x07\x04" + bytes(5), icmp(8, bytes(4))), interface="eth0", time_ns=1
    )
    header = bytes(frame)[14:42]
    assert port == "eth1"
    assert total(header) == 0xFFFF
    assert header[20:28] == b"\x07\x07\x08" + ip_address("10.0.1.1").packed + b"\0"


@pytest.mark.parametrize("seed", range(4))
def test_any_options(seed: int) -> None:
    """Random bytes, of which many begin like an option: each packet comes to an end, and what comes out is whole."""
    random = Random(seed)
    host = router()
    kinds = (0, 1, 7, 68, 131, 134, 137, 148)
    for at in range(1500):
        options = bytearray(random.randbytes(4 * random.randint(1, 10)))
        place = 0
        while place < len(options) - 2 and random.random() < 0.9:
            options[place] = random.choice(kinds)
            options[place + 1] = random.choice([3, 4, 7, 8, 11, 12, 20, len(options) - place, 255, 0])
            options[place + 2] = random.choice([4, 5, 8, 9, 12, 13, 40, random.randrange(256)])
            place += max(options[place + 1], 1)
        target = random.choice(["10.0.0.1", "10.0.1.1", "10.0.1.2", "10.0.0.5", "10.9.9.9"])
        body = random.choice([icmp(8, b"\0\1\0\1data"), icmp(13, bytes(16)), b"\x13\x88\0\t\0\x0c\0\0abcd"])
        protocol = 17 if body[0] == 0x13 else 1
        for _, frame in host.receive(
            ip4(target, bytes(options), body, protocol), interface="eth0", time_ns=at * 1_000_000
        ):
            data = bytes(frame)[14:]
            if frame[12:14] == b"\x08\0":
                assert total(data[: (data[0] & 15) * 4]) == 0xFFFF
                assert len(data) == int.from_bytes(data[2:4], "big")


@pytest.mark.parametrize("seed", range(4))
def test_any_extension_headers(seed: int) -> None:
    random = Random(seed)
    host = router()
    chain = (0, 43, 44, 51, 59, 60, 58, 17)
    for at in range(1500):
        extra = bytearray(random.randbytes(random.randint(0, 80)))
        place = 0
        while place < len(extra) - 4 and random.random() < 0.9:
            extra[place] = random.choice(chain)
            extra[place + 1] = random.choice([0, 0, 0, 1, 2, 4, 255])
            if random.random() < 0.7:
                extra[place + 2 : place + 4] = random.choice(
                    [b"\0\0", b"\0\1", b"\1\4", b"\x1e\2", b"\xc2\4", b"\xfe\0"]
                )
            place += 8 + 8 * extra[place + 1]
        target = random.choice(["fd00::1", "fd00:1::2", "ff02::1"])
        for _, frame in host.receive(
            ip6(target, random.choice(chain), bytes(extra)), interface="eth0", time_ns=at * 1_000_000
        ):
            assert len(frame) == 54 + int.from_bytes(frame[18:20], "big")


def test_what_has_no_options_bears_none_of_the_packet_before() -> None:
    """Packets share their memory: what the last one had is forgotten."""
    host = router()
    options = b"\x07\x0b\x04" + bytes(9)
    for with_options in (options, b"", options, b""):
        ((_, frame),) = host.receive(ip4("10.0.0.1", with_options, icmp(8, bytes(4))), interface="eth0", time_ns=1)
        assert np.frombuffer(bytes(frame)[14:15], np.uint8)[0] == 0x45 + len(with_options) // 4
