"""kubelet's own chains (version 1.30), which are there before any proxy or CNI plugin acts.

KUBE-IPTABLES-HINT tells other programs which iptables back end the node uses; KUBE-KUBELET-CANARY vanishes when
somebody flushes the rules. KUBE-FIREWALL keeps packets from outside away from 127.0.0.0/8.
"""

from dataplane.agents.firewall import Firewall
from dataplane.agents.kubeproxy import chains
from dataplane.agents.kubeproxy.iptables import LOCALNET

HINT = "KUBE-IPTABLES-HINT"
CANARY = "KUBE-KUBELET-CANARY"


def sync(firewall: Firewall) -> None:
    firewall.create("mangle", HINT)
    if firewall.family == 4:  # IPv6 never takes ::1 from outside
        firewall.create("filter", chains.FIREWALL)
        firewall.insert("filter", "OUTPUT", f"-j {chains.FIREWALL}")
        firewall.insert("filter", "INPUT", f"-j {chains.FIREWALL}")
        firewall.append("filter", chains.FIREWALL, LOCALNET)
    for table in ("mangle", "nat", "filter"):
        firewall.create(table, CANARY)
