"""What fragments may cost: bounded memory, one timer, no quadratic work; and what is left when a host goes away."""

from __future__ import annotations

import gc

import pytest
from fragments_router import ENDS, SECOND, datagram, frame, joined, router

from dataplane import PacketBatch
from dataplane._fast.reason import Reason, Verdict
from dataplane._fast.reassembly import ReassemblyKind

PLACE = {4: ReassemblyKind.REASSEMBLY_IP4, 6: ReassemblyKind.REASSEMBLY_TRACKED6}
THRESHOLD = 4 << 20
LARGEST = 200 + 2048 + 576  # a queue with one fragment


@pytest.mark.parametrize("family", [4, 6])
def test_a_flood_is_bounded_and_forgotten(family: int) -> None:
    """Twenty thousand fragments whose rest never comes: what passes the threshold is dropped, what waits is given up
    when its time is over, and then there is room again."""
    count = 20_000
    host = router()
    frames = [frame(family, ENDS[family][1], bytes(64), 0, True, number) for number in range(count)]
    batch = PacketBatch.from_frames(frames, times=[SECOND] * count)
    host.receive_batch(batch, "eth0")
    counters = host.reassembly()[PLACE[family]]
    assert THRESHOLD < counters.memory <= THRESHOLD + LARGEST
    assert counters.waiting == int((batch.verdict[:count] == Verdict.QUEUED).sum())
    assert counters.waiting + host.drops()[Reason.NOMEM] == count
    whole = datagram(family, ENDS[family][1], bytes(1000))
    cut = [frame(family, ENDS[family][1], whole[a : a + 504], a, a == 0, 1) for a in (0, 504)]
    assert not [out for part in cut for out in host.receive(part, "eth0", 2 * SECOND)]
    host.advance(62 * SECOND)
    after = host.reassembly()[PLACE[family]]
    assert after == (0, 0, 0, count + 2, counters.waiting)
    assert host.drops() == {Reason.NOMEM: count + 2 - counters.waiting, Reason.FRAG_REASM_TIMEOUT: counters.waiting}
    out = [out for part in cut for _, out in host.receive(part, "eth0", 63 * SECOND)]
    assert joined(out)[1] == whole


def test_each_sender_is_counted_by_itself() -> None:
    """Ten thousand senders with a fragment each: none of them has sent too much since."""
    host = router(**{"net.ipv4.ipfrag_high_thresh": str(1 << 30), "net.ipv4.ipfrag_max_dist": "1"})
    senders = [f"10.1.{i >> 8}.{i & 255}" for i in range(10_000)]
    rows = [
        frame(4, ENDS[4][1], bytes(48), start, start == 0, proto=253, sender=sender)
        for start in (0, 48)
        for sender in senders
    ]
    batch = PacketBatch.from_frames(rows, times=[SECOND] * len(rows))
    host.receive_batch(batch, "eth0")
    assert host.reassembly()[PLACE[4]] == (0, 0, 10_000, 0, 0)
    assert set(batch.verdict[:10_000].tolist()) == {Verdict.CONSUMED}
    assert set(batch.verdict[10_000:20_000].tolist()) == {Verdict.EMITTED}
    assert host.drops() == {}


@pytest.mark.parametrize("family", [4, 6])
def test_the_worst_order_of_the_smallest_fragments(family: int) -> None:
    """Every other fragment of eight bytes first: thousands of gaps, then each is filled."""
    host = router(
        **{
            "net.ipv4.ipfrag_max_dist": "0",
            "net.ipv4.ipfrag_high_thresh": str(1 << 30),
            "net.netfilter.nf_conntrack_frag6_high_thresh": str(1 << 30),
        }
    )
    whole = datagram(family, ENDS[family][1], bytes(65000))
    starts = [*range(0, len(whole), 16), *range(8, len(whole), 16)]
    frames = [frame(family, ENDS[family][1], whole[a : a + 8], a, a + 8 < len(whole)) for a in starts]
    out = host.receive_batch(PacketBatch.from_frames(frames, times=[SECOND] * len(frames)), "eth0")
    assert joined([out.frame(i) for i in range(len(out))])[1] == whole


def test_a_host_goes_away_with_fragments_waiting() -> None:
    for family in (4, 6):
        host = router()
        host.receive(frame(family, ENDS[family][1], bytes(64), 0, True), "eth0", SECOND)
        del host
    gc.collect()


@pytest.mark.parametrize("family", [4, 6])
def test_a_new_datagram_has_its_own_time(family: int) -> None:
    """The timer is one, the times are each datagram's own: what begins later ends later."""
    host = router()
    seconds = 30 if family == 4 else 60
    for number in range(5):
        host.receive(frame(family, ENDS[family][1], bytes(64), 8, True, number), "eth0", number * SECOND)
    for number in range(5):
        host.advance((seconds + number) * SECOND - 1)
        assert host.reassembly()[PLACE[family]].waiting == 5 - number
        host.advance((seconds + number) * SECOND)
        assert host.reassembly()[PLACE[family]].waiting == 4 - number
