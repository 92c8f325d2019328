"""What a reader of a dump has to say besides the values."""

from __future__ import annotations

__all__ = ["Notes"]


class Notes:
    """Collects, while texts are read, what is kept but not modelled, and what is odd. Equal remarks are counted."""

    def __init__(self) -> None:
        self._unmodelled: dict[str, list[str]] = {}
        self._warnings: dict[str, None] = {}

    def unmodelled(self, what: str, where: str) -> None:
        """`what` ("routes.json: encap") was met at `where` ("10.19.0.0/16") and is kept as text only."""
        self._unmodelled.setdefault(what, []).append(where)

    def warn(self, message: str) -> None:
        self._warnings.setdefault(message)

    @property
    def unmodelled_lines(self) -> tuple[str, ...]:
        return tuple(
            f"{what} ({places[0]})" if len(places) == 1 else f"{what} ({len(places)} times, first {places[0]})"
            for what, places in self._unmodelled.items()
        )

    @property
    def warning_lines(self) -> tuple[str, ...]:
        return tuple(self._warnings)
