"""How many rules a packet is held against: the model's count, the kernel's, and what can be counted by hand."""

import os
import re

import numpy as np
import pytest

from dataplane.bench import traffic
from dataplane.bench.emulated import Emulated
from dataplane.bench.engines import kernels
from dataplane.bench.kernel import BACKENDS, KernelRouter
from dataplane.bench.modes import PACKETS, Plan, Subject, establish, packets, rules_walked
from dataplane.bench.router import CLIENT_SIDE, router
from dataplane.bench.services import cluster
from dataplane.datapath.compile import compile_host
from dataplane.errors import ModelError
from dataplane.host.config import HostConfig
from dataplane.host.iptables import Ruleset

WALKED = "looked at"
BY_HAND = """*filter
:FORWARD ACCEPT [0:0]
:A - [0:0]
:B - [0:0]
:C - [0:0]
-A FORWARD -p udp -j DROP
-A FORWARD -p tcp -j A
-A FORWARD -m mark --mark 0x7 -j ACCEPT
-A A -j B
-A A -g C
-A A -j DROP
-A B -p udp -j DROP
-A B -j RETURN
-A B -j DROP
-A C -j MARK --set-xmark 0x7/0xffffffff
-A C -p udp -j DROP
COMMIT
"""
# FORWARD 2, A 1, B 2 (RETURN), A 1 (goto), C 2 (its end goes back to FORWARD), FORWARD 1.
BY_HAND_WALKED = 9


def kernel_missing() -> str | None:
    try:
        kernels()
    except ModelError as error:
        return str(error)
    return None


needs_kernel = pytest.mark.skipif(kernel_missing() is not None, reason=f"no kernel to ask: {kernel_missing()}")


def subject(services: int, endpoints: int) -> Subject:
    return Subject.of("iptables", services, endpoints, cluster(services, endpoints), 1)


def by_hand(text: str = BY_HAND) -> HostConfig:
    return router(None).with_(iptables=Ruleset.parse(text, 4))


def with_counters(text: str) -> str:
    """The same rules with one before each that only counts: the kernel looks at a rule when it has counted that."""
    return re.sub(r"^(-A \S+) ", rf'\1 -m comment --comment "{WALKED}"\n\1 ', text, flags=re.MULTILINE)


def counted(saved: str) -> int:
    return sum(int(found) for found in re.findall(rf'^\[(\d+):\d+\] .*--comment "{WALKED}"$', saved, re.MULTILINE))


def syns(count: int, services: int) -> np.ndarray:
    return traffic.Clients().first_packets(np.arange(count) % services)


def test_jumps_returns_and_gotos_are_counted_as_by_hand() -> None:
    walked = Emulated(compile_host(by_hand())).walked(syns(3, 1), CLIENT_SIDE)
    assert walked.tolist() == [BY_HAND_WALKED] * 3


def test_the_index_over_rules_changes_no_count_and_no_packet() -> None:
    config = subject(40, 1).config
    frames = syns(80, 40)
    with_index, in_turn = Emulated(compile_host(config)), Emulated(compile_host(config), in_turn=True)
    assert with_index.walked(frames, CLIENT_SIDE).tolist() == in_turn.walked(frames, CLIENT_SIDE).tolist()
    one = syns(81, 40)[-1].tobytes()
    assert with_index.exchange(one, CLIENT_SIDE) == in_turn.exchange(one, CLIENT_SIDE) != []
    assert (with_index.in_turn, in_turn.in_turn) == (False, True)
    in_turn.in_turn = False
    assert in_turn.host.rules4 is not None
    assert not in_turn.in_turn
    assert len(np.unique(in_turn.host.rules4.program.rules["run"])) > 1


def test_a_first_packet_walks_one_rule_more_for_each_service_before_its_own() -> None:
    frames = syns(100, 100)
    walked = Emulated(compile_host(subject(100, 1).config)).walked(frames, CLIENT_SIDE)
    assert np.diff(np.sort(walked)).tolist() == [1] * 99


def test_established_packets_walk_the_same_rules_whatever_the_number_of_services() -> None:
    plan = Plan(packets=20, connections=5, repeats=1)
    small, large = (
        rules_walked(Emulated(compile_host(subject(count, 1).config)), count, plan, traffic.Clients())["established"]
        for count in (2, 60)
    )
    assert small == large > 0


@needs_kernel
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_kernel_walks_as_many_rules_by_hand(backend: str) -> None:
    frames = syns(3, 1)
    path = KernelRouter(by_hand(with_counters(BY_HAND)), backend)
    try:
        path.time(frames, CLIENT_SIDE)
        assert counted(path.save()) == 3 * BY_HAND_WALKED
    finally:
        path.close()


@needs_kernel
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_kernel_walks_as_many_rules_of_kube_proxy(backend: str) -> None:
    """Each kind of packet, with one endpoint a Service: with more, chance chooses how many rules are walked."""
    services, count = 25, 40
    config = subject(services, 1).config
    assert config.iptables is not None
    asked = config.with_(iptables=Ruleset.parse(with_counters(config.iptables.text()), 4))
    model, kernel = Emulated(compile_host(config)), KernelRouter(asked, backend)
    try:
        clients = traffic.Clients()
        opened = establish(model, clients, np.arange(5))
        establish(kernel, traffic.Clients(), np.arange(5))
        for kind in PACKETS:
            frames = packets(kind, clients, services, count, np.random.default_rng(1), opened)
            before = counted(kernel.save())
            kernel.time(frames, CLIENT_SIDE)
            assert counted(kernel.save()) - before == int(model.walked(frames, CLIENT_SIDE).sum()), kind
    finally:
        kernel.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_kernel_is_refused_by_name_where_a_tool_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ModelError, match="iptables-legacy-restore"):
        kernels()
