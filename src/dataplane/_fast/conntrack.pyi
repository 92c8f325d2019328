from collections.abc import Sequence
from enum import IntFlag
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias, final

_Address: TypeAlias = IPv4Address | IPv6Address
_Tuple: TypeAlias = tuple[_Address, _Address, int, int]
_Pair: TypeAlias = tuple[int, int] | None
_Row: TypeAlias = tuple[int, int, int, str | None, int, int, int, _Tuple, _Tuple, _Pair, _Pair, int | None, int, int]
TCP_STATES: Final[tuple[str, ...]]
SCTP_STATES: Final[tuple[str, ...]]

class Status(IntFlag):
    STATUS_EXPECTED = 1
    STATUS_SEEN_REPLY = 2
    STATUS_ASSURED = 4
    STATUS_CONFIRMED = 8
    STATUS_SRC_NAT = 16
    STATUS_DST_NAT = 32
    STATUS_SEQ_ADJUST = 64
    STATUS_SRC_NAT_DONE = 128
    STATUS_DST_NAT_DONE = 256
    STATUS_DYING = 512
    STATUS_FIXED_TIMEOUT = 1024
    STATUS_TEMPLATE = 2048
    STATUS_NAT_CLASH = 4096
    STATUS_HELPER = 8192

class ZoneFlag(IntFlag):
    ZONE_ORIGINAL = 1
    ZONE_REPLY = 2
    ZONE_BY_MARK = 4
    ZONE_GIVEN = 8

@final
class ConnectionTable:
    def __new__(
        cls,
        *,
        tcp_timeouts: Sequence[int],
        udp_timeout: int = 30_000_000_000,
        udp_stream_timeout: int = 120_000_000_000,
        icmp_timeout: int = 30_000_000_000,
        icmp6_timeout: int = 30_000_000_000,
        generic_timeout: int = 600_000_000_000,
        gre_timeout: int = 30_000_000_000,
        gre_stream_timeout: int = 180_000_000_000,
        sctp_timeouts: Sequence[int] = (),
        maximum: int = 262144,
        buckets: int = 262144,
        accounting: bool = True,
        timestamp: bool = False,
        checksum: bool = True,
        tcp_loose: bool = True,
        tcp_be_liberal: bool = False,
        tcp_ignore_invalid_rst: bool = False,
        tcp_max_retrans: int = 3,
        seed: int = 0,
    ) -> ConnectionTable: ...
    @property
    def count(self) -> int: ...
    def statistics(self) -> dict[str, int]: ...
    def rows(self, now: int) -> list[_Row]: ...
