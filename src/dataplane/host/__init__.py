"""The waist: a host's configuration as frozen values, and one module per text format that parses and prints."""

from __future__ import annotations

from dataplane.host.config import (
    Address,
    Bridge,
    BridgePort,
    ConnectionRow,
    ConnectionTuple,
    FdbEntry,
    Groups,
    HostConfig,
    IpSet,
    IpSetEntry,
    Link,
    Neighbour,
    NextHop,
    PolicyRule,
    Route,
    Tun,
    Vxlan,
)

__all__ = [
    "Address",
    "Bridge",
    "BridgePort",
    "ConnectionRow",
    "ConnectionTuple",
    "FdbEntry",
    "Groups",
    "HostConfig",
    "IpSet",
    "IpSetEntry",
    "Link",
    "Neighbour",
    "NextHop",
    "PolicyRule",
    "Route",
    "Tun",
    "Vxlan",
]
