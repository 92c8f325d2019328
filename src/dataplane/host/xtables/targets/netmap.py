"""-j NETMAP: a network onto another, host part kept (net/netfilter/xt_NETMAP.c)."""

from __future__ import annotations

from dataplane._fast.ruleset import NatFlag, TargetKind
from dataplane.host.xtables.declare import Kind, Option, Scope, Target
from dataplane.host.xtables.predicate import Action
from dataplane.host.xtables.values import Network, full_mask, prefix_length, read_network, show_network


def _read(text: str, scope: Scope) -> Network:
    network = read_network(text, scope.family)
    if prefix_length(network.mask, network.family) is None:
        raise ValueError(f"{text}: a mask with holes maps no network")
    return network


class Netmap(Target):
    name = "NETMAP"
    tables = frozenset({"nat"})
    hooks = frozenset({"PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"})
    options = (Option("to", Kind(_read, show_network), required=True),)

    def action(self) -> Action:
        """first, last: the first and the last address of the network; its mask is where they agree."""
        network: Network = self.value("to")
        last = network.address | (full_mask(network.family) ^ network.mask)
        return Action(
            TargetKind.TARGET_NETMAP,
            flags=int(NatFlag.NAT_MAP_IPS | NatFlag.NAT_NETMAP),
            first=network.address,
            last=last,
            family=network.family,
        )


TARGET = Netmap
