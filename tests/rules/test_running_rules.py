"""Rules that change while a host runs do what the same rules do that were there from the start."""

import copy
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rules_grammar import INTERFACES, Probe, local_rows, probe, ruleset
from test_rules_twin import as_options

from dataplane._fast.rules import CompiledRules, Evaluation, RuleBench
from dataplane.datapath.compile_rules import HOOKS, TABLES, compile_rules
from dataplane.datapath.running_rules import RunningRules
from dataplane.errors import DumpError
from dataplane.host.iptables import Chain, Rule, Ruleset, Table
from dataplane.host.iptables_backend import Backend
from dataplane.host.restore import Restore

SLOTS = {name: slot for slot, name in enumerate(INTERFACES)}
SETTINGS = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def evaluated(bench: RuleBench, one: Probe, family: int) -> tuple[object, ...]:
    place = dict(one.place)
    slots = {key: SLOTS.get(str(place.pop(key)), -1) for key in ("iif", "oif", "physin", "physout")}
    options = {**place, **slots}
    if one.connection is not None:
        options["connection"] = as_options(copy.deepcopy(one.connection), family)
    found: Evaluation = bench.evaluate(TABLES[one.table], HOOKS[one.hook], one.data, **options)  # type: ignore[arg-type]
    return found.verdict, found.mark, found.packet, found.ctinfo, found.ct_mark


def begun(text: str, family: int = 4, backend: Backend = "nft") -> tuple[CompiledRules, RunningRules]:
    understood = replace(Ruleset.parse(text, family), backend=backend)
    compiled = compile_rules(understood, SLOTS)
    return compiled, RunningRules(compiled, understood, SLOTS)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("table", "hook"), [("mangle", "FORWARD"), ("nat", "POSTROUTING"), ("filter", "INPUT")])
def test_changed_rules_are_as_good_as_new(family: int, table: str, hook: str) -> None:
    matched = 0

    @SETTINGS
    @given(
        st.lists(ruleset(family, table, (hook,)), min_size=2, max_size=4),
        st.lists(probe(family, table, hook), min_size=3, max_size=8),
        st.randoms(),
        st.sampled_from(["legacy", "nft"]),
    )
    def agree(texts: list[str], probes: list[Probe], random: Random, backend: Backend) -> None:
        nonlocal matched
        drawn = [random.getrandbits(32) for _ in range(200)]
        first, *others = (Ruleset.parse(text, family).tables[0] for text in texts)
        compiled, running = begun(texts[0], family, backend)
        chains = {chain.name: chain for chain in first.chains}
        for other in others:
            written = {c.name: c for c in other.chains if random.random() < 0.7}
            running.restore(Restore(family, {table: {n: [r.text for r in c.rules] for n, c in written.items()}}))
            for name, chain in written.items():
                chains[name] = Chain(name, tuple(Rule(rule.text) for rule in chain.rules), chains[name].policy)
        names = [chain.name for chain in first.chains]
        user = sorted(name for name in names if not chains[name].policy)
        expected = Ruleset(
            family,
            (Table(table, tuple(chains[n] for n in [n for n in names if chains[n].policy] + user)),),
            backend=backend,
        )
        assert running.ruleset() == expected
        fresh = compile_rules(expected, SLOTS)
        ours, theirs = (
            RuleBench(compiled, local_rows(family), drawn=drawn),
            RuleBench(fresh, local_rows(family), drawn=drawn),
        )
        for one in probes:
            assert evaluated(ours, one, family) == evaluated(theirs, one, family)
        told = running.ruleset().text(counters=True)
        assert told == expected.counted(fresh.counters, fresh.policies).text(counters=True)
        matched += int(fresh.counters[:, 0].sum())

    agree()
    assert matched > 20, "the rules and the packets hardly meet"


SAMPLE = """*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:A - [0:0]
:B - [0:0]
[3:300] -A INPUT -j A
[2:200] -A A -s 10.0.0.1/32 -j B
[1:100] -A B -j DROP
COMMIT
"""


def test_counters_of_other_chains_go_on() -> None:
    """The counters that a dump states too."""
    _, running = begun(SAMPLE)
    running.restore(Restore(4, {"filter": {"B": ["-s 10.0.0.1/32 -j DROP", "-j RETURN"]}}))
    lines = running.ruleset().text(counters=True).splitlines()
    assert "[3:300] -A INPUT -j A" in lines
    assert "[2:200] -A A -s 10.0.0.1/32 -j B" in lines
    assert "[0:0] -A B -s 10.0.0.1/32 -j DROP" in lines


