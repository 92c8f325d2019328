"""What became of a replayed capture: rows per Service and path, the accounting, the flows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dataplane._fast.reason import Reason, Verdict
from dataplane._fast.replay import LeftOut
from dataplane.agents.underlay import OUTSIDE
from dataplane.balancing import BalancerRow, balancer_rows
from dataplane.effects import ChangeRow, effect_columns, summary
from dataplane.errors import CaptureError

if TYPE_CHECKING:
    import pyarrow as pa

    from dataplane._fast.batch import PacketBatch
    from dataplane._fast.replay import Replay
    from dataplane.agents.node import Agents
    from dataplane.capture import CaptureReader
    from dataplane.datapath.connections import Connections
    from dataplane.datapath.fabric import Fabric
    from dataplane.datapath.log import Logged
    from dataplane.timeline import Timeline

PROTOCOLS = {1: "ICMP", 2: "IGMP", 6: "TCP", 17: "UDP", 47: "GRE", 58: "ICMPv6", 132: "SCTP", 136: "UDPLITE"}
LEFT_OUT = {
    LeftOut.LEFT_NOT_IP: "not IP, or neighbour discovery",
    LeftOut.LEFT_MALFORMED: "malformed",
    LeftOut.LEFT_STRANGERS: "between strangers",
    LeftOut.LEFT_NO_REQUEST: "reply without a delivered request",
    LeftOut.LEFT_ICMP_ERROR: "ICMP error (hosts make their own)",
    LeftOut.LEFT_LATE_FRAGMENT: "fragment without its first",
    LeftOut.LEFT_TABLE_FULL: "flow table full",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One Service port, or one path between two ends that no Service stands between."""

    namespace: str
    name: str
    port: str
    packets: int
    flows: int
    endpoints: Mapping[str, int]
    """endpoint -> flows that it got, most first"""
    verdict: str
    as_expected: bool

    def shares(self) -> str:
        """`cart-0 67%, cart-1 33%`; "<none>" where nothing was delivered."""
        total = sum(self.endpoints.values())
        if not total:
            return "<none>"
        return ", ".join(f"{name} {round(100 * count / total)}%" for name, count in self.endpoints.items())


