"""kube-proxy that goes and comes: what `kube-proxy --cleanup` takes away, and what one that finds nothing writes."""

from __future__ import annotations

from collections.abc import Sequence

from dataplane.agents.firewall import BUILT_IN, Firewall
from dataplane.host.iptables import Ruleset
from dataplane.host.restore import Restore

from . import chains
from .iptables import JUMPS

OF_SERVICES = (chains.CLUSTER, chains.LOCAL, chains.SOURCE_RANGES, chains.EXTERNAL, chains.ENDPOINT)
# Chains that go. KUBE-MARK-MASQ and the canaries stay, and so does what kubelet shares: KUBE-FIREWALL and its jumps.
SHARED = {
    "nat": (chains.SERVICES, chains.NODE_PORTS, chains.POSTROUTING),
    "filter": (
        chains.SERVICES,
        chains.EXTERNAL_SERVICES,
        chains.FORWARD,
        chains.NODE_PORTS,
        chains.PROXY_FIREWALL,
    ),
}


def cleanup(ruleset: Ruleset) -> Restore:
    """What takes kube-proxy's rules away from those of a running node. The counters of rules of others that share a
    built-in chain with its jumps begin anew."""
    jumps = {(table, chain, f"{match} -j {target}".lstrip()) for table, chain, match, target in JUMPS}
    written: dict[str, dict[str, Sequence[str]]] = {}
    deleted: dict[str, list[str]] = {}
    for table in ruleset.tables:
        for chain in table.chains:
            if chain.name in SHARED.get(table.name, ()) or chain.name.startswith(OF_SERVICES):
                deleted.setdefault(table.name, []).append(chain.name)
            elif chain.name in BUILT_IN.get(table.name, ()):
                texts = [rule.text for rule in chain.rules]
                kept = [
                    text
                    for text in texts
                    if (table.name, chain.name, text) not in jumps or text.endswith(f"-j {chains.FIREWALL}")
                ]
                if kept != texts:
                    written.setdefault(table.name, {})[chain.name] = kept
    return Restore(ruleset.family, written, deleted)


def everything(firewall: Firewall, ruleset: Ruleset) -> Restore:
    """Every chain that differs from what a running node has, built-in ones too."""
    there = {
        (table.name, chain.name): [rule.text for rule in chain.rules]
        for table in ruleset.tables
        for chain in table.chains
    }
    written = {
        table: {name: rules.texts for name, rules in found.items() if list(rules.texts) != there.get((table, name))}
        for table, found in firewall.tables.items()
    }
    return Restore(firewall.family, {table: found for table, found in written.items() if found})
