"""TCP connections, packet by packet: state, timeout, ASSURED, and how rules see each packet."""

from __future__ import annotations

import pytest
from conftest import Router, build, tcp
from scapy.packet import Packet

OPEN = [
    (tcp(">", "S", 100), "NEW", ("SYN_SENT", 120, False)),
    (tcp("<", "SA", 500, 101), "ESTABLISHED", ("SYN_RECV", 60, False)),
    (tcp(">", "A", 101, 501), "ESTABLISHED", ("ESTABLISHED", 432000, True)),
]
Step = tuple[Packet, str, tuple[str | None, int | None, bool]]


def walk(router: Router, steps: list[Step]) -> None:
    for number, (packet, ctstate, expected) in enumerate(steps):
        before = router.seen_as()
        router.pass_(packet)
        seen = [state for state, count in router.seen_as().items() if count != before.get(state, 0)]
        assert seen == [ctstate], f"step {number}: {packet.summary()}"
        assert router.state() == expected, f"step {number}: {packet.summary()}"


FLOWS: dict[str, list[Step]] = {
    "handshake, data, orderly close": [
        *OPEN,
        (tcp(">", "PA", 101, 501, 10), "ESTABLISHED", ("ESTABLISHED", 300, True)),
        (tcp("<", "A", 501, 111), "ESTABLISHED", ("ESTABLISHED", 432000, True)),
        (tcp(">", "FA", 111, 501), "ESTABLISHED", ("FIN_WAIT", 120, True)),
        (tcp("<", "A", 501, 112), "ESTABLISHED", ("CLOSE_WAIT", 60, True)),
        (tcp("<", "FA", 501, 112), "ESTABLISHED", ("LAST_ACK", 30, True)),
        (tcp(">", "A", 112, 502), "ESTABLISHED", ("TIME_WAIT", 120, True)),
    ],
    "both close at once": [
        *OPEN,
        (tcp(">", "FA", 101, 501), "ESTABLISHED", ("FIN_WAIT", 120, True)),
        (tcp("<", "FA", 501, 102), "ESTABLISHED", ("LAST_ACK", 30, True)),
    ],
    "reset answers the SYN: nothing remains": [
        OPEN[0],
        (tcp("<", "RA", 0, 101), "ESTABLISHED", ("gone", None, False)),
    ],
    "reset after the handshake": [*OPEN, (tcp("<", "R", 501), "ESTABLISHED", ("CLOSE", 10, True))],
    "reset in the window, not exact: stays open": [
        *OPEN,
        (tcp("<", "R", 600), "ESTABLISHED", ("ESTABLISHED", 10, True)),
    ],
    "picked up in mid-stream": [
        (tcp(">", "A", 900, 700), "NEW", ("ESTABLISHED", 300, False)),
        (tcp("<", "A", 700, 900), "ESTABLISHED", ("ESTABLISHED", 300, False)),
        (tcp(">", "A", 900, 700), "ESTABLISHED", ("ESTABLISHED", 432000, True)),
    ],
    "SYN-ACK first": [(tcp("<", "SA", 500, 101), "INVALID", ("gone", None, False))],
    "FIN first": [(tcp(">", "FA", 500, 101), "INVALID", ("gone", None, False))],
    "reset first": [(tcp(">", "R", 500), "INVALID", ("gone", None, False))],
    "SYN and FIN together": [(tcp(">", "SF", 100), "INVALID", ("gone", None, False))],
    "no flags": [*OPEN, (tcp(">", "", 101, 501), "INVALID", ("ESTABLISHED", 432000, True))],
    "beyond the window": [*OPEN, (tcp(">", "A", 101 + 200_000, 501, 10), "INVALID", ("ESTABLISHED", 432000, True))],
    "acknowledges what was never sent": [*OPEN, (tcp(">", "A", 101, 90_000), "INVALID", ("ESTABLISHED", 432000, True))],
    "SYN-ACK by the opener": [*OPEN, (tcp(">", "SA", 101, 501), "INVALID", ("ESTABLISHED", 432000, True))],
    "a second SYN passes and changes nothing": [
        *OPEN,
        (tcp(">", "S", 5000), "ESTABLISHED", ("ESTABLISHED", 432000, True)),
    ],
}


@pytest.mark.parametrize("name", FLOWS)
def test_flow(router: Router, name: str) -> None:
    walk(router, FLOWS[name])


def test_a_repeated_syn_does_not_prolong_its_connection(router: Router) -> None:
    router.pass_(tcp(">", "S", 100))
    router.pass_(tcp(">", "S", 100), after=50)
    assert router.state() == ("SYN_SENT", 70, False)
    router.host.advance(router.time + 71 * 10**9)
    assert router.state()[0] == "gone"


def test_ports_used_again_in_time_wait_begin_anew(router: Router) -> None:
    walk(router, FLOWS["handshake, data, orderly close"])
    walk(router, [(tcp(">", "S", 90_000), "NEW", ("SYN_SENT", 120, False))])


def test_strict_hosts_pick_nothing_up() -> None:
    walk(build(tcp_loose="0"), [(tcp(">", "A", 900, 700), "INVALID", ("gone", None, False))])


def test_liberal_hosts_let_any_window_pass() -> None:
    steps = [*OPEN, (tcp(">", "A", 101 + 200_000, 501), "ESTABLISHED", ("ESTABLISHED", 432000, True))]
    walk(build(tcp_be_liberal="1"), steps)


def test_timeouts_come_from_the_sysctls() -> None:
    walk(build(tcp_timeout_syn_sent="7"), [(tcp(">", "S", 100), "NEW", ("SYN_SENT", 7, False))])


def test_a_wrong_checksum_is_invalid_and_passes_as_it_came(router: Router) -> None:
    packet = tcp(">", "S", 100, chksum=0x1234)
    out = router.one(packet)
    assert out["TCP"].chksum == 0x1234
    assert router.seen_as() == {"INVALID": 1}
    assert router.state()[0] == "gone"


def test_checksums_are_not_looked_at_where_the_host_is_told_so() -> None:
    router = build(checksum="0")
    router.pass_(tcp(">", "S", 100, chksum=0x1234))
    assert router.seen_as() == {"NEW": 1}
