"""-j REJECT: drop, and say so to the sender (net/ipv4/netfilter/ipt_REJECT.c, net/ipv6/netfilter/ip6t_REJECT.c)."""

from __future__ import annotations

from dataplane._fast.ruleset import REJECT_TCP_RESET, TargetKind
from dataplane.host.xtables.declare import TCP, Given, Kind, Option, Refused, Scope, Target
from dataplane.host.xtables.predicate import Action

# Canonical name: its other name, ICMP type, ICMP code.
TYPES4 = {
    "icmp-net-unreachable": ("net-unreach", 3, 0),
    "icmp-host-unreachable": ("host-unreach", 3, 1),
    "icmp-proto-unreachable": ("proto-unreach", 3, 2),
    "icmp-port-unreachable": ("port-unreach", 3, 3),
    "icmp-net-prohibited": ("net-prohib", 3, 9),
    "icmp-host-prohibited": ("host-prohib", 3, 10),
    "tcp-reset": ("tcp-rst", 0, 0),
    "icmp-admin-prohibited": ("admin-prohib", 3, 13),
}
TYPES6 = {
    "icmp6-no-route": ("no-route", 1, 0),
    "icmp6-adm-prohibited": ("adm-prohibited", 1, 1),
    "icmp6-addr-unreachable": ("addr-unreach", 1, 3),
    "icmp6-port-unreachable": ("port-unreach", 1, 4),
    "tcp-reset": ("tcp-reset", 0, 0),
    "icmp6-policy-fail": ("policy-fail", 1, 5),
    "icmp6-reject-route": ("reject-route", 1, 6),
}
DEFAULT = {4: "icmp-port-unreachable", 6: "icmp6-port-unreachable"}


def _type(text: str, scope: Scope) -> str:
    wanted = text.lower()
    for name, (other, _, _) in (TYPES4 if scope.family == 4 else TYPES6).items():
        # The tool takes the first name that begins so.
        if wanted and (name.startswith(wanted) or other.startswith(wanted)):
            return name
    raise ValueError(f"unknown reject type {text!r}")


class Reject(Target):
    name = "REJECT"
    tables = frozenset({"filter"})
    hooks = frozenset({"INPUT", "FORWARD", "OUTPUT"})
    options = (Option("reject-with", Kind(_type, str)),)

    @classmethod
    def settle(cls, given: dict[str, Given], scope: Scope) -> dict[str, Given]:
        given.setdefault("reject-with", Given(DEFAULT[scope.family]))
        if given["reject-with"].value == "tcp-reset" and scope.protocol != TCP:
            raise Refused("--reject-with", "tcp-reset needs -p tcp")
        return given

    def action(self) -> Action:
        """value: ICMP type << 8 | code. flags: REJECT_TCP_RESET for a reset instead."""
        name = self.value("reject-with")
        _, kind, code = (TYPES4 if self.scope.family == 4 else TYPES6)[name]
        flags = REJECT_TCP_RESET if name == "tcp-reset" else 0
        return Action(TargetKind.TARGET_REJECT, flags=flags, value=kind << 8 | code, family=self.scope.family)


TARGET = Reject
