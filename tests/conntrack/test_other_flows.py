"""UDP, ICMP and protocols without a tracker: timeouts, ASSURED, errors."""

from __future__ import annotations

from conftest import Router, build, udp
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6ND_NS, IPv6
from scapy.packet import Raw


def test_a_datagram_waits_thirty_seconds_for_an_answer(router: Router) -> None:
    router.pass_(udp(">"))
    assert router.state() == (None, 30, False)
    assert router.connections[0].seen_reply is False
    router.pass_(udp("<"))
    assert router.state() == (None, 30, False)
    assert router.connections[0].seen_reply is True
    assert router.seen_as() == {"NEW": 1, "ESTABLISHED": 1}


def test_a_stream_is_assured_after_two_seconds(router: Router) -> None:
    router.pass_(udp(">"))
    router.pass_(udp("<"))
    router.pass_(udp(">"))
    assert router.state() == (None, 30, False)
    router.pass_(udp(">"), after=2.1)
    assert router.state() == (None, 120, True)


def test_unanswered_connections_end_on_the_second(router: Router) -> None:
    router.pass_(udp(">"))
    router.host.advance(router.time + 30 * 10**9 - 1)
    assert len(router.connections) == 1
    router.host.advance(router.time + 30 * 10**9)
    assert router.connections == []


def test_echo_is_tracked_by_its_id(router: Router) -> None:
    router.pass_(IP(src="10.0.0.5", dst="10.0.1.2") / ICMP(type=8, id=7, seq=1))
    router.pass_(IP(src="10.0.1.2", dst="10.0.0.5") / ICMP(type=0, id=7, seq=1))
    router.pass_(IP(src="10.0.1.2", dst="10.0.0.5") / ICMP(type=0, id=8, seq=1))
    assert router.seen_as() == {"NEW": 1, "ESTABLISHED": 1, "INVALID": 1}
    assert router.state() == (None, 30, False)


def test_an_error_about_a_known_flow_is_related(router: Router) -> None:
    asked = udp(">")
    router.pass_(asked)
    quoted = IP(bytes(asked))
    router.pass_(IP(src="10.0.1.2", dst="10.0.0.5") / ICMP(type=3, code=3) / quoted)
    router.pass_(IP(src="10.0.1.2", dst="10.0.0.6") / ICMP(type=3, code=3) / quoted)
    stranger = IP(src="10.0.0.5", dst="10.0.1.2") / UDP(sport=1, dport=2)
    router.pass_(IP(src="10.0.1.2", dst="10.0.0.5") / ICMP(type=3, code=3) / stranger)
    assert router.seen_as() == {"NEW": 1, "RELATED": 1, "INVALID": 2}


def test_unknown_protocols_wait_ten_minutes(router: Router) -> None:
    router.pass_(IP(src="10.0.0.5", dst="10.0.1.2", proto=99) / Raw(b"x" * 8))
    assert router.state() == (None, 600, False)


def test_ipv6_is_tracked_alike() -> None:
    router = build()
    router.pass_(udp(">", six=True))
    router.pass_(udp("<", six=True))
    router.pass_(IPv6(src="fd00::5", dst="fd00:1::2") / ICMPv6EchoRequest(id=9))
    router.pass_(IPv6(src="fd00:1::2", dst="fd00::5") / ICMPv6EchoReply(id=9))
    asked = IPv6(bytes(udp(">", six=True)))
    router.pass_(IPv6(src="fd00:1::2", dst="fd00::5") / ICMPv6DestUnreach(code=4) / asked)
    lines = [line for line in router.host.ip6tables_save().splitlines() if "--ctstate" in line]
    counts = {line.split("--ctstate ")[1].split()[0]: int(line[1:].split(":")[0]) for line in lines}
    assert counts == {"INVALID": 0, "NEW": 2, "ESTABLISHED": 2, "RELATED": 1}
    assert sorted(row.protocol for row in router.connections) == [17, 58]


def test_neighbour_discovery_is_not_tracked() -> None:
    router = build()
    router.pass_(IPv6(src="fd00::5", dst="ff02::1:ff00:1") / ICMPv6ND_NS(tgt="fd00::1"))
    assert router.connections == []
