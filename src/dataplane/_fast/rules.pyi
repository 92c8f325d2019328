from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any, Final, TypeAlias, TypedDict, Unpack, final

import numpy as np
import numpy.typing as npt

from dataplane._fast.ipset import CompiledSets

_Rows: TypeAlias = npt.NDArray[np.void]
_Words: TypeAlias = tuple[int, int, int, int]

OP_DTYPE: Final[np.dtype[np.void]]
RULE_DTYPE: Final[np.dtype[np.void]]
RUN_DTYPE: Final[np.dtype[np.void]]
TARGET_DTYPE: Final[np.dtype[np.void]]
CHAIN_DTYPE: Final[np.dtype[np.void]]
TABLE_DTYPE: Final[np.dtype[np.void]]
EVENT_DTYPE: Final[np.dtype[np.void]]

class RuleVerdict(IntEnum):
    RULE_ACCEPT = 0
    RULE_DROP = 1
    RULE_TERMINAL = 2

class RuleProgram:
    rule_count: int
    chain_count: int
    state_count: int
    depth: int
    chain_names: tuple[tuple[str, str], ...]
    recents: tuple[tuple[str, int, int, int, int, int], ...]
    hashlimits: tuple[tuple[str, tuple[int, ...]], ...]
    conncounts: int
    set_names: tuple[str, ...]
    ops: _Rows
    rules: _Rows
    runs: _Rows
    keys: npt.NDArray[np.uint64]
    targets: _Rows
    chains: _Rows
    tables: _Rows
    pool: npt.NDArray[np.uint32]
    state: npt.NDArray[np.uint64]
    def __init__(
        self,
        *,
        ops: _Rows,
        rules: _Rows,
        runs: _Rows,
        keys: npt.NDArray[np.uint64],
        targets: _Rows,
        chains: _Rows,
        tables: _Rows,
        pool: npt.NDArray[np.uint32],
        state: npt.NDArray[np.uint64],
        recents: Iterable[tuple[str, int, int, int, int, int]],
        hashlimits: Iterable[tuple[str, tuple[int, ...]]],
        conncounts: int,
        set_names: Iterable[str],
        depth: int,
        chain_names: Iterable[tuple[str, str]],
    ) -> None: ...

@final
class CompiledRules:
    program: Final[RuleProgram]
    @property
    def counters(self) -> npt.NDArray[np.uint64]: ...
    @property
    def policies(self) -> npt.NDArray[np.uint64]: ...
    @property
    def state(self) -> npt.NDArray[np.uint64]: ...
    @property
    def recent_names(self) -> tuple[str | None, ...]: ...
    sets: Final[CompiledSets | None]
    def __new__(cls, program: RuleProgram, sets: CompiledSets | None = None) -> CompiledRules: ...
    def adopt(
        self,
        *,
        ops: _Rows,
        rules: _Rows,
        runs: _Rows,
        keys: npt.NDArray[np.uint64],
        targets: _Rows,
        chains: _Rows,
        tables: _Rows,
        pool: npt.NDArray[np.uint32],
        state: npt.NDArray[np.uint64],
        counters: npt.NDArray[np.uint64],
        policies: npt.NDArray[np.uint64],
        depth: int,
        recents: Iterable[tuple[int, str, int, int, int, int, int]] = (),
        forgotten: Iterable[int] = (),
        hashlimits: Iterable[tuple[int, tuple[int, ...]]] = (),
        conncounts: int = 0,
    ) -> None: ...
    def clear_counters(self) -> None: ...
    def recent(self, name: str) -> list[tuple[_Words, int, int, tuple[int, ...]]]: ...

class Evaluation:
    verdict: RuleVerdict
    target: int
    packet: bytes
    mark: int
    ctinfo: int
    ct_mark: int
    events: _Rows
    log: _Rows
    def __init__(
        self,
        verdict: RuleVerdict,
        target: int,
        packet: bytes,
        mark: int,
        ctinfo: int,
        ct_mark: int,
        events: _Rows,
        log: _Rows,
    ) -> None: ...

class _Options(TypedDict, total=False):
    iif: int
    oif: int
    physin: int
    physout: int
    mark: int
    ctinfo: int
    connection: Mapping[str, Any] | None
    packet_type: int
    bridged: int
    time: int
    traced: int
    row: int

@final
class RuleBench:
    rules: Final[CompiledRules]
    def __new__(
        cls,
        rules: CompiledRules,
        addresses: Iterable[tuple[_Words, int, int, int, int]] = (),
        seed: int = 0,
        drawn: Iterable[int] = (),
    ) -> RuleBench: ...
    def evaluate(
        self, table: int, hook: int, packet: bytes, *, mac: bytes = b"", **options: Unpack[_Options]
    ) -> Evaluation: ...
    def repeat(self, table: int, hook: int, packet: bytes, times: int, **options: Unpack[_Options]) -> int: ...
