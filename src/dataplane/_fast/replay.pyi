from collections.abc import Sequence
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, TypeAlias, final

from dataplane._fast.batch import PacketBatch
from dataplane._fast.reason import Reason
from dataplane._fast.walk import Walk

_Address: TypeAlias = IPv4Address | IPv6Address

class LeftOut(IntEnum):
    LEFT_NOTHING = 0
    LEFT_NOT_IP = 1
    LEFT_MALFORMED = 2
    LEFT_STRANGERS = 3
    LEFT_NO_REQUEST = 4
    LEFT_ICMP_ERROR = 5
    LEFT_LATE_FRAGMENT = 6
    LEFT_TABLE_FULL = 7
    LEFT_COUNT = 8

class PlaceKind(IntEnum):
    PLACE_NONE = 0
    PLACE_HOST = 1
    PLACE_SERVICE = 2

class MapKind(IntEnum):
    MAP_ADDRESS = 0
    MAP_POOL = 1
    MAP_OUTSIDE = 2

@final
class Replay:
    read: int
    decoded: int
    mapped: int
    injected: int
    delivered: int
    consumed: int
    completed_checksums: int
    untold: int
    watching: bool
    walk: Walk
    def __new__(cls, walk: Walk, outside: int, capacity: int = 4194304) -> Replay: ...
    def __len__(self) -> int: ...
    def place(self, address: _Address, host: int = -1) -> None: ...
    def map(
        self,
        network: IPv4Network | IPv6Network,
        members: Sequence[_Address] = (),
        *,
        port: int = 0,
        to_port: int = 0,
    ) -> None: ...
    def move(self, address: _Address, host: int) -> None: ...
    def advance(self, time: int) -> None: ...
    def run(self, batch: PacketBatch, first: int = 0, last: int | None = None) -> None: ...
    @property
    def waiting(self) -> int: ...
    @property
    def dropped(self) -> dict[Reason, int]: ...
    @property
    def left_out(self) -> dict[LeftOut, int]: ...
    def rows(self) -> dict[str, list[Any]]: ...
