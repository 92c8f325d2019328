"""Any cutting of a datagram, in any order, is to a router what the datagram itself is."""

from __future__ import annotations

import itertools
import random

import pytest
from fragments_router import ENDS, HEADER, SECOND, VIP, datagram, frame, joined, piece_of, router
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane import PacketBatch
from dataplane._fast.reason import Verdict
from dataplane._fast.reassembly import ReassemblyKind

PLACE = {4: ReassemblyKind.REASSEMBLY_IP4, 6: ReassemblyKind.REASSEMBLY_TRACKED6}


@st.composite
def cuttings(draw: st.DrawFn) -> tuple[bytes, list[tuple[int, int]]]:
    """A payload, and its fragments [start, end) in the order of their arrival, some of them twice."""
    payload = draw(st.binary(min_size=9, max_size=64)) * draw(st.integers(1, 60))
    length = 8 + len(payload)
    # The first holds the transport header: RFC 8200 asks for it.
    edges = sorted(draw(st.sets(st.integers(1, (length - 1) // 8), min_size=1, max_size=12)))
    bounds = [0, *(8 * edge for edge in edges), length]
    cut = draw(st.permutations(list(itertools.pairwise(bounds))))
    again = draw(st.lists(st.integers(0, len(cut) - 2), max_size=3)) if len(cut) > 1 else []
    for i in again:
        cut.insert(draw(st.integers(i + 1, len(cut) - 1)), cut[i])
    return payload, cut


@pytest.mark.parametrize("family", [4, 6])
@settings(max_examples=60)
@given(cutting=cuttings(), virtual=st.booleans(), allowed=st.booleans())
def test_any_order_of_any_cutting_is_the_whole(
    family: int, cutting: tuple[bytes, list[tuple[int, int]]], virtual: bool, allowed: bool
) -> None:
    """Bytes, verdict, rule counters and connection are those of the datagram in one piece; each fragment leaves as it
    came. `allowed`: at another time the packet is one that the rules drop."""
    payload, cut = cutting
    target = VIP[family] if virtual else ENDS[family][1]
    data = datagram(family, target, payload)
    policy = "ACCEPT" if allowed else "DROP"
    one, other = router(65535, 65535, policy), router(4000, 4000, policy)
    expected = [out for _, out in one.receive(frame(family, target, data), "eth0", SECOND)]
    frames = [frame(family, target, data[a:b], a, b < len(data)) for a, b in cut]
    out = [each for part in frames for each in other.receive(part, "eth0", SECOND)]
    assert bool(out) == bool(expected) == allowed
    assert one.iptables_save() == other.iptables_save()
    assert one.ip6tables_save() == other.ip6tables_save()
    assert one.connections().text() == other.connections().text()
    assert other.reassembly()[PLACE[family]][:3] == (0, 0, 1)
    if not allowed:
        return
    assert {name for name, _ in out} == {"eth1"}
    sent = [(each.start, each.start + len(each.data)) for each in map(piece_of, (each for _, each in out))]
    if family == 6 and len(data) <= max(b - a for a, b in cut) + 8:
        # The whole is no longer than its largest fragment was with the fragment header.
        assert sent == [(0, len(data))]
    else:
        assert sent == sorted(set(cut))
    assert joined([each for _, each in out]) == joined(expected)


@pytest.mark.parametrize("family", [4, 6])
@settings(max_examples=30)
@given(
    cutting=cuttings(),
    # A link for IPv6 takes 1280 bytes (RFC 8200, 5).
    far_mtu=st.integers(68, 1400),
)
def test_what_does_not_fit_is_cut_anew(family: int, cutting: tuple[bytes, list[tuple[int, int]]], far_mtu: int) -> None:
    payload, cut = cutting
    if family == 6:
        far_mtu = max(far_mtu, 1280)
    data = datagram(family, VIP[family], payload)
    host = router(4000, far_mtu)
    out: list[bytes] = []
    for a, b in cut:
        out += [each for _, each in host.receive(frame(family, VIP[family], data[a:b], a, b < len(data)), "eth0", 1)]
    largest = max(b - a for a, b in cut) + HEADER[family] + (8 if family == 6 else 0)
    if family == 6 and largest > far_mtu:
        # Only the sender may cut to less than what it sent: packet too big.
        assert [each[54] for each in out] == [2]
        return
    whole = router(65535, 65535).receive(frame(family, VIP[family], data), "eth0", 1)
    assert joined(out) == joined([each for _, each in whole])
    for each in out:
        assert piece_of(each).length <= max(far_mtu, 1280 if family == 6 else 0)


@pytest.mark.parametrize("family", [4, 6])
@given(seed=st.integers(0, 2**32))
@settings(max_examples=20)
def test_many_datagrams_at_once(family: int, seed: int) -> None:
    """Fragments of forty datagrams, shuffled together, in one batch: each datagram leaves once, in order; the row that
    completed it has left, the others are taken by the host."""
    chance = random.Random(seed)
    target = ENDS[family][1]
    rows: list[tuple[int, bytes]] = []
    payloads = {}
    for number in range(1, 41):
        payload = chance.randbytes(chance.randrange(100, 2000))
        payloads[number] = data = datagram(family, target, payload)
        size = 8 * chance.randrange(2, 100)
        for a in range(0, len(data), size):
            rows.append((number, frame(family, target, data[a : a + size], a, a + size < len(data), number)))
    chance.shuffle(rows)
    host = router(**{"net.ipv4.ipfrag_max_dist": "0"})
    batch = PacketBatch.from_frames([each for _, each in rows], times=list(range(len(rows))))
    out = host.receive_batch(batch, "eth0")
    last = {number: i for i, (number, _) in enumerate(rows)}
    for i, (number, _) in enumerate(rows):
        assert batch.verdict[i] == (Verdict.EMITTED if last[number] == i else Verdict.CONSUMED)
    leaving = [out.frame(i) for i in range(len(out))]
    ends = [i for i, each in enumerate(leaving) if not piece_of(each).more]
    found = [joined(leaving[a + 1 : b + 1])[1] for a, b in itertools.pairwise([-1, *ends])]
    assert found == [payloads[number] for number in sorted(last, key=lambda number: last[number])]


@pytest.mark.parametrize("family", [4, 6])
def test_what_a_capture_cut_off_stays_unknown(family: int) -> None:
    """Of fragments that a capture holds in part, only what it holds leaves; how long they were is not forgotten."""
    data = datagram(family, ENDS[family][1], bytes(range(250)) * 8)
    host = router()
    batch = PacketBatch(4, 1 << 16)
    for start in (0, 1000):
        whole = frame(family, ENDS[family][1], data[start : start + 1000], start, True)
        batch.append(whole[:300], 0, original=len(whole))
    batch.append(frame(family, ENDS[family][1], data[2000:], 2000, False), 0)
    batch.decode()
    out = host.receive_batch(batch, "eth0")
    sizes = [(out.length[i], out.original[i]) for i in range(len(out))]
    header = 14 + HEADER[family] + (8 if family == 6 else 0)
    assert sizes == [(300, header + 1000), (300, header + 1000), (header + 8, header + 8)]
    assert [out.frame(i)[header:] for i in range(3)] == [data[: 300 - header], data[1000 : 1300 - header], data[2000:]]


def test_a_part_of_the_whole_is_unknown_when_it_is_cut_anew() -> None:
    """Cut to other sizes, all behind the first missing byte counts as missing."""
    data = datagram(4, ENDS[4][1], bytes(range(250)) * 10)
    host = router(1500, 1000)
    batch = PacketBatch(4, 1 << 16)
    whole = frame(4, ENDS[4][1], data[:1240], 0, True)
    batch.append(whole[:-100], 0, original=len(whole))
    batch.append(frame(4, ENDS[4][1], data[1240:], 1240, False), 0)
    batch.decode()
    out = host.receive_batch(batch, "eth0")
    lengths, originals = out.length[: len(out)].tolist(), out.original[: len(out)].tolist()
    assert originals == [34 + 976, 34 + 976, 34 + len(data) - 2 * 976]
    assert lengths == [34 + 976, 34 + 1140 - 976, 34]
