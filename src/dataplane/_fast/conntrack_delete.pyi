from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from dataplane._fast.conntrack import ConnectionTable

def delete_connections(
    table: ConnectionTable,
    now: int,
    protocol: int,
    family: int,
    stale: Callable[[IPv4Address | IPv6Address, int, IPv4Address | IPv6Address, int, bool], bool],
) -> int: ...
