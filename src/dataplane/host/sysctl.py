"""Sysctls of one network namespace: `sysctl -a`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

__all__ = ["Sysctl"]


class Sysctl(Mapping[str, str]):
    """The settings by their dotted names, in the order given."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = dict(values or {})

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)
