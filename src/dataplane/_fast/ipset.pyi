from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Any, Final, TypeAlias, final

_Key: TypeAlias = tuple[int, ...]

class SetPart(IntEnum):
    SET_ADDRESS = 1
    SET_PORT = 2
    SET_SECOND = 4
    SET_BARE_PORT = 8
    SET_LIST = 16

class SetFlag(IntEnum):
    USE_RETURN_NOMATCH = 1
    USE_NO_COUNTERS = 2
    USE_NO_SUBCOUNTERS = 4
    USE_EXIST = 8
    USE_TIMEOUT = 16
    USE_MAP_MARK = 32

class CounterTest(IntEnum):
    COUNTER_ANY = 0
    COUNTER_EQ = 1
    COUNTER_NE = 2
    COUNTER_LT = 3
    COUNTER_GT = 4

@final
class CompiledSets:
    names: Final[tuple[str, ...]]
    def __new__(cls, sets: Iterable[tuple[str, Mapping[str, Any]]]) -> CompiledSets: ...
    def add(
        self,
        index: int,
        key: Sequence[int],
        *,
        expires: int = 0,
        packets: int = 0,
        bytes: int = 0,
        nomatch: bool = False,
        mark: int = 0,
        mark_mask: int = 0,
    ) -> bool: ...
    def remove(self, index: int, key: Sequence[int]) -> bool: ...
    def fill_list(self, index: int, members: Iterable[tuple[int, int, int, int, int, int]]) -> None: ...
    def members(self, index: int, now: int = 0) -> list[tuple[_Key | int, int, int, int, bool]]: ...
