"""Random rules in the real kernel: the tools print what we print, and the kernel counts what we count.

Only what a packet can meet at mangle PREROUTING and what does not depend on time, chance or connections is counted
here; everything else is held against the slow twin, and whole hosts against the kernel in tests/kernel.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
import rules_kernel
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rules_grammar import BASE_CHAINS, INTERFACES, Probe, local_rows, probe, ruleset, sets
from rules_kernel import DEVICES, Kernel

from dataplane._fast.rules import RuleBench
from dataplane.datapath.compile_rules import HOOKS, TABLES, compile_rules
from dataplane.datapath.compile_sets import Sets, compile_sets
from dataplane.host.ipset import parse as parse_sets
from dataplane.host.iptables import Ruleset
from dataplane.host.iptables_backend import Backend

SLOTS = {name: slot for slot, name in enumerate(INTERFACES)}
REASON = rules_kernel.why_not()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)
SETTINGS = settings(
    max_examples=int(os.environ.get("DATAPLANE_EXAMPLES", "25")),
    deadline=None,
    # Each step of shrinking would load rules into the kernel again, for minutes.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
COUNTERS = re.compile(r"\[\d+:\d+\]")
# What depends on more than the packets: time, chance, connections, and tables that outlive their rules.
UNSEEN = re.compile(r"-m (limit|hashlimit|conntrack|connmark|state)|--seconds|--mode random|CONNMARK|-j LOG")


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    """A namespace for each test: what one leaves in the tables would drop the packets of the next."""
    with Kernel() as running:
        yield running


def as_nft_has_it(rule: str) -> str:
    """iptables-nft keeps a negated range that begins at 0 as the range that is left."""

    def left(match: re.Match[str]) -> str:
        low, high = int(match[2]), int(match[3])
        if low == 0 and high < 65534:
            return f"{match[1]} {high + 1}:65535"
        return match[0]

    return re.sub(r"! (--[sd]port) (\d+):(\d+)", left, rule)


def comparable(text: str) -> dict[str, tuple[list[str], dict[str, list[str]]]]:
    """By table: the chains in order of name, and the rules of each chain in their order; time stamps left out."""
    tables: dict[str, tuple[list[str], dict[str, list[str]]]] = {}
    for line in text.splitlines():
        if line.startswith("*"):
            chains: list[str] = []
            rules: dict[str, list[str]] = {}
            tables[line] = (chains, rules)
        elif line.startswith(":"):
            chains.append(line)
            chains.sort()
        elif line.startswith(("[", "-A")):
            rules.setdefault(line.split("-A ")[1].split()[0], []).append(line)
    return tables


@pytest.mark.parametrize("back_end", ["legacy", "nft"])
@pytest.mark.parametrize("family", [4, 6])
def test_the_tools_print_what_we_print(kernel: Kernel, family: int, back_end: str) -> None:
    rules = 0

    @SETTINGS
    @given(st.sampled_from(sorted(BASE_CHAINS)).flatmap(lambda table: ruleset(family, table, BASE_CHAINS[table], 3)))
    def agree(text: str) -> None:
        nonlocal rules
        understood = Ruleset.parse(text, family)
        table = f"*{understood.tables[0].name}"
        printed = kernel.restore(back_end, family, text)
        # Back ends print tables that other examples have left.
        ours = understood.text(counters=True)
        if back_end == "nft":
            # ... but not where another option of the match keeps it from being taken apart.
            printed, ours = ("\n".join(map(as_nft_has_it, text.splitlines())) for text in (printed, ours))
        # What the namespace says by itself, as it joins IPv6 groups, moves the counters of OUTPUT.
        printed, ours = (COUNTERS.sub("[0:0]", text) for text in (printed, ours))
        assert comparable(printed)[table] == comparable(ours)[table]
        rules += sum(1 for _ in understood.rules())

    agree()
    assert rules > 100


def members(made: Sets) -> dict[str, set[tuple[object, ...]]]:
    """The members of every set with their counters, without the time that is left to them."""
    return {
        name: {(key, packets, size, nomatch) for key, _, packets, size, nomatch in made.compiled.members(index)}
        for name, index in made.index.items()
    }


def whole(data: bytes) -> bytes:
    """The packet with a right header checksum, which the kernel asks for before any rule."""
    if data[0] >> 4 == 6:
        return data
    size = (data[0] & 15) * 4
    head = bytearray(data[:size])
    head[10:12] = b"\0\0"
    total = sum(int.from_bytes(head[at : at + 2], "big") for at in range(0, size, 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    head[10:12] = (~total & 0xFFFF).to_bytes(2, "big")
    return bytes(head) + data[size:]


def reaches_the_rules(data: bytes) -> bool:
    """Not refused by ipv6_rcv: from or to loopback, or from a group."""
    if data[0] >> 4 == 4:
        return True
    source, destination = data[8:24], data[24:40]
    return source[0] != 0xFF and bytes(15) + b"\1" not in (source, destination)


@pytest.mark.parametrize("back_end", ["legacy", "nft"])
@pytest.mark.parametrize("family", [4, 6])
def test_the_kernel_counts_what_we_count(kernel: Kernel, family: int, back_end: Backend) -> None:
    matched = 0

    @SETTINGS
    @given(
        ruleset(family, "mangle", ("PREROUTING",), 6, host=True),
        st.lists(st.tuples(st.sampled_from(DEVICES), probe(family, "mangle", "PREROUTING")), min_size=4, max_size=16),
    )
    def agree(text: str, probes: list[tuple[str, Probe]]) -> None:
        nonlocal matched
        lines = [line for line in text.splitlines() if not UNSEEN.search(line)]
        # Without rules first: lists of `recent` and tables of `hashlimit` would go on.
        made = compile_sets(parse_sets(kernel.sets(sets(family))))
        kernel.restore(back_end, family, "\n".join(lines) + "\n")
        packets = [(device, whole(one.data)) for device, one in probes if reaches_the_rules(one.data)]
        counted = kernel.feed(back_end, family, packets)
        understood = replace(Ruleset.parse("\n".join(lines) + "\n", family), backend=back_end)
        rules = compile_rules(understood, SLOTS, made)
        bench = RuleBench(rules, local_rows(family))
        for device, data in packets:
            bench.evaluate(TABLES["mangle"], HOOKS["PREROUTING"], data, iif=SLOTS[device], time=1)
        ours = understood.counted(rules.counters, rules.policies).text(counters=True)
        if back_end == "nft":
            counted, ours = ("\n".join(map(as_nft_has_it, text.splitlines())) for text in (counted, ours))
        kept = {line for line in comparable(counted)["*mangle"][0] if "PREROUTING" in line}
        assert kept == {line for line in comparable(ours)["*mangle"][0] if "PREROUTING" in line}
        assert comparable(counted)["*mangle"][1] == comparable(ours)["*mangle"][1]
        assert members(compile_sets(parse_sets(kernel.saved_sets()))) == members(made)
        matched += int(rules.counters[:, 0].sum())

    agree()
    assert matched > 10, "the rules and the packets hardly meet"
