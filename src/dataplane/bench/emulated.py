"""The model as a router that packets are timed through."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from dataplane._fast.batch import PacketBatch
from dataplane._fast.reason import Reason, Verdict
from dataplane._fast.rules import CompiledRules
from dataplane._fast.stopwatch import rules_met, time_receive
from dataplane._fast.walk import Walk
from dataplane.bench import traffic
from dataplane.bench.machine import undisturbed
from dataplane.bench.walked import rules_walked
from dataplane.datapath.compile import Compiled
from dataplane.datapath.rule_by_rule import rule_by_rule
from dataplane.errors import ModelError

_ARRAYS = ("ops", "rules", "runs", "keys", "targets", "chains", "tables", "pool", "state")
FORGOTTEN = 130_000_000_000  # ns; nf_conntrack_tcp_timeout_syn_sent is 120 s


class Emulated:
    """A compiled host with the interfaces of `bench.router`.

    in_turn: rules are looked at one by one as the kernel does it, without the index of long runs. What becomes of
    packets is the same.
    """

    def __init__(self, compiled: Compiled, *, in_turn: bool = False) -> None:
        self.host = compiled.host
        self._slots = compiled.slots
        self._with_index = self.host.rules4
        self.in_turn = in_turn
        self._walk = Walk()
        self._id = self._walk.add(self.host)
        self._now = 0

    @property
    def in_turn(self) -> bool:
        return self.host.rules4 is not self._with_index

    @in_turn.setter
    def in_turn(self, value: bool) -> None:
        if self._with_index is not None:
            self.host.rules(4, rule_by_rule(self._with_index) if value else self._with_index)

    def exchange(self, frame: bytes, side: str) -> list[bytes]:
        """One frame arrives; what leaves."""
        self._walk.keep_emitted = True
        self._walk.receive(self._id, self._slots[side], self._batch([frame]))
        out, _, _ = self._walk.emitted()
        self._walk.keep_emitted = False
        return [out.frame(row) for row in range(len(out))]

    def time(self, frames: npt.NDArray[np.uint8], side: str, group: int = 1) -> npt.NDArray[np.int64]:
        """ns that each group of `group` frames took. ModelError where one of them did not leave again."""
        return self.time_batch(self.prepare(frames), side, group)

    def prepare(self, frames: npt.NDArray[np.uint8]) -> PacketBatch:
        """The frames as a batch that is to arrive next."""
        return self._batch(row.tobytes() for row in frames)

    def time_batch(self, batch: PacketBatch, side: str, group: int = 1) -> npt.NDArray[np.int64]:
        """`time` of what is prepared; a batch arrives once."""
        with undisturbed():
            taken = time_receive(self._walk, self._id, self._slots[side], batch, group)
        self._check(batch)
        return taken

    def walked(self, frames: npt.NDArray[np.uint8], side: str) -> npt.NDArray[np.int64]:
        """How many rules each frame is held against; the rules must be those that the host was compiled with."""
        batch = self.prepare(frames)
        events = rules_met(self._walk, self.host, self._slots[side], batch)
        self._check(batch)
        return rules_walked(self.host, events, len(batch))

    @property
    def memory(self) -> int:
        """Bytes of the compiled rules and sets, counters included."""
        return 0 if self.host.rules4 is None else _size(self.host.rules4)

    def forget(self) -> None:
        """Let connections go that nobody has answered."""
        self._now += FORGOTTEN
        self._walk.advance(self._now)

    def close(self) -> None:
        """Nothing is held that goes not by itself."""

    def _batch(self, frames: Iterable[bytes]) -> PacketBatch:
        rows = list(frames)
        batch = PacketBatch.from_frames(rows, times=[self._now + traffic.GAP * at for at in range(len(rows))])
        self._now += traffic.GAP * len(rows)
        return batch

    def _check(self, batch: PacketBatch) -> None:
        lost = np.flatnonzero(batch.verdict[: len(batch)] != Verdict.EMITTED)
        if lost.size:
            reason = Reason(int(batch.reason[lost[0]])).name
            raise ModelError(f"{lost.size} of {len(batch)} packets did not pass the router: {reason}")


def _size(rules: CompiledRules) -> int:
    arrays = [getattr(rules.program, name) for name in _ARRAYS]
    return sum(array.nbytes for array in (*arrays, rules.counters, rules.policies))
