"""The compiled queues against their twin: any fragments at all, in any order, with any gaps in time."""

from __future__ import annotations

import pytest
from fragments_router import ENDS, HEADER, SECOND, frame, joined, piece_of, router
from fragments_twin import Twin
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane._fast.reassembly import ReassemblyKind

PROTO = 253  # for experiments: no header of its own that could be wrong
TIMEOUT = {4: 30, 6: 60}
PLACE = {4: ReassemblyKind.REASSEMBLY_IP4, 6: ReassemblyKind.REASSEMBLY_TRACKED6}

fragments = st.tuples(
    st.sampled_from([0, 0, 0, 0.5, 20, 31]),  # seconds since the last
    st.integers(1, 3),  # id
    st.integers(0, 8).map(lambda i: 8 * i),  # start
    st.one_of(st.integers(0, 6).map(lambda i: 8 * i), st.integers(0, 40)),  # length
    st.booleans(),  # more to come
    st.sampled_from([0, 0, 0, 0, 2]),  # congestion mark
)


@pytest.mark.parametrize("family", [4, 6])
@settings(max_examples=300)
@given(
    arriving=st.lists(fragments, min_size=1, max_size=24),
    threshold=st.sampled_from([4 << 20, 4 << 20, 3000]),
    distance=st.sampled_from([0, 0, 2]),
)
def test_as_the_twin(
    family: int, arriving: list[tuple[float, int, int, int, bool, int]], threshold: int, distance: int
) -> None:
    host = router(
        **{
            "net.ipv4.ipfrag_high_thresh": str(threshold),
            "net.netfilter.nf_conntrack_frag6_high_thresh": str(threshold),
            "net.ipv4.ipfrag_max_dist": str(distance),
        }
    )
    twin = Twin(family, TIMEOUT[family], threshold, distance)
    target, now = ENDS[family][1], 1000.0
    for i, (gap, number, start, length, more, mark) in enumerate(arriving):
        now += gap
        data = bytes((i * 7 + j) % 251 for j in range(length))
        if family == 4 and start == 0 and not more:
            continue  # no fragment
        sent = frame(family, target, data, start, more, number, mark, PROTO, always=True)
        told = {name for name, _ in host.advance(int(now * SECOND))}
        out = [each for name, each in host.receive(sent, "eth0", int(now * SECOND)) if name == "eth1"]
        twin.wait(now)
        expected = twin.receive(now, number, start, data, more, mark, len(sent))
        if expected == "passes":
            # By itself, and to no connection: the rules drop it, but for a first fragment, which shows its protocol.
            dropped = 0 if out else 1
            twin.drops["NETFILTER_DROP"] += dropped
            if out:
                (piece,) = map(piece_of, out)
                assert (piece.start, piece.data, piece.more) == (0, data, more)
        elif isinstance(expected, bytes):
            assert joined(out)[1] == expected
        else:
            assert not out
        # IPv4 tells the sender only at the end of the way.
        assert told <= (set() if family == 4 else {"eth0"})
        drops = {reason.name: count for reason, count in host.drops().items()}
        assert drops == {name: count for name, count in twin.drops.items() if count}
        waiting, memory, *_ = host.reassembly()[PLACE[family]]
        assert (waiting, memory) == (len(twin.queues), twin.memory)


@pytest.mark.parametrize("family", [4, 6])
def test_a_twin_completes_something(family: int) -> None:
    """The twin itself, on the plainest case."""
    twin = Twin(family, 30, 4 << 20, 0)
    size = 14 + HEADER[family] + 16
    assert twin.receive(0, 1, 8, b"second", False, 0, size) is None
    assert twin.receive(0, 1, 0, b"first..!", True, 0, size) == b"first..!second"
    assert not twin.queues