@dataclass(slots=True)
class Accounting:
    """Where the packets of the capture are. read = left out + injected; injected = delivered + dropped + waiting + ...

    decoded: packets with a whole IP header. mapped: packets with an address that a map changed. emitted: packets that
    left the model by an interface with nothing behind it (replay through one host). consumed: taken by a host itself
    (ARP, neighbour discovery, fragments of a packet that was put together).
    """

    read: int = 0
    decoded: int = 0
    mapped: int = 0
    injected: int = 0
    delivered: int = 0
    emitted: int = 0
    consumed: int = 0
    waiting: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    checksums_completed: int = 0
    truncated: int = 0
    paths: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(in, out or verdict) -> packets; of a replay through one host"""
    waiting_rows: set[int] = field(default_factory=set)
    """rows that wait; of a replay through one host"""

    def add_batch(
        self, batch: PacketBatch, emitted: tuple[PacketBatch, Any, Any], interfaces: Sequence[str], into: str
    ) -> None:
        """Count one batch that a single host received."""
        count = len(batch)
        waiting = np.flatnonzero(batch.verdict[:count] == Verdict.QUEUED)
        self.waiting_rows.update((waiting + self.read).tolist())
        self.read += count
        self.injected += count
        self.decoded += int((batch.network[:count] != 0xFFFF).sum())
        verdicts, reasons = batch.verdict[:count], batch.reason[:count]
        self.delivered += int((verdicts == Verdict.DELIVERED).sum())
        self.emitted += int((verdicts == Verdict.EMITTED).sum())
        self.consumed += int((verdicts == Verdict.CONSUMED).sum())
        self.waiting += int(((verdicts == Verdict.QUEUED) | (verdicts == Verdict.NONE)).sum())
        dropped = reasons[verdicts == Verdict.DROPPED]
        for reason, number in zip(*np.unique(dropped, return_counts=True), strict=True):
            name = Reason(int(reason)).name
            self.dropped[name] = self.dropped.get(name, 0) + int(number)
            self.paths[into, f"dropped: {name}"] += int(number)
        self.paths[into, "delivered to the host"] += int((verdicts == Verdict.DELIVERED).sum())
        self.paths[into, "taken by the host"] += int((verdicts == Verdict.CONSUMED).sum())
        self.count_emitted(emitted, interfaces, into)

    def count_emitted(self, emitted: tuple[PacketBatch, Any, Any], interfaces: Sequence[str], into: str) -> None:
        """Count by interface what left."""
        out, _, rows = emitted
        slots = out.interface[: len(out)][np.asarray(rows) >= 0]
        for slot, number in zip(*np.unique(slots, return_counts=True), strict=True):
            self.paths[into, interfaces[int(slot)]] += int(number)

    def settle(self, late: tuple[Any, Any, Any], into: str) -> None:
        """Count what became of rows of earlier batches that had waited; a row counts once."""
        for row, verdict, reason in zip(*(column.tolist() for column in late), strict=True):
            if row not in self.waiting_rows:
                continue
            self.waiting_rows.remove(row)
            self.waiting -= 1
            if verdict == Verdict.DROPPED:
                name = Reason(reason).name
                self.dropped[name] = self.dropped.get(name, 0) + 1
                self.paths[into, f"dropped: {name}"] += 1
            elif verdict == Verdict.DELIVERED:
                self.delivered += 1
                self.paths[into, "delivered to the host"] += 1
            elif verdict == Verdict.EMITTED:
                self.emitted += 1
            else:
                self.consumed += 1
                self.paths[into, "taken by the host"] += 1

    def line(self) -> str:
        """The accounting in one line: what was read is all there."""
        parts = [
            f"read {self.read}",
            f"decoded {self.decoded}",
            f"mapped {self.mapped}",
            f"injected {self.injected}",
            f"delivered {self.delivered}",
        ]
        if self.emitted:
            parts.append(f"emitted {self.emitted}")
        if self.consumed:
            parts.append(f"taken by the host {self.consumed}")
        if self.waiting:
            parts.append(f"waiting {self.waiting}")
        parts.append(_counted("dropped", self.dropped))
        parts.append(_counted("left out", self.left_out))
        return ", ".join(parts)

    def as_dict(self) -> dict[str, Any]:
        return {
            "read": self.read,
            "decoded": self.decoded,
            "mapped": self.mapped,
            "injected": self.injected,
            "delivered": self.delivered,
            "emitted": self.emitted,
            "consumed": self.consumed,
            "waiting": self.waiting,
            "dropped": dict(self.dropped),
            "leftOut": dict(self.left_out),
            "checksumsCompleted": self.checksums_completed,
            "truncated": self.truncated,
        }


def _counted(word: str, counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    if not total:
        return f"{word} 0"
    return f"{word} {total} ({', '.join(f'{name} {count}' for name, count in counts.items())})"


@dataclass(slots=True)
class Result:
    """A replay's outcome. error: the capture ended badly; everything before it was replayed."""

    accounting: Accounting
    services: list[Row] = field(default_factory=list)
    paths: list[Row] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    suggestions: list[str] = field(default_factory=list)
    error: CaptureError | None = None
    changes: list[ChangeRow] = field(default_factory=list)
    """What happened to the cluster meanwhile, in order, and to how many flows what."""
    balancers: list[BalancerRow] = field(default_factory=list)
    """The external load balancers as they were at the end, an entry per address."""
    connections: dict[str, Connections] = field(default_factory=dict)
    """Of the hosts that were asked for: what they tracked when the last packet had been sent."""
    logged: dict[str, tuple[Logged, ...]] = field(default_factory=dict)
    """By host: what its rules wrote down with LOG and NFLOG, and of packets that TRACE marked."""

    def flows(self) -> pa.Table:
        """One row per flow, as an Arrow table; needs pyarrow.

        client, server: as the client addressed them; endpoint: what served, as it saw itself; *_port: host order; bytes:
        from the network header on; exact_replies: replies that reached the client as recorded; first, last: ns.
        """
        import pyarrow as pa

        return pa.table({name: pa.array(values) for name, values in self.columns.items()})

    @property
    def as_expected(self) -> bool:
        """Whether everything that was sent arrived."""
        return self.error is None and all(row.as_expected for row in (*self.services, *self.paths))

    @classmethod
    def of_host(cls, accounting: Accounting, error: CaptureError | None, unmodelled: Iterable[str]) -> Result:
        rows = [
            Row("", f"{into} -> {out}", "", count, 0, {}, out if out.startswith("dropped") else "ok", True)
            for (into, out), count in sorted(accounting.paths.items())
            if count
        ]
        return cls(accounting, paths=rows, error=error, notes=list(unmodelled))


