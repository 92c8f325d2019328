"""kube-proxy in IPVS mode: what version 1.30 leaves in the kernel of a node.

Every Service address becomes a virtual service of the kernel's balancer, and an address of the node itself, so that
packets to it arrive where the balancer takes them. iptables rules, few and nearly the same everywhere, ask ipsets for
whatever differs from cluster to cluster. The path of a new connection:

    nat     PREROUTING, OUTPUT -> KUBE-SERVICES -> KUBE-LOAD-BALANCER -> KUBE-MARK-MASQ  (unless policy Local)
                                       `-> KUBE-NODE-PORT -> KUBE-MARK-MASQ              (unless policy Local)
    routing: the address is on kube-ipvs0, hence local
    filter  INPUT -> KUBE-IPVS-FILTER    (a port that no Service has: REJECT)
                  -> KUBE-PROXY-FIREWALL -> KUBE-SOURCE-RANGES-FIREWALL -> DROP
                  -> KUBE-NODE-PORT      (health checks)
    IPVS    behind INPUT: a server is chosen, the destination rewritten, and the packet sent as if by the node
    filter  OUTPUT -> KUBE-IPVS-OUT-FILTER
    nat     POSTROUTING -> KUBE-POSTROUTING (MASQUERADE what is marked, and who reaches itself)

services.py has the virtual services, sets.py the ipsets, rules.py the rules, device.py kube-ipvs0 and what is set once.
proxier.py puts them together for a node, node_proxy.py follows a cluster that changes.
"""
