"""Translation: requests, replies, errors, checksums, and what happens when a key is taken."""

from __future__ import annotations

import pytest
from conftest import build, udp
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.packet import Packet, Raw

VIP = "10.96.0.10"
DNAT = f"-A PREROUTING -d {VIP}/32 -p udp -m udp --dport 53 -j DNAT --to-destination 10.0.1.2:5353\n"
DNAT_TCP = f"-A PREROUTING -d {VIP}/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.1.2:8080\n"
MASQUERADE = "-A POSTROUTING -o eth1 -j MASQUERADE\n"


def good(packet: Packet) -> bool:
    """Whether scapy computes the same checksums."""
    again = packet.__class__(bytes(packet))
    for layer in (IP, TCP, UDP, ICMP):
        if layer in again:
            del again[layer].chksum
    return bytes(again.__class__(bytes(again))) == bytes(packet)


def request(size: int = 4, sport: int = 5000, source: str = "10.0.0.5") -> Packet:
    return IP(src=source, dst=VIP, id=77, ttl=64) / UDP(sport=sport, dport=53) / Raw(bytes(range(size % 256)))


def test_a_request_goes_to_the_backend_and_its_reply_comes_from_the_service() -> None:
    router = build(nat=DNAT)
    out = router.one(request())
    assert (out.src, out.dst, out[UDP].sport, out[UDP].dport, out.ttl, out.id) == (
        "10.0.0.5",
        "10.0.1.2",
        5000,
        5353,
        63,
        77,
    )
    assert good(out)
    back = router.one(IP(src="10.0.1.2", dst="10.0.0.5") / UDP(sport=5353, dport=5000) / b"answer")
    assert (back.src, back[UDP].sport, back[UDP].dport) == (VIP, 53, 5000)
    assert good(back)
    (row,) = router.connections
    assert str(row.original.destination) == VIP
    assert (str(row.reply.source), row.reply.source_port) == ("10.0.1.2", 5353)


def test_rules_are_asked_once_a_connection() -> None:
    router = build(nat=DNAT)
    for _ in range(3):
        router.pass_(request())
    (line,) = [line for line in router.host.iptables_save().splitlines() if "DNAT" in line]
    assert line.startswith("[1:32] ")


def test_masquerade_keeps_the_port_while_it_is_free() -> None:
    router = build(nat=MASQUERADE)
    first = router.one(udp(">"))
    assert (first.src, first[UDP].sport) == ("10.0.1.1", 5000)
    second = router.one(IP(src="10.0.0.6", dst="10.0.1.2") / UDP(sport=5000, dport=53) / b"....")
    assert second.src == "10.0.1.1"
    assert 1024 <= second[UDP].sport != 5000
    for out, client in ((first, "10.0.0.5"), (second, "10.0.0.6")):
        reply = IP(src="10.0.1.2", dst="10.0.1.1") / UDP(sport=53, dport=out[UDP].sport) / b"r"
        back = router.one(reply)
        assert (back.dst, back[UDP].dport) == (client, 5000)
        assert good(back)


@pytest.mark.parametrize(("sport", "low", "high"), [(80, 1, 511), (600, 600, 1023), (5000, 1024, 65535)])
def test_a_taken_port_is_replaced_within_its_class(sport: int, low: int, high: int) -> None:
    router = build(nat=MASQUERADE)
    router.pass_(udp(">", sport=sport))
    out = router.one(IP(src="10.0.0.6", dst="10.0.1.2") / UDP(sport=sport, dport=53) / b"....")
    assert out[UDP].sport != sport
    assert low <= out[UDP].sport <= high


def test_random_fully_draws_from_the_first_packet_on() -> None:
    ports = {
        build(nat=MASQUERADE.strip() + " --random-fully\n", seed=seed).one(udp(">"))[UDP].sport for seed in range(8)
    }
    assert len(ports) > 6
    assert all(1024 <= port <= 65535 for port in ports)


def test_the_same_seed_draws_the_same() -> None:
    nat = MASQUERADE.strip() + " --random-fully\n"
    assert build(nat=nat, seed=5).one(udp(">")) == build(nat=nat, seed=5).one(udp(">"))


def test_echo_ids_are_keys_too() -> None:
    router = build(nat=MASQUERADE)
    router.pass_(IP(src="10.0.0.5", dst="10.0.1.2") / ICMP(type=8, id=7))
    out = router.one(IP(src="10.0.0.6", dst="10.0.1.2") / ICMP(type=8, id=7))
    assert out.src == "10.0.1.1"
    assert out[ICMP].id != 7
    assert good(out)