class _Names:
    """What addresses and ports are called in the cluster."""

    def __init__(self, agents: Agents, fabric: Fabric) -> None:
        self.hosts = fabric.names
        self.pods: dict[Any, str] = {}
        self.nodes: dict[Any, str] = {}
        self.fronts: dict[tuple[Any, str, int], tuple[str, str, str]] = {}
        self.add(agents)

    def add(self, agents: Agents) -> None:
        """Names of another state, where no earlier one has given them."""
        state = agents.state
        self.pods = {ip: str(pod) for pod in state.pods if not pod.host_network for ip in pod.ips} | self.pods
        nodes = {ip: node.name for node in state.nodes for ip in (*node.addresses, *node.external_addresses)}
        self.nodes = nodes | self.nodes
        for service in state.services:
            addresses = [*service.cluster_ips, *service.external_ips]
            addresses += [ingress.ip for ingress in service.ingress if ingress.ip is not None]
            addresses += agents.cloud.of(service)
            for port in service.ports:
                for address in addresses:
                    text = f"{port.port}/{port.protocol}"
                    front = (service.namespace, service.name, text)
                    self.fronts.setdefault((address, port.protocol, port.port), front)
                if port.node_port:
                    text = f"{port.port}:{port.node_port}/{port.protocol}"
                    for address in self.nodes:
                        key = (address, port.protocol, port.node_port)
                        self.fronts.setdefault(key, (service.namespace, service.name, text))

    def of(self, address: Any, host: int) -> str:
        """A pod or a node by its address; the outside by itself; else the address."""
        if address in self.pods:
            return self.pods[address]
        if address in self.nodes:
            return self.nodes[address]
        return OUTSIDE if host >= 0 and self.hosts[host] == OUTSIDE else str(address)


def collect(
    agents: Agents,
    fabric: Fabric,
    replay: Replay,
    reader: CaptureReader,
    error: CaptureError | None,
    notes: Iterable[str],
    timeline: Timeline | None = None,
) -> Result:
    """Put the replay's numbers under the cluster's names. timeline: what happened meanwhile."""
    names = _Names(agents, fabric)
    if timeline is not None:
        names.add(timeline.agents)
        names.pods = timeline.names | names.pods
    raw = replay.rows()
    columns = _columns(raw, names)
    changes: list[ChangeRow] = []
    if timeline is not None:
        fronts = list(zip(columns["namespace"], columns["service"], strict=True))
        columns |= effect_columns(raw, fronts, timeline.happened, names.of)
        changes = summary(columns, timeline.happened)
    accounting = Accounting(
        read=replay.read,
        decoded=replay.decoded,
        mapped=replay.mapped,
        injected=replay.injected,
        delivered=replay.delivered,
        consumed=replay.consumed,
        waiting=replay.waiting,
        dropped={reason.name: count for reason, count in replay.dropped.items()},
        left_out={LEFT_OUT[why]: count for why, count in replay.left_out.items()},
        checksums_completed=replay.completed_checksums,
        truncated=reader.counts.truncated,
    )
    services, paths = _rows(columns)
    result = Result(accounting, services, paths, columns, list(notes), _suggest(columns), error, changes=changes)
    result.balancers = balancer_rows((agents if timeline is None else timeline.agents).cloud, fabric, timeline)
    ahead = [] if timeline is None else timeline.ahead
    if ahead:
        result.notes.append(f"{len(ahead)} changes of the script lie behind the last packet and did not happen")
    if accounting.checksums_completed:
        result.notes.append(
            f"{accounting.checksums_completed} checksums had been left to a network card and were completed"
        )
    unknown = reader.counts.unknown_blocks
    if unknown:
        result.notes.append(f"{unknown} blocks of the capture are of unknown kinds and were left out")
    return result


def _columns(raw: Mapping[str, list[Any]], names: _Names) -> dict[str, list[Any]]:
    count = len(raw["protocol"])
    columns: dict[str, list[Any]] = {
        name: []
        for name in (
            "protocol", "client", "client_port", "server", "server_port", "namespace", "service", "port",
            "client_name", "endpoint", "endpoint_port", "endpoint_name", "node", "seen_client", "seen_client_port",
            "packets", "bytes", "requests", "replies", "delivered", "dropped", "exact_replies", "moved", "verdict",
            "reason", "left_out", "recorded_client", "recorded_server", "recorded_server_port", "first", "last",
        )
    }  # fmt: skip
    for i in range(count):
        protocol = PROTOCOLS.get(raw["protocol"][i], str(raw["protocol"][i]))
        server, server_port = raw["server"][i], raw["server_port"][i]
        namespace, service, port = names.fronts.get((server, protocol, server_port), ("", "", ""))
        left = LeftOut(raw["left_out"][i])
        endpoint, host = raw["endpoint"][i], raw["server_host"][i]
        delivered = raw["requests_delivered"][i] + raw["replies_delivered"][i]
        dropped = raw["requests_dropped"][i] + raw["replies_dropped"][i]
        if left != LeftOut.LEFT_NOTHING:
            verdict = "left out"
        elif dropped or not delivered:
            verdict = "partly" if delivered else "dropped"
        else:
            verdict = "delivered"
        values = {
            "protocol": protocol,
            "client": str(raw["client"][i]),
            "client_port": raw["client_port"][i],
            "server": str(server),
            "server_port": server_port,
            "namespace": namespace,
            "service": service,
            "port": port,
            "client_name": names.of(raw["client"][i], raw["client_host"][i]),
            "endpoint": None if endpoint is None else str(endpoint),
            "endpoint_port": None if endpoint is None else raw["endpoint_port"][i],
            "endpoint_name": None if endpoint is None else names.of(endpoint, host),
            "node": None if host < 0 else names.hosts[host],
            "seen_client": None if endpoint is None else str(raw["seen_client"][i]),
            "seen_client_port": None if endpoint is None else raw["seen_client_port"][i],
            "packets": raw["requests"][i] + raw["replies"][i],
            "bytes": raw["request_bytes"][i] + raw["reply_bytes"][i],
            "requests": raw["requests"][i],
            "replies": raw["replies"][i],
            "delivered": delivered,
            "dropped": dropped,
            "exact_replies": raw["exact"][i],
            "moved": raw["moved"][i],
            "verdict": verdict,
            "reason": Reason(raw["reason"][i]).name if dropped else None,
            "left_out": LEFT_OUT[left] if left != LeftOut.LEFT_NOTHING else None,
            "recorded_client": str(raw["recorded_client"][i]),
            "recorded_server": str(raw["recorded_server"][i]),
            "recorded_server_port": raw["recorded_server_port"][i],
            "first": raw["first"][i],
            "last": raw["last"][i],
        }
        for name, value in values.items():
            columns[name].append(value)
    return columns


