from enum import IntEnum
from typing import Final, TypedDict, type_check_only

MAX_PACKET: Final[int]
MAX_BLOCK: Final[int]

class Status(IntEnum):
    STATUS_MORE = 0
    STATUS_FULL = 1
    STATUS_BAD = 2
    STATUS_SECTION = 3
    STATUS_INTERFACE = 4
    STATUS_COMMENT = 5
    STATUS_SKIP = 6

class Fault(IntEnum):
    FAULT_NONE = 0
    FAULT_CAPTURED_LENGTH = 1
    FAULT_BLOCK_LENGTH = 2
    FAULT_BLOCK_TOO_LONG = 3
    FAULT_TRAILER = 4
    FAULT_PAST_BLOCK = 5
    FAULT_OPTIONS = 6
    FAULT_INTERFACE = 7
    FAULT_LINK_TYPE = 8

@type_check_only
class _Tally(TypedDict):
    packets: int
    bytes: int
    wire_bytes: int
    truncated: int
    short_original: int
    untimed: int
    clamped: int
    beyond_snap: int
