"""The kinds of external load balancers, and in what they differ.

Sources: the cloud providers' service controllers of Kubernetes and MetalLB's speaker, as they set their balancers up;
the clouds' own manuals for what becomes of connections to a node that has become unhealthy, and what is done when no
node is healthy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from dataplane.cluster.objects import ServiceState
from dataplane.errors import ModelError

SECOND = 1_000_000_000


class Delivery(Enum):
    """How a packet to the balancer's address comes to a node, and whose address it comes from."""

    ONE_NODE = "to one node as it is; the answer goes straight to the client"
    DIRECT = "to a node per connection as it is; the answer goes straight to the client"
    NODE_PORT = "to a node's NodePort per connection, from the client's address; the answer comes back through it"
    PROXY = "to a node's NodePort per connection, from the balancer's address; the answer comes back through it"

    @property
    def keeps_client(self) -> bool:
        return self is not Delivery.PROXY

    @property
    def keeps_destination(self) -> bool:
        return self in (Delivery.ONE_NODE, Delivery.DIRECT)


@dataclass(frozen=True, slots=True)
class Check:
    """What a balancer asks a node. interval: ns between questions.

    what: "healthCheckNodePort", "healthz" (port 10256), "nodePort" (a TCP connection), or "" where the nodes are known
    without asking. fall, rise: after how many equal answers in a row the opinion changes.
    """

    what: str
    interval: int = 0
    fall: int = 1
    rise: int = 1


KNOWN = Check("")


@dataclass(frozen=True, slots=True)
class Kind:
    """cluster, local: the check for each external traffic policy.

    assigns: it gives a Service an address in its status (`ip`), a name (`hostname`), or nothing ("").
    protocols: that it can balance. stays: protocols whose connections stay with a node that has become unhealthy; those
    of others go to another node with their next packet, or, where that cannot begin a connection, end. fails_open: when
    no node is healthy all of them get traffic. filters: it keeps loadBalancerSourceRanges itself.
    """

    name: str
    title: str
    delivery: Delivery
    cluster: Check = KNOWN
    local: Check = KNOWN
    assigns: str = ""
    protocols: frozenset[str] = frozenset({"TCP", "UDP", "SCTP"})
    stays: frozenset[str] = frozenset()
    fails_open: bool = False
    filters: bool = False

    def check(self, service: ServiceState) -> Check:
        return self.local if service.external_traffic_policy == "Local" else self.cluster


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("none", "a plain balancer", Delivery.ONE_NODE),
        Kind(
            "aws-nlb",
            "AWS Network Load Balancer",
            Delivery.NODE_PORT,
            cluster=Check("nodePort", 30 * SECOND, 3, 3),
            local=Check("healthCheckNodePort", 10 * SECOND, 2, 2),
            assigns="hostname",
            protocols=frozenset({"TCP", "UDP"}),
            fails_open=True,
            filters=True,
        ),
        Kind(
            "aws-classic",
            "AWS Classic Load Balancer",
            Delivery.PROXY,
            cluster=Check("nodePort", 10 * SECOND, 6, 2),
            local=Check("healthCheckNodePort", 10 * SECOND, 6, 2),
            assigns="hostname",
            protocols=frozenset({"TCP"}),
            filters=True,
        ),
        Kind(
            "gcp",
            "GCP passthrough Network Load Balancer",
            Delivery.DIRECT,
            cluster=Check("healthz", 8 * SECOND, 3, 1),
            local=Check("healthCheckNodePort", 8 * SECOND, 3, 1),
            assigns="ip",
            protocols=frozenset({"TCP", "UDP"}),
            stays=frozenset({"TCP"}),
            fails_open=True,
            filters=True,
        ),
        Kind(
            "azure",
            "Azure Standard Load Balancer",
            Delivery.DIRECT,
            cluster=Check("nodePort", 5 * SECOND, 2, 1),
            local=Check("healthCheckNodePort", 5 * SECOND, 2, 1),
            assigns="ip",
            protocols=frozenset({"TCP", "UDP"}),
            stays=frozenset({"TCP"}),
            filters=True,
        ),
        Kind("metallb-l2", "MetalLB in layer 2 mode", Delivery.ONE_NODE, assigns="ip"),
    )
}

FLOATING_IP = "service.beta.kubernetes.io/azure-disable-load-balancer-floating-ip"
TARGET_GROUP = "service.beta.kubernetes.io/aws-load-balancer-target-group-attributes"


def kind_of(name: str) -> Kind:
    """ModelError for a kind that is not modelled."""
    if name not in KINDS:
        raise ModelError(f"--cloud {name!r} is not modelled; {', '.join(KINDS)} are")
    return KINDS[name]


def delivery(kind: Kind, service: ServiceState, mode: str) -> Delivery:
    """How this Service is delivered at an address of ipMode `mode`; annotations may change what the kind does."""
    if kind.name == "azure" and service.annotations.get(FLOATING_IP, "").lower() == "true":
        return Delivery.NODE_PORT
    if kind.name == "aws-nlb" and "preserve_client_ip.enabled=false" in service.annotations.get(TARGET_GROUP, ""):
        return Delivery.PROXY
    if kind.delivery.keeps_destination and mode == "Proxy":
        return Delivery.PROXY  # kube-proxy has no rule for the address: only a NodePort can be sent to
    return kind.delivery


def honoured(kind: Kind, field: str) -> bool:
    """Whether a field of a Service that has no effect without a balancer has one with this kind."""
    return (
        (field == "spec.loadBalancerIP" and kind.assigns == "ip")
        or (field == f"metadata.annotations[{FLOATING_IP}]" and kind.name == "azure")
        or (field.endswith("].hostname") and kind.assigns == "hostname")
    )
