"""What the kernel would refuse of rules that are understood one by one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dataplane.errors import DumpError
from dataplane.host.iptables import BUILT_IN, Rule, Ruleset, Table
from dataplane.host.iptables_backend import DEEPEST
from dataplane.host.iptables_rule import Specification
from dataplane.host.xtables.declare import Refused

TOO_DEEP = f"jumps go more than {DEEPEST} chains deep, which nftables refuses"


def check(ruleset: Ruleset) -> None:
    """Refuse what the kernel would: jumps to nowhere, loops, extensions where they have no place. Raises DumpError."""
    for table in ruleset.tables:
        _check_table(ruleset, table)


def _refused(ruleset: Ruleset, rule: Rule, field: str, message: str) -> DumpError:
    return DumpError(ruleset.file, f"line {rule.line}" if rule.line else "", field, message)


def _understood(ruleset: Ruleset, rule: Rule) -> Specification:
    try:
        return rule.specification(ruleset.family)
    except Refused as refused:
        raise _refused(ruleset, rule, refused.field, refused.message) from None


def _check_table(ruleset: Ruleset, table: Table) -> None:
    built_in = BUILT_IN[table.name]
    names = {chain.name for chain in table.chains}
    jumps: dict[str, list[tuple[str, Rule]]] = {chain.name: [] for chain in table.chains}
    for chain in table.chains:
        for rule in chain.rules:
            goes_to = _understood(ruleset, rule).chain
            if not goes_to:
                continue
            if goes_to not in names:
                raise _refused(ruleset, rule, f"-j {goes_to}", "neither a chain of the table nor a known target")
            if goes_to in built_in:
                raise _refused(ruleset, rule, f"-j {goes_to}", "a built-in chain cannot be jumped to")
            jumps[chain.name].append((goes_to, rule))
    reached = _reach(ruleset, table, jumps)
    if ruleset.backend == "nft":
        _check_as_nft(ruleset, table, jumps)
    for chain in table.chains:
        hooks = reached[chain.name]
        for rule in chain.rules:
            spec = _understood(ruleset, rule)
            if spec.jump == "DROP" and table.name == "nat":
                raise _refused(ruleset, rule, "-j DROP", "the nat table is not intended for filtering")
            for extension in (*spec.matches, *(() if spec.target is None else (spec.target,))):
                if extension.allowed_tables() and table.name not in extension.allowed_tables():
                    raise _refused(ruleset, rule, extension.label, f"has no place in table {table.name}")
                allowed = extension.allowed_hooks()
                if allowed and not hooks <= allowed:
                    where = ", ".join(sorted(hooks - allowed))
                    message = f"has no place in {where}, from where the rule is reached"
                    raise _refused(ruleset, rule, extension.label, message)


def _reach(ruleset: Ruleset, table: Table, jumps: Mapping[str, Iterable[tuple[str, Rule]]]) -> dict[str, set[str]]:
    """The built-in chains from which each chain is reached. Raises DumpError for a loop, as the kernel refuses it."""
    order: list[str] = []
    state: dict[str, int] = {}  # 1 while its jumps are followed, 2 afterwards
    for start in jumps:
        if start in state:
            continue
        state[start] = 1
        path = [(start, iter(jumps[start]))]
        while path:
            name, rest = path[-1]
            step = next(rest, None)
            if step is None:
                state[name] = 2
                order.append(name)
                path.pop()
                continue
            goes_to, rule = step
            if state.get(goes_to) == 1:
                raise _refused(ruleset, rule, f"-j {goes_to}", "the jump closes a loop")
            if goes_to not in state:
                state[goes_to] = 1
                path.append((goes_to, iter(jumps[goes_to])))
    reached = {name: ({name} if name in BUILT_IN[table.name] else set()) for name in jumps}
    for name in reversed(order):
        for goes_to, _ in jumps[name]:
            reached[goes_to] |= reached[name]
    return reached


def _check_as_nft(ruleset: Ruleset, table: Table, jumps: Mapping[str, Iterable[tuple[str, Rule]]]) -> None:
    """Refuse what the legacy tables take. There are no loops."""
    level = {chain.name for chain in table.chains if chain.name in BUILT_IN[table.name]}
    for _ in range(DEEPEST):
        level = {goes_to for name in level for goes_to, _ in jumps[name]}
    if level:
        raise DumpError(ruleset.file, "", f"*{table.name}", TOO_DEEP)
    for chain in table.chains:
        for rule in chain.rules:
            selector = _understood(ruleset, rule).selector
            for option, network in (("! -s", selector.source), ("! -d", selector.destination)):
                if network is not None and not network.mask:
                    raise _refused(ruleset, rule, option, "nftables refuses a rule that no address matches")
