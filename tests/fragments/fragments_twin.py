"""Reassembly as RFC 791, 8200, 5722 and Linux describe it, with lists and dicts: what the compiled queues are held to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

QUEUE, OVERHEAD, HEADROOM = 200, 576, 64


@dataclass
class Run:
    """Fragments that came one behind the other."""

    start: int
    data: bytes
    pieces: int = 1

    @property
    def end(self) -> int:
        return self.start + len(self.data)


@dataclass
class Queue:
    expires: float
    runs: list[Run] = field(default_factory=list)
    length: int = 0
    last: bool = False
    marks: set[int] = field(default_factory=set)
    seen: int = 0
    memory: int = QUEUE

    @property
    def pieces(self) -> int:
        return sum(run.pieces for run in self.runs)


@dataclass
class Twin:
    """One sender's fragments to one destination, tracked. family 4 or 6; distance of IPv4 alone."""

    family: int
    timeout: float
    threshold: int
    distance: int
    queues: dict[int, Queue] = field(default_factory=dict)
    sent: int = 0
    drops: Counter[str] = field(default_factory=Counter)

    @property
    def memory(self) -> int:
        return sum(queue.memory for queue in self.queues.values())

    def wait(self, now: float) -> None:
        for number, queue in list(self.queues.items()):
            if queue.expires <= now:
                self._forget(number, "FRAG_REASM_TIMEOUT")

    def receive(
        self, now: float, number: int, start: int, data: bytes, more: bool, mark: int, frame: int
    ) -> bytes | str | None:
        """A fragment arrives in a frame of so many bytes: what it completes, "passes" if it goes on by itself, None if it
        waits or is dropped."""
        if self.family == 6 and start == 0 and not data:
            return "passes"  # without its transport header
        if self.memory > self.threshold:
            self.drops["NOMEM"] += 1
            return None
        queue = self.queues.setdefault(number, Queue(now + self.timeout))
        if self.family == 4 and self.distance:
            self._too_far(queue, now)
        end = start + len(data)
        if more and end & 7:
            if self.family == 6:
                self._forget(number, "FRAG_LENGTH")
                return "passes"
            end &= ~7
            data = data[: end - start]
        wrong = self._place(queue, start, data, more)
        if wrong:
            self.drops[wrong] += 1
            if wrong == "FRAG_OVERLAP" or (self.family == 4 and wrong != "DUP_FRAG"):
                self._forget(number, wrong)
            return None
        queue.marks.add(mark)
        queue.memory += (frame + HEADROOM + 63) // 64 * 64 + OVERHEAD
        whole = b"".join(run.data for run in queue.runs)
        if not queue.last or queue.runs[0].start or len(whole) != queue.length:
            return None
        if 0 in queue.marks and len(queue.marks) > 1:
            self._forget(number, "FRAG_ECN")
            return None
        del self.queues[number]
        return whole

    def _forget(self, number: int, why: str) -> None:
        if pieces := self.queues.pop(number).pieces:
            self.drops[why] += pieces

    def _too_far(self, queue: Queue, now: float) -> None:
        self.sent += 1
        before, queue.seen = queue.seen, self.sent
        if queue.runs and queue.seen - before > self.distance:
            self.drops["FRAG_TOO_FAR"] += queue.pieces
            queue.runs, queue.length, queue.last, queue.marks = [], 0, False, set()
            queue.memory, queue.expires = QUEUE, now + self.timeout

    @staticmethod
    def _place(queue: Queue, start: int, data: bytes, more: bool) -> str:
        """Enter the bytes, or say what is wrong with them."""
        end = start + len(data)
        if not more:
            if end < queue.length or (queue.last and end != queue.length):
                return "FRAG_LENGTH"
            queue.last, queue.length = True, end
        elif end > queue.length:
            if queue.last:
                return "FRAG_LENGTH"
            queue.length = end
        if not data:
            return "FRAG_EMPTY"
        for run in queue.runs:
            if run.start <= start and end <= run.end:
                return "DUP_FRAG"
            if start < run.end and run.start < end:
                return "FRAG_OVERLAP"
        tail = queue.runs[-1] if queue.runs else None
        if tail is not None and tail.end == start:
            # Only behind the last does it lengthen a run.
            tail.data += data
            tail.pieces += 1
        else:
            queue.runs.append(Run(start, data))
            queue.runs.sort(key=lambda run: run.start)
        return ""
