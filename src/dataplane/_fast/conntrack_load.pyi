from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

from dataplane._fast.conntrack import ConnectionTable

_Address: TypeAlias = IPv4Address | IPv6Address
_Side: TypeAlias = tuple[_Address, _Address, int, int]
_Both: TypeAlias = tuple[int, int]
_Row: TypeAlias = tuple[int, int, str | None, int, int, _Side, _Side, _Both, _Both, int, int]

def load_connections(table: ConnectionTable, rows: Iterable[_Row]) -> None: ...
