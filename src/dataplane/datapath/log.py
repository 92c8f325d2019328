"""What a host's rules wrote down: LOG, NFLOG, and the trace of packets that TRACE marked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from dataplane._fast.host import CompiledHost
from dataplane._fast.packet import Hook
from dataplane._fast.rule_event import RuleEventKind
from dataplane._fast.ruleset import TargetKind
from dataplane.host.iptables import Rule
from dataplane.host.log_line import ALL, LineOptions, line
from dataplane.host.xtables.targets.log import WARNING, Log
from dataplane.host.xtables.targets.nflog import Nflog

ROWS = 1 << 18  # of a host until they are taken; what comes later is counted as lost
_UNCONDITIONAL = ("-j ACCEPT", "-j DROP", "-j RETURN")


@dataclass(frozen=True, slots=True)
class Logged:
    """One packet that a rule wrote down, as it was then."""

    kind: str
    """LOG, NFLOG or TRACE"""
    time_ns: int
    family: int
    table: str
    chain: str
    rule: int
    """its number in the chain, from 1; one more than there are rules for the chain's end or policy"""
    prefix: str
    """as the kernel puts it before the line: `TRACE: filter:FORWARD:rule:2 `"""
    level: int
    """of LOG: 0 emerg to 7 debug"""
    group: int
    """of NFLOG: the netlink group"""
    interface_in: str
    interface_out: str
    port_in: str
    """the bridge's port; "" where the packet is not bridged"""
    port_out: str
    mark: int
    link_header: bytes = field(repr=False)
    packet: bytes = field(repr=False)
    """from its network header on; b"" where the log had no room for it"""
    options: LineOptions = field(default=ALL, repr=False)

    def line(self) -> str:
        """What the kernel's log shows of it."""
        return line(
            self.packet,
            prefix=self.prefix,
            interface_in=self.interface_in,
            interface_out=self.interface_out,
            port_in=self.port_in,
            port_out=self.port_out,
            mark=self.mark,
            link_header=self.link_header,
            options=self.options,
        )


class ChainRules(NamedTuple):
    """A chain as a log needs it."""

    table: str
    name: str
    first_rule: int
    rules: tuple[Rule, ...]
    built_in: bool


class HostLog:
    """The log of one host. `collect` turns what the walk wrote into rows while rules still stand where they stood.

    chain: (family, index) of a compiled chain to the chain.
    """

    def __init__(self, host: CompiledHost, chain: Callable[[int, int], ChainRules]) -> None:
        self._host = host
        self._chain = chain
        self._rows: list[Logged] = []
        self.lost = 0
        """events that came while the log was full"""

    def collect(self) -> None:
        events, kept, lost = self._host.logged()
        self.lost += lost
        chains: dict[tuple[int, int], ChainRules] = {}
        names = ("", *self._host.interface_names)
        returned = False
        for event in events:
            if len(self._rows) >= ROWS:
                self.lost += 1
                continue
            kind = RuleEventKind(int(event["kind"]))
            if kind is RuleEventKind.EVENT_RETURN and returned:
                continue  # the rule that returned has told it
            returned = kind is RuleEventKind.EVENT_RULE and event["verdict"] == TargetKind.TARGET_RETURN
            if kind is RuleEventKind.EVENT_HOTDROP:
                continue  # the kernel's trace is silent about it
            key = int(event["family"]), int(event["chain"])
            if key not in chains:
                chains[key] = self._chain(*key)
            chain = chains[key]
            number = int(event["rule"]) - chain.first_rule if event["rule"] >= 0 else len(chain.rules)
            words = _words(kind, key[0], chain, number)
            first, size, link = int(event["first"]), int(event["size"]), int(event["link_header"])
            hook = Hook(int(event["hook"]))
            incoming, outgoing = _sides(hook, bridged=event["physout"] >= 0)
            self._rows.append(
                Logged(
                    words.kind,
                    int(event["time"]),
                    key[0],
                    chain.table,
                    chain.name,
                    number + 1,
                    words.prefix,
                    words.level,
                    words.group,
                    names[int(event["iif"]) + 1] if incoming else "",
                    names[int(event["oif"]) + 1] if outgoing else "",
                    names[int(event["physin"]) + 1] if incoming else "",
                    names[int(event["physout"]) + 1] if outgoing else "",
                    int(event["mark"]),
                    kept[first : first + link] if incoming else b"",
                    kept[first + link : first + min(size, link + words.copied)],
                    words.options,
                )
            )

    def take(self) -> tuple[Logged, ...]:
        """All rows since the last call, in order."""
        self.collect()
        rows, self._rows = self._rows, []
        return tuple(rows)


def _sides(hook: Hook, bridged: bool) -> tuple[bool, bool]:
    """Whether the kernel tells a hook the interface that a packet came by, and the one that it leaves by."""
    if hook is Hook.HOOK_POSTROUTING:
        return not bridged, True
    return hook is not Hook.HOOK_OUTPUT, hook not in (Hook.HOOK_PREROUTING, Hook.HOOK_INPUT)


class _Words(NamedTuple):
    """What of a row its rule says."""

    kind: str
    prefix: str
    level: int = WARNING
    group: int = 0
    options: LineOptions = ALL
    copied: int = 0xFFFF  # bytes of the packet


def _words(kind: RuleEventKind, family: int, chain: ChainRules, number: int) -> _Words:
    if kind in (RuleEventKind.EVENT_LOG, RuleEventKind.EVENT_NFLOG):
        target = chain.rules[number].specification(family).target
        if isinstance(target, Log):
            return _Words("LOG", target.value("log-prefix", ""), target.level(), options=target.line_options())
        assert isinstance(target, Nflog)
        # --nflog-range never had an effect; --nflog-size has.
        return _Words(
            "NFLOG",
            target.value("nflog-prefix", ""),
            group=target.value("nflog-group", 0),
            copied=target.value("nflog-size", 0xFFFF),
        )
    # An unconditional verdict looks to the kernel as the end of the chain does (net/ipv4/netfilter/ip_tables.c,
    # get_chainname_rulenum).
    ends = number == len(chain.rules) or chain.rules[number].text in _UNCONDITIONAL
    word = ("policy" if chain.built_in else "return") if ends else "rule"
    return _Words("TRACE", f"TRACE: {chain.table}:{chain.name}:{word}:{number + 1} ")
