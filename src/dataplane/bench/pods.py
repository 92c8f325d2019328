"""Two nodes with a client, a server beside it and a server on the other node, each server behind a Service."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dataplane._fast.batch import PacketBatch
from dataplane._fast.reason import Reason, Verdict
from dataplane._fast.stopwatch import time_send
from dataplane.bench import traffic
from dataplane.bench.machine import undisturbed
from dataplane.bench.router import CLIENT_SIDE
from dataplane.cluster import complete, read_manifests
from dataplane.emulation import Cluster
from dataplane.errors import ModelError

Backend = Literal["vxlan", "host-gw"]
CLIENT = "10.244.1.2"
SERVERS = {"near": "10.244.1.3", "far": "10.244.2.2"}
SERVICES = {"near": "10.96.0.11", "far": "10.96.0.12"}
PORT, TARGET_PORT = 80, 8080
LINKTYPE_RAW = 101
ETHERNET = 14


def manifests(backend: Backend = "vxlan") -> list[dict[str, Any]]:
    pods = {"client": ("node-1", CLIENT), "near": ("node-1", SERVERS["near"]), "far": ("node-2", SERVERS["far"])}
    network = f'{{"Network": "10.244.0.0/16", "Backend": {{"Type": "{backend}"}}}}'
    return [
        *(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": f"node-{i}"},
                "spec": {"podCIDR": f"10.244.{i}.0/24"},
                "status": {"addresses": [{"type": "InternalIP", "address": f"192.168.1.1{i}"}]},
            }
            for i in (1, 2)
        ),
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "kube-flannel-cfg", "namespace": "kube-flannel"},
            "data": {"net-conf.json": network},
        },
        *(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
                "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
                "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]},
            }
            for name, (node, ip) in pods.items()
        ),
        *(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {
                    "clusterIP": address,
                    "selector": {"app": name},
                    "ports": [{"port": PORT, "targetPort": TARGET_PORT}],
                },
            }
            for name, address in SERVICES.items()
        ),
    ]


def cluster(backend: Backend = "vxlan", seed: int = 0) -> Cluster:
    return Cluster(complete(read_manifests(manifests(backend))), seed=seed)


class Conversations:
    """Established conversations of the client with one server, by its Service or by its own address."""

    def __init__(
        self, backend: Backend, server: str, flows: int, *, service: bool, payload: int, seed: int = 0
    ) -> None:
        self._fabric = cluster(backend, seed).fabric()
        self._client = self._fabric.ids["default/client"]
        self._now = 0
        target, port = (SERVICES[server], PORT) if service else (SERVERS[server], TARGET_PORT)
        towards = {"source": CLIENT, "destination": target, "destination_port": port}
        ports = np.arange(traffic.FIRST_PORT, traffic.FIRST_PORT + flows)
        # The first packet finds out who is where; others would be dropped while they wait for that.
        syns = self._packets(ports, towards, traffic.SYN)
        self.send(syns[:1])
        self.send(syns)
        answers = traffic.segments(
            CLIENT_SIDE,
            int(IPv4Address(SERVERS[server])),
            TARGET_PORT,
            int(IPv4Address(CLIENT)),
            ports,
            flags=traffic.SYN | traffic.ACK,
            ack=2,
        )
        self._send(self._fabric.ids[f"default/{server}"], answers[:, ETHERNET:], len(answers))
        self.send(self._packets(ports, towards, traffic.ACK, seq=2, ack=2))
        self._data = self._packets(ports, towards, traffic.ACK | traffic.PSH, seq=2, ack=2, payload=payload)

    def _packets(
        self, ports: npt.NDArray[np.int64], towards: dict[str, Any], flags: int, **more: int
    ) -> npt.NDArray[np.uint8]:
        frames = traffic.segments(
            CLIENT_SIDE,
            int(IPv4Address(towards["source"])),
            ports,
            int(IPv4Address(towards["destination"])),
            towards["destination_port"],
            flags=flags,
            **more,
        )
        return frames[:, ETHERNET:]

    def data(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """IP packets of these conversations, by number."""
        return self._data[rows]

    def send(self, packets: npt.NDArray[np.uint8], group: int = 1) -> npt.NDArray[np.int64]:
        """The client sends: ns of each group of `group`. ModelError where one is not delivered."""
        return self._send(self._client, packets, group)

    def _send(self, host: int, packets: npt.NDArray[np.uint8], group: int) -> npt.NDArray[np.int64]:
        return self._time(host, self.prepare(packets), group)

    def prepare(self, packets: npt.NDArray[np.uint8]) -> PacketBatch:
        """The packets as a batch that is to be sent next."""
        times = [self._now + traffic.GAP * row for row in range(len(packets))]
        self._now += traffic.GAP * len(packets)
        batch = PacketBatch.from_frames([row.tobytes() for row in packets], times=times, link_type=LINKTYPE_RAW)
        batch.decode()
        return batch

    def send_batch(self, batch: PacketBatch, group: int = 1) -> npt.NDArray[np.int64]:
        """`send` of what is prepared; a batch is sent once."""
        return self._time(self._client, batch, group)

    def _time(self, host: int, batch: PacketBatch, group: int) -> npt.NDArray[np.int64]:
        with undisturbed():
            taken = time_send(self._fabric.walk, host, batch, group)
        lost = np.flatnonzero(batch.verdict[: len(batch)] != Verdict.DELIVERED)
        if lost.size:
            reason = Reason(int(batch.reason[lost[0]])).name
            raise ModelError(f"{lost.size} of {len(batch)} packets were not delivered: {reason}")
        return taken