def _rows(columns: Mapping[str, list[Any]]) -> tuple[list[Row], list[Row]]:
    """Flows of a Service port together; the others by who talks to whom."""
    groups: dict[tuple[bool, str, str, str], list[int]] = {}
    for i, service in enumerate(columns["service"]):
        if columns["left_out"][i] is not None:
            continue
        if service:
            key = (True, columns["namespace"][i], service, columns["port"][i])
        else:
            server = columns["endpoint_name"][i] or columns["server"][i]
            port = columns["protocol"][i]
            if columns["server_port"][i] and port in ("TCP", "UDP", "SCTP"):
                port = f"{columns['server_port'][i]}/{port}"
            key = (False, "", f"{columns['client_name'][i]} -> {server}", port)
        groups.setdefault(key, []).append(i)
    services: list[Row] = []
    paths: list[Row] = []
    for (of_service, namespace, name, port), flows in sorted(groups.items()):
        endpoints = Counter(columns["endpoint_name"][i] for i in flows if columns["endpoint_name"][i] is not None)
        verdict, as_expected = _verdict(columns, flows)
        row = Row(
            namespace,
            name,
            port,
            sum(columns["packets"][i] for i in flows),
            len(flows),
            dict(endpoints.most_common()),
            verdict,
            as_expected,
        )
        (services if of_service else paths).append(row)
    return services, paths


def _verdict(columns: Mapping[str, list[Any]], flows: Sequence[int]) -> tuple[str, bool]:
    packets = sum(columns["packets"][i] for i in flows)
    delivered = sum(columns["delivered"][i] for i in flows)
    replies = sum(columns["replies"][i] for i in flows)
    exact = sum(columns["exact_replies"][i] for i in flows)
    reasons = Counter(columns["reason"][i] for i in flows if columns["reason"][i] is not None)
    why = f": {', '.join(reason for reason, _ in reasons.most_common())}" if reasons else ""
    if delivered == packets:
        if exact == replies:
            return "delivered", True
        return f"delivered, {exact} of {replies} replies as recorded", False
    if delivered == 0:
        return f"dropped{why}", False
    return f"{delivered} of {packets} delivered{why}", False


def _suggest(columns: Mapping[str, list[Any]], most: int = 3) -> list[str]:
    """Maps that would bring the busiest strangers in."""
    busiest: Counter[tuple[str, int, str]] = Counter()
    clients: dict[tuple[str, int, str], str] = {}
    for i, why in enumerate(columns["left_out"]):
        if why == LEFT_OUT[LeftOut.LEFT_STRANGERS]:
            key = (columns["recorded_server"][i], columns["recorded_server_port"][i], columns["protocol"][i])
            busiest[key] += columns["packets"][i]
            clients.setdefault(key, columns["recorded_client"][i])
    lines = []
    for (server, port, protocol), packets in busiest.most_common(most):
        quoted = f"[{server}]" if ":" in server else server
        source = f"{quoted}:{port}" if protocol in ("TCP", "UDP") and port else server
        lines.append(
            f"{packets} packets of strangers to {server} port {port}/{protocol}: "
            f"--map {source}=svc:NAMESPACE/NAME, or --map {clients[server, port, protocol]}=pods:NAMESPACE/*"
        )
    return lines
