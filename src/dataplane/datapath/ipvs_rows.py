"""What a running host's virtual services have come to, as `ipvsadm -L` lists it."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.ipvs import Balancer
from dataplane.datapath.compile_ipvs import SECOND, key_of
from dataplane.errors import ModelError
from dataplane.host.config import HostConfig
from dataplane.host.ipvs import RealServer, VirtualService
from dataplane.host.ipvs_list import (
    Balanced,
    IpvsConnection,
    ServiceKey,
    Traffic,
    connections_text,
    services_text,
    stats_text,
)
from dataplane.host.protocols import protocol_name


def ipvsadm(engine: Balancer | None, config: HostConfig, words: str, now: int) -> str:
    """The text of one listing at `now`, ns. ModelError for words that are not modelled."""
    if words == "-Lnc":
        return connections_text(connections(engine, now))
    if words not in ("-Ln", "-Ln --stats", "-Ln --stats --exact"):
        raise ModelError(f"ipvsadm {words} is not modelled: -Ln, -Ln --stats, -Ln --stats --exact, -Lnc are")
    servers = {}
    totals: dict[ServiceKey, Traffic] = {}
    if engine is not None:
        for service in config.ipvs:
            key = key_of(service)
            totals[service.key] = Traffic(*engine.service_counters(key))
            for server in service.servers:
                row = engine.server_row(key, server.address, server.port, now)
                servers[service.key, server.address, server.port] = Balanced(row[0], row[1], Traffic(*row[4]))
    if words == "-Ln":
        return services_text(config.ipvs, servers)
    return stats_text(config.ipvs, totals, servers, exact="--exact" in words)


def connections(engine: Balancer | None, now: int) -> Iterator[IpvsConnection]:
    """The connections, those of one client together."""
    if engine is None:
        return
    for row in sorted(engine.rows(now), key=lambda row: (row[0], row[3].version, row[3], row[4], row[9])):
        protocol, left, state, client, client_port, virtual, virtual_port, server, server_port, _ = row
        yield IpvsConnection(
            protocol_name(protocol).upper() if protocol else "IP",
            left // SECOND,
            state,
            (client, client_port),
            (virtual, virtual_port),
            (server, server_port),
        )


def begun(engine: Balancer | None, config: HostConfig) -> Iterator[tuple[VirtualService, RealServer, int]]:
    """How many connections each server of each service has been given since it was added."""
    if engine is not None:
        for service in config.ipvs:
            for server in service.servers:
                counters = engine.server_row(key_of(service), server.address, server.port, 0)[4]
                yield service, server, counters[0]