def test_an_error_about_a_translated_flow_shows_what_its_sender_knows() -> None:
    router = build(nat=DNAT)
    out = router.one(request())
    error = IP(src="10.0.1.2", dst="10.0.0.5") / ICMP(type=3, code=3) / IP(bytes(out))
    back = router.one(error)
    assert back.src == VIP
    assert back.dst == "10.0.0.5"
    quoted = back[ICMP].payload
    assert (quoted.src, quoted.dst, quoted.dport) == ("10.0.0.5", VIP, 53)
    assert good(back)


def test_an_error_from_a_router_on_the_way_seems_to_come_from_the_service() -> None:
    router = build(nat=DNAT)
    out = router.one(request())
    back = router.one(IP(src="10.0.1.3", dst="10.0.0.5") / ICMP(type=11, code=0) / IP(bytes(out)))
    assert back.src == VIP


def test_a_datagram_without_a_checksum_stays_without() -> None:
    packet = request()
    packet[UDP].chksum = 0
    assert build(nat=DNAT).one(packet)[UDP].chksum == 0


def test_invalid_packets_are_not_translated() -> None:
    router = build(nat=DNAT_TCP)
    syn = IP(src="10.0.0.5", dst=VIP) / TCP(sport=40000, dport=80, flags="S", seq=100)
    assert router.one(syn).dst == "10.0.1.2"
    back = router.one(IP(src="10.0.1.2", dst="10.0.0.5") / TCP(sport=8080, dport=40000, flags="SA", seq=9, ack=101))
    assert (back.src, back[TCP].sport) == (VIP, 80)
    wild = IP(src="10.0.1.2", dst="10.0.0.5") / TCP(sport=8080, dport=40000, flags="A", seq=2**31, ack=101)
    assert router.one(wild).src == "10.0.1.2"


def test_a_flow_that_meets_another_ones_tuple_loses_its_port() -> None:
    """A direct flow to the backend with the tuple of a translated one gets another source port."""
    router = build(nat=DNAT)
    router.pass_(request())
    out = router.one(IP(src="10.0.0.5", dst="10.0.1.2") / UDP(sport=5000, dport=5353) / b"direct")
    assert out[UDP].sport != 5000
    assert good(out)


@given(
    st.integers(0, 255), st.integers(1, 65535), st.booleans(), st.binary(max_size=64)
)  # fmt: skip
def test_checksums_stay_as_right_or_wrong_as_they_came(tos: int, sport: int, broken: bool, payload: bytes) -> None:
    router = build(nat=DNAT, checksum="0")
    packet = IP(src="10.0.0.5", dst=VIP, tos=tos) / UDP(sport=sport, dport=53) / Raw(payload)
    right = IP(bytes(packet))[UDP].chksum
    if broken:
        packet[UDP].chksum = right ^ 0x0101 or 0xFFFF
    out = router.one(packet)
    assert bytes(out[UDP].payload) == payload
    assert good(out) is (not broken)


@given(st.lists(st.tuples(st.sampled_from(["10.0.0.5", "10.0.0.6"]), st.integers(1, 40)), min_size=1, max_size=30))
def test_no_two_connections_share_a_reply(flows: list[tuple[str, int]]) -> None:
    router = build(nat=DNAT + MASQUERADE)
    for source, sport in flows:
        router.pass_(request(source=source, sport=sport))
    replies = [
        (row.reply.source, row.reply.source_port, row.reply.destination, row.reply.destination_port)
        for row in router.connections
    ]
    assert len(replies) == len(set(replies)) == len(set(flows))


@given(st.integers(1, 65535), st.binary(min_size=1, max_size=200))
def test_a_reply_is_the_inverse_of_its_request(sport: int, payload: bytes) -> None:
    router = build(nat=DNAT + MASQUERADE)
    out = router.one(IP(src="10.0.0.5", dst=VIP) / UDP(sport=sport, dport=53) / payload)
    back = router.one(IP(src=out.dst, dst=out.src) / UDP(sport=out[UDP].dport, dport=out[UDP].sport) / payload)
    assert (back.src, back[UDP].sport, back.dst, back[UDP].dport) == (VIP, 53, "10.0.0.5", sport)
    assert bytes(back[UDP].payload) == payload
    assert good(back)


def test_tcp_is_translated_both_ways() -> None:
    router = build(nat=DNAT_TCP + MASQUERADE)
    syn = router.one(IP(src="10.0.0.5", dst=VIP) / TCP(sport=40000, dport=80, flags="S", seq=1))
    assert (syn.src, syn.dst, syn[TCP].dport) == ("10.0.1.1", "10.0.1.2", 8080)
    assert good(syn)
