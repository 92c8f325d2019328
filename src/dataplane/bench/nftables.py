"""Rules of the shape that kube-proxy writes in nftables mode, for a kernel: there is no agent for that mode here.

One map leads from an address, protocol and port to a Service's chain, that chain draws one of its endpoints' chains, and
that one translates (Kubernetes, pkg/proxy/nftables). Names are short and there are no comments: the kernel keeps neither
in the packet's way.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from dataplane.bench.figures import Figure
from dataplane.bench.kernel import FEWEST_CHANGES, LONGEST, KernelRouter
from dataplane.bench.modes import NO_RULES, Plan, Row, Subject, measure, timed
from dataplane.bench.services import PORT, TARGET_PORT, cluster_ip, endpoint_ip
from dataplane.bench.traffic import Clients
from dataplane.host.config import HostConfig

ENGINE = "kernel nftables"
PODS = "10.96.0.0/11"
BASE = """
table ip kube-proxy {
  map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
  chain mark-for-masquerade { meta mark set meta mark or 0x4000; }
  chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }
  chain nat-prerouting {
    type nat hook prerouting priority dstnat
    policy accept
    jump services
  }
  chain nat-output {
    type nat hook output priority -100
    policy accept
    jump services
  }
  chain nat-postrouting {
    type nat hook postrouting priority srcnat
    policy accept
    meta mark & 0x4000 == 0 return
    meta mark set meta mark xor 0x4000
    masquerade fully-random
  }
}
"""


def endpoint_chain(place: int) -> str:
    address = endpoint_ip(place)
    rules = f"ip saddr {address} jump mark-for-masquerade; meta l4proto tcp dnat to {address}:{TARGET_PORT};"
    return f"add chain ip kube-proxy e{place} {{ {rules} }}\n"


def service_rules(service: int, places: list[int]) -> Iterator[str]:
    """Those of a Service's chain."""
    chain = f"ip kube-proxy s{service}"
    yield f"add rule {chain} ip daddr {cluster_ip(service)} tcp dport {PORT} ip saddr != {PODS} jump mark-for-masquerade\n"
    ends = ", ".join(f"{at} : goto e{place}" for at, place in enumerate(places))
    yield f"add rule {chain} numgen random mod {len(places)} vmap {{ {ends} }}\n"


def ruleset(services: int, endpoints: int) -> str:
    """What `nft -f` reads."""
    lines = [BASE]
    for service in range(services):
        places = list(range(service * endpoints, (service + 1) * endpoints))
        lines += map(endpoint_chain, places)
        lines.append(f"add chain ip kube-proxy s{service}\n")
        lines += service_rules(service, places)
    elements = ",\n".join(f"{cluster_ip(number)} . tcp . {PORT} : goto s{number}" for number in range(services))
    lines.append(f"add element ip kube-proxy service-ips {{ {elements} }}\n")
    return "".join(lines)


def changes(services: int, endpoints: int, count: int) -> Iterator[str]:
    """Endpoints that go and come, one at a time, of Services all over the list: what kube-proxy feeds to nft."""
    for number in range(count):
        service = number // 2 * 2 * services // count
        places = list(range(service * endpoints, (service + 1) * endpoints))
        gone = places[0]
        text = f"flush chain ip kube-proxy s{service}\n"
        if number % 2 and endpoints > 1:
            yield endpoint_chain(gone) + text + "".join(service_rules(service, places))
        elif endpoints > 1:
            text += "".join(service_rules(service, places[1:]))
            yield f"{text}flush chain ip kube-proxy e{gone}\ndelete chain ip kube-proxy e{gone}\n"


class NftablesRouter(KernelRouter):
    """The router with such rules instead of iptables'."""

    def __init__(self, config: HostConfig, text: str) -> None:
        self._text = text
        super().__init__(config, "nft")

    def _load(self, config: HostConfig) -> float:
        if not self._text:
            return 0.0
        _, seconds = timed(lambda: self._namespace.run("nft", "-f", "-", text=self._text))
        for name, value in config.sysctl.items():
            if name.startswith("net.netfilter.nf_conntrack_tcp_timeout"):
                self._namespace.sysctl(name, value)
        return seconds

    def restore(self, text: str) -> None:
        self._namespace.run("nft", "-f", "-", text=text)


def nftables_row(subject: Subject, plan: Plan) -> Row:
    """The subject's Services under these rules; without any where the subject has none."""
    bare = subject.mode == NO_RULES
    text, seconds = timed(lambda: "" if bare else ruleset(subject.services, subject.endpoints))
    router = NftablesRouter(subject.config.with_(iptables=None, ipsets=()), text)
    applied: list[float] = []
    try:
        times = measure(router, subject.services, plan, Clients())
        for change in () if bare else changes(subject.services, subject.endpoints, plan.changes + 1):
            if len(applied) >= FEWEST_CHANGES and sum(applied) > LONGEST:
                break
            begin = time.perf_counter()
            router.restore(change)
            applied.append(time.perf_counter() - begin)
    finally:
        router.close()
    return Row(
        subject.mode if bare else "nftables",
        subject.services,
        subject.endpoints,
        ENGINE,
        {} if bare else _tables(subject),
        {},
        times,
        render=None if bare else Figure.of([seconds]),
        compile=None if bare else Figure.of([router.load]),
        sync=Figure.of(applied[1:]) if applied[1:] else None,
        first_sync=applied[0] if applied else None,
    )


def _tables(subject: Subject) -> dict[str, int]:
    ends = subject.services * subject.endpoints
    return {
        "rules": 8 + 2 * subject.services + 2 * ends,
        "chains": 5 + subject.services + ends,
        "set entries": subject.services,
    }
