"""The compiled engine does what its slow twin does: verdicts, packets, marks and every counter."""

import copy
import os
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rules_grammar import INTERFACES, Probe, local_rows, local_type, probe, ruleset, words
from rules_twin import Connection, Seen, Twin

from dataplane._fast.rules import CompiledRules, RuleBench, RuleVerdict
from dataplane._fast.ruleset import TargetKind
from dataplane.datapath.compile_rules import HOOKS, TABLES, compile_rules
from dataplane.host.iptables import Ruleset
from dataplane.host.iptables_backend import Backend

SLOTS = {name: slot for slot, name in enumerate(INTERFACES)}
NAMES = {RuleVerdict.RULE_ACCEPT: "ACCEPT", RuleVerdict.RULE_DROP: "DROP", RuleVerdict.RULE_TERMINAL: "TERMINAL"}
SETTINGS = settings(
    max_examples=int(os.environ.get("DATAPLANE_EXAMPLES", "50")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def spelt(address: int, family: int) -> tuple[int, ...]:
    if family == 4:
        return (address, 0, 0, 0)
    return tuple(address >> shift & 0xFFFFFFFF for shift in (96, 64, 32, 0))


def as_options(connection: Connection, family: int) -> dict[str, object]:
    return {
        "tuples": [
            (spelt(src, family), spelt(dst, family), sport, dport, protocol)
            for src, dst, sport, dport, protocol in connection.tuples
        ],
        "status": connection.status,
        "mark": connection.mark,
        "expires": connection.expires,
        "packets": connection.packets,
        "bytes": connection.bytes,
    }


def compare(rules: CompiledRules, ruleset: Ruleset, family: int, probes: list[Probe], drawn: list[int]) -> int:
    """Every packet through both; the number of rules that matched."""
    bench = RuleBench(rules, local_rows(family), drawn=drawn)
    twin = Twin(ruleset, local_type, iter(drawn))
    now = 0
    for one in probes:
        # Time does not run backwards.
        now += int(str(one.place["time"]))
        place = {**one.place, "time": now}
        connection = copy.deepcopy(one.connection)
        seen = Seen(one.data, **place, connection=connection)  # type: ignore[arg-type]
        verdict, target = twin.walk(one.table, one.hook, seen)
        slots = {key: SLOTS.get(str(place.pop(key)), -1) for key in ("iif", "oif", "physin", "physout")}
        options = {**place, **slots}
        if one.connection is not None:
            options["connection"] = as_options(one.connection, family)
        found = bench.evaluate(TABLES[one.table], HOOKS[one.hook], one.data, **options)  # type: ignore[arg-type]
        assert NAMES[found.verdict] == verdict, one
        if target is not None:
            assert TargetKind(rules.program.targets["kind"][found.target]).name == f"TARGET_{target.name}"
        assert found.mark == seen.mark
        assert found.ctinfo == seen.ctinfo
        assert found.packet == seen.data
        if connection is not None:
            assert found.ct_mark == connection.mark
    counted = [
        tuple(twin.rules.get((table.name, chain.name, number), (0, 0)))
        for table in ruleset.tables
        for chain in table.chains
        for number in range(len(chain.rules))
    ]
    assert [tuple(row) for row in rules.counters.tolist()] == counted
    policies = [
        tuple(twin.policies.get((table.name, chain.name), (0, 0))) for table in ruleset.tables for chain in table.chains
    ]
    assert [tuple(row) for row in rules.policies.tolist()] == policies
    return sum(packets for packets, _ in counted)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    ("table", "hook"),
    [("raw", "PREROUTING"), ("mangle", "OUTPUT"), ("mangle", "FORWARD"), ("nat", "POSTROUTING"), ("filter", "INPUT")],
)
def test_engine_and_twin_agree(family: int, table: str, hook: str) -> None:
    matched = 0

    @SETTINGS
    @given(
        ruleset(family, table, (hook,)),
        st.lists(probe(family, table, hook), min_size=3, max_size=12),
        st.randoms(),
        st.sampled_from(["legacy", "nft"]),
    )
    def agree(text: str, probes: list[Probe], random: Random, backend: Backend) -> None:
        nonlocal matched
        drawn = [random.getrandbits(32) for _ in range(200)]
        understood = replace(Ruleset.parse(text, family), backend=backend)
        matched += compare(compile_rules(understood, SLOTS), understood, family, probes, drawn)

    agree()
    assert matched > 40, "the rules and the packets hardly meet"


def test_words_are_in_host_order() -> None:
    assert words("10.0.0.1") == (0x0A000001, 0, 0, 0)
