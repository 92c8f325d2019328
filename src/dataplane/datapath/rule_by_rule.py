"""Compiled rules without their index: looked at one by one as the kernel does it. What becomes of packets is the same."""

from __future__ import annotations

from dataplane._fast.rules import CompiledRules, RuleProgram

_ARRAYS = ("ops", "rules", "runs", "keys", "targets", "chains", "tables", "pool", "state")


def rule_by_rule(rules: CompiledRules) -> CompiledRules:
    """The same rules, sets and memories; counters begin at zero."""
    program = rules.program
    arrays = {name: getattr(program, name) for name in _ARRAYS}
    plain = arrays["rules"].copy()
    plain["run"] = -1
    arrays["rules"] = plain
    # Arrays are never empty here; what stands in an empty one refers to nothing.
    arrays["rules"] = arrays["rules"][: program.rule_count]
    arrays["chains"] = arrays["chains"][: program.chain_count]
    arrays["state"] = arrays["state"][: program.state_count]
    return CompiledRules(
        RuleProgram(
            **arrays,
            recents=program.recents,
            hashlimits=program.hashlimits,
            conncounts=program.conncounts,
            set_names=program.set_names,
            depth=program.depth,
            chain_names=program.chain_names,
        ),
        rules.sets,
    )
