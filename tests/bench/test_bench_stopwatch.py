"""Packets that are timed or traced meet what all packets meet."""

import numpy as np
import pytest

from dataplane._fast.batch import PacketBatch
from dataplane._fast.stopwatch import rules_met, time_receive, time_send
from dataplane._fast.walk import Walk
from dataplane.bench import conntrack, traffic
from dataplane.datapath.compile import compile_host

COUNT = 50


class Router:
    """A compiled router in a walk of its own, and the frames that left it."""

    def __init__(self) -> None:
        self.compiled = compile_host(conntrack.config(COUNT))
        self.host = self.compiled.host
        self.slot = self.compiled.slots["clients"]
        self.walk = Walk()
        self.id = self.walk.add(self.host)
        self.walk.keep_emitted = True

    def batch(self) -> PacketBatch:
        frames = traffic.Clients().first_packets(np.zeros(COUNT, np.int64))
        frames[7, 22] = 1  # TTL: an error instead of a packet
        return traffic.batch(frames, 0)

    def seen(self, batch: PacketBatch) -> list[object]:
        """All that can be seen of what happened."""
        out = self.walk.emitted()[0]
        assert self.host.rules4 is not None
        assert self.host.connections is not None
        return [
            [out.frame(row) for row in range(len(out))],
            out.time[: len(out)].tolist(),
            batch.verdict[:COUNT].tolist(),
            batch.reason[:COUNT].tolist(),
            self.host.rules4.counters.tolist(),
            self.host.rules4.policies.tolist(),
            self.host.connections.count,
            self.host.drops(),
            self.walk.totals,
        ]


@pytest.mark.parametrize("how", ["one by one", "in groups of 7", "together", "traced"])
def test_what_packets_meet_does_not_depend_on_the_clock(how: str) -> None:
    plain, timed = Router(), Router()
    batch, other = plain.batch(), timed.batch()
    plain.walk.receive(plain.id, plain.slot, batch)
    if how == "traced":
        events = rules_met(timed.walk, timed.host, timed.slot, other)
        assert set(events["row"].tolist()) == set(range(COUNT)) - {7}
    else:
        group = {"one by one": 1, "in groups of 7": 7, "together": COUNT}[how]
        taken = time_receive(timed.walk, timed.id, timed.slot, other, group)
        assert len(taken) == -(-COUNT // group)
        assert (taken > 0).all()
    assert timed.seen(other) == plain.seen(batch)


def test_rows_of_a_trace_count_from_their_own_batch() -> None:
    router = Router()
    first = rules_met(router.walk, router.host, router.slot, router.batch())
    again = rules_met(router.walk, router.host, router.slot, router.batch())
    assert first["row"].tolist() == again["row"].tolist()


def test_nothing_is_told_once_nobody_listens() -> None:
    router = Router()
    before = len(rules_met(router.walk, router.host, router.slot, router.batch()))
    router.walk.receive(router.id, router.slot, router.batch())
    assert before == len(rules_met(router.walk, router.host, router.slot, router.batch())) > 0


def test_what_is_not_there_is_refused() -> None:
    router = Router()
    batch = router.batch()
    for slot in (99, -1):
        with pytest.raises(IndexError):
            time_receive(router.walk, router.id, slot, batch)
        with pytest.raises(IndexError):
            rules_met(router.walk, router.host, slot, batch)
    with pytest.raises(IndexError):
        time_send(router.walk, 5, batch)
    with pytest.raises(ValueError, match="group of 0"):
        time_receive(router.walk, router.id, router.slot, batch, 0)
    cut = PacketBatch.from_frames([b"\x02" * 9])
    cut.decode()
    with pytest.raises(ValueError, match="row 0 is no IP packet"):
        time_send(router.walk, router.id, cut)
