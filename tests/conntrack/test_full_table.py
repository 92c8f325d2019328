"""A full table (nf_conntrack_max), which a namespace of the kernel here cannot set: what its source says of it.

Source: net/netfilter/nf_conntrack_core.c (early_drop, gc_worker).
"""

import pytest
from conftest import Router, build, tcp, udp
from hypothesis import given
from hypothesis import strategies as st


def fill(router: Router, count: int, first: int = 6000) -> None:
    """Flows that nobody answers."""
    for port in range(first, first + count):
        assert router.pass_(udp(">", sport=port))


def assure(router: Router, count: int, first: int = 6000) -> None:
    """Flows of streams."""
    for port in range(first, first + count):
        router.pass_(udp(">", sport=port))
        router.pass_(udp("<", sport=port))
        router.pass_(udp(">", sport=port), after=2.5)


def dropped(router: Router) -> dict[str, int]:
    return {reason.name: count for reason, count in router.host.drops().items() if count}


def ports(router: Router) -> list[int | None]:
    return sorted(row.original.source_port or 0 for row in router.connections)


def test_a_full_table_drops_what_is_new() -> None:
    router = build(max="4", buckets="1")
    assure(router, 4)
    assert [row.assured for row in router.connections] == [True] * 4
    assert router.pass_(udp(">", sport=7000)) == []
    assert dropped(router) == {"CONNTRACK_TABLE_FULL": 1}
    assert len(router.connections) == 4


def test_known_flows_go_on_in_a_full_table() -> None:
    router = build(max="4", buckets="1")
    assure(router, 4)
    assert router.pass_(udp(">", sport=6001))
    assert router.pass_(udp("<", sport=6003))
    assert dropped(router) == {}


def test_one_bucket_gives_up_everything_that_is_not_assured() -> None:
    """Early drop takes all victims of the first bucket that has any."""
    router = build(max="6", buckets="1")
    assure(router, 2)
    fill(router, 4, first=6100)
    assert router.pass_(udp(">", sport=7000))
    assert ports(router) == [6000, 6001, 7000]


def test_early_drop_looks_at_eight_buckets_alone() -> None:
    """As many buckets as on a real host and few entries: none is found, and the packet is dropped."""
    router = build(max="6", buckets="262144")
    fill(router, 6)
    assert router.pass_(udp(">", sport=7000)) == []
    assert dropped(router) == {"CONNTRACK_TABLE_FULL": 1}
    assert len(router.connections) == 6


def test_expired_flows_make_room() -> None:
    router = build(max="6", udp_timeout="5")
    fill(router, 6)
    assert router.pass_(udp(">", sport=7000), after=6)
    assert ports(router) == [7000]


def test_packets_without_a_connection_do_not_ask_for_room() -> None:
    """An answer that belongs to nothing is INVALID, full table or not; but a new flow is made before it is judged."""
    router = build(max="4", buckets="1")
    assure(router, 4)
    assert router.pass_(tcp(">", "FA", 1, 1)) == []
    assert dropped(router) == {"CONNTRACK_TABLE_FULL": 1}


def test_zero_is_no_limit() -> None:
    router = build(max="0")
    fill(router, 40)
    assert len(router.connections) == 40


def test_the_collector_thins_a_table_that_was_full() -> None:
    """Within a minute of a drop everything that is not assured goes until 95 % of the limit are left."""
    router = build(max="200", udp_timeout="600", udp_timeout_stream="6000")
    assure(router, 10, first=5000)
    fill(router, 190)
    assert router.pass_(udp(">", sport=7000)) == []
    assert router.pass_(udp(">", sport=7001), after=61)
    assert len(router.connections) == 190
    assert all(port in ports(router) for port in range(5000, 5010))


def test_the_collector_leaves_a_table_that_was_not_full() -> None:
    router = build(max="200", udp_timeout="600")
    fill(router, 199)
    assert router.pass_(udp(">", sport=7001), after=61)
    assert len(router.connections) == 200


@pytest.fixture
def closing() -> Router:
    """A hundred assured connections that are closing."""
    router = build(max="100", tcp_timeout_fin_wait="6000")
    for port in range(1000, 1100):
        for packet in (
            tcp(">", "S", 1),
            tcp("<", "SA", 9, 2),
            tcp(">", "A", 2, 10),
            tcp(">", "FA", 2, 10),
        ):
            packet["TCP"].sport, packet["TCP"].dport = (port, 80) if packet.src == "10.0.0.5" else (80, port)
            router.pass_(packet)
    assert {(row.state, row.assured) for row in router.connections} == {("FIN_WAIT", True)}
    return router


def test_early_drop_spares_closing_connections_and_the_collector_does_not(closing: Router) -> None:
    assert closing.pass_(udp(">", sport=7000)) == []
    assert closing.pass_(udp(">", sport=7000), after=61)
    assert len(closing.connections) == 95


@given(st.lists(st.integers(0, 3), min_size=1, max_size=80), st.sampled_from([1, 7, 64, 262144]))
def test_there_are_never_more_than_the_limit(script: list[int], buckets: int) -> None:
    """0: a new flow, 1: an answer, 2: a later packet, 3: time passes."""
    router = build(max="8", buckets=str(buckets))
    port = 6000
    for word in script:
        if word == 0:
            port += 1
            router.pass_(udp(">", sport=port))
        elif word == 1:
            router.pass_(udp("<", sport=port))
        elif word == 2:
            router.pass_(udp(">", sport=port), after=2.5)
        else:
            router.pass_(udp(">", sport=port), after=29)
        assert len(router.connections) <= 8