def test_what_the_kernel_refuses_changes_nothing() -> None:
    """A jump to nowhere, a chain that is still used, a circle, a rule that nobody understands."""
    refused = [
        Restore(4, {"filter": {"B": ["-j C"]}}),
        Restore(4, {}, {"filter": ["B"]}),
        Restore(4, {"filter": {"C": []}}, {"filter": ["A"]}),
        Restore(4, {"filter": {"B": ["-j A"]}}),
        Restore(4, {"filter": {"B": ["-g C"], "C": ["-g B"]}}),
        Restore(4, {"filter": {"B": ["-m unheard-of -j DROP"]}}),
        Restore(4, {"nat": {"C": []}}),
        Restore(4, {}, {"filter": ["Z"]}),
        Restore(4, {}, {"filter": ["INPUT"]}),
    ]
    for addition in refused:
        _, running = begun(SAMPLE)
        before = running.ruleset().text()
        with pytest.raises(DumpError):
            running.restore(addition)
        assert running.ruleset().text() == before, addition
        # What is left is whole: the next addition goes through.
        running.restore(Restore(4, {"filter": {"A": ["-j ACCEPT"]}}, {"filter": ["B"]}))
        assert "-A A -j ACCEPT" in running.ruleset().text()


def test_deep_jumps_have_room() -> None:
    """Chains below chains that were not there when the host was compiled; nftables has room for 16 alone."""
    compiled, running = begun(SAMPLE, backend="legacy")
    deep = {f"C{n}": [f"-j C{n + 1}"] for n in range(60)}
    addition = Restore(4, {"filter": {**deep, "C60": ["-j DROP"], "B": ["-j C0"]}})
    running.restore(addition)
    _, shallow = begun(SAMPLE)
    with pytest.raises(DumpError, match="16 chains deep"):
        shallow.restore(addition)
    bench = RuleBench(compiled, local_rows(4))
    packet = bytes.fromhex("4500001c000000004011000a0a0000010a00000200350035000800 00".replace(" ", "")) + bytes(8)
    verdict = bench.evaluate(TABLES["filter"], HOOKS["INPUT"], packet).verdict
    assert verdict.name == "RULE_DROP"
    assert "[1:" in next(line for line in running.ruleset().text(counters=True).splitlines() if "-A C60" in line)


def test_memory_does_not_grow_with_every_change() -> None:
    """A chain of many rules that is rewritten again and again takes the place that it had."""
    compiled, running = begun(SAMPLE)
    rules = [f"-d 10.{n // 256}.{n % 256}.1/32 -j DROP" for n in range(500)]
    sizes = []
    for number in range(40):
        rules[number] = f"-d 192.168.0.{number}/32 -j DROP"
        running.restore(Restore(4, {"filter": {"B": list(rules)}}))
        sizes.append(compiled.counters.shape[0])
    assert sizes[-1] == sizes[5]
    assert running.chain("filter", "B") == rules


def test_a_wildcard_sees_interfaces_that_come() -> None:
    """-i veth+ takes an interface that was not there when the rule was compiled; its counter goes on."""
    text = SAMPLE.replace("-A B -j DROP", "-A B -i veth+ -j DROP").replace("-s 10.0.0.1/32 ", "")
    compiled, running = begun(text)
    slots = {**SLOTS, "veth9": 6}
    running.interfaces_changed(slots, ["veth9"])
    bench = RuleBench(compiled, local_rows(4))
    packet = bytes.fromhex("4500001c000000004011000a0a0000010a000002003500350008 0000".replace(" ", "")) + bytes(8)
    assert bench.evaluate(TABLES["filter"], HOOKS["INPUT"], packet, iif=6).verdict.name == "RULE_DROP"
    assert bench.evaluate(TABLES["filter"], HOOKS["INPUT"], packet, iif=1).verdict.name == "RULE_ACCEPT"
    assert next(line for line in running.ruleset().text(counters=True).splitlines() if "-A B" in line).startswith("[2:")
    assert np.asarray(compiled.counters).dtype == np.uint64
