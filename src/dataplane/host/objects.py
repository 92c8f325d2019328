"""The JSON of `ip -json` and `bridge -json`: read with places for errors, printed in the tools' own layout.

iproute2 prints one line without spaces; a flag that is set is `"name":null` or a word in a list; numbers with a point
keep their digits (`0.00`); an object may hold one key twice (a route's `dst` and its encapsulation's).
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar, overload

from dataplane.errors import DumpError
from dataplane.host.notation import mac_number
from dataplane.host.notes import Notes

__all__ = ["Entry", "keys", "patch", "read_objects", "write_objects"]

T = TypeVar("T")
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


SCOPES = {"global": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}


def keys(text: str) -> frozenset[str]:
    """The words of a text: the fields that a format knows."""
    return frozenset(text.split())


class _Repeated(dict[str, Any]):
    """An object in which a key comes twice: looks like a dict of the first values, prints as it came."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(reversed(pairs))
        self.pairs = pairs


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    return result if len(result) == len(pairs) else _Repeated(pairs)


def read_objects(text: str, file: str) -> list[dict[str, Any]]:
    """The objects of a JSON list. DumpError with the line where it does not parse, with the entry if it is no object.

    Empty objects, which older tools print for what a filter left out, are skipped. An empty text is an empty list.
    """
    if not text.strip():
        return []
    try:
        document = json.loads(text, object_pairs_hook=_object, parse_float=Decimal, strict=False)
    except json.JSONDecodeError as error:
        raise DumpError(file, f"line {error.lineno} column {error.colno}", "", error.msg) from None
    except (RecursionError, ValueError) as error:
        raise DumpError(file, "line 1", "", f"not JSON that a tool prints: {error}") from None
    if not isinstance(document, list):
        raise DumpError(file, "line 1", "", "a list of objects is expected")
    for number, entry in enumerate(document, 1):
        if not isinstance(entry, dict):
            raise DumpError(file, f"entry {number}", "", f"an object is expected, not {_shown(entry)}")
    return [entry for entry in document if entry]


def write_objects(objects: Sequence[Mapping[str, Any]]) -> str:
    """One line, as `ip -json` prints it, with its newline."""
    return "[" + ",".join(_text(entry) for entry in objects) + "]\n"


_ESCAPES = {
    "\t": "\\t",
    "\n": "\\n",
    "\r": "\\r",
    "\f": "\\f",
    "\b": "\\b",
    "\\": "\\\\",
    '"': '\\"',
}
_ESCAPED = str.maketrans(_ESCAPES)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return '"' + value.translate(_ESCAPED) + '"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        pairs = value.pairs if isinstance(value, _Repeated) else value.items()
        return "{" + ",".join(_text(key) + ":" + _text(item) for key, item in pairs) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_text, value)) + "]"
    return str(value)


def patch(raw: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """`raw` with the changes that lead from `before` to `after`; what neither knows of stays as it is.

    raw: the tool's object; before: what we would print for the value that was read from it; after: for the value now.
    New keys take the place that they have in `after`.
    """
    result: dict[str, Any] = {}
    for key, value in raw.items():
        if key in before and key not in after:
            continue
        result[key] = _patched(value, before.get(key), after[key]) if key in after else value
    if isinstance(raw, _Repeated) and result == dict(raw):
        return raw
    missing = [key for key in after if key not in result and before.get(key, _ABSENT) != after[key]]
    for key in missing:
        order = list(after)
        previous = next((name for name in reversed(order[: order.index(key)]) if name in result), None)
        items = list(result.items())
        at = 0 if previous is None else [name for name, _ in items].index(previous) + 1
        items.insert(at, (key, after[key]))
        result = dict(items)
    return result


_ABSENT = object()


def _patched(raw: Any, before: Any, after: Any) -> Any:
    if before == after:
        return raw
    if isinstance(raw, dict) and isinstance(before, dict) and isinstance(after, dict):
        return patch(raw, before, after)
    if (
        isinstance(raw, list)
        and isinstance(before, list)
        and isinstance(after, list)
        and len(raw) == len(before) == len(after)
    ):
        return [_patched(*values) for values in zip(raw, before, after, strict=True)]
    return after


def _shown(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= 40 else text[:37] + "..."


class Entry:
    """One object of a tool's JSON, read field by field: what is wrong is named by file, entry and field."""

    __slots__ = ("file", "raw", "where")

    def __init__(self, raw: Mapping[str, Any], file: str, where: str) -> None:
        self.raw = raw
        self.file = file
        self.where = where

    def error(self, field: str, message: str) -> DumpError:
        return DumpError(self.file, self.where, field, message)

    def note_unknown(self, known: frozenset[str], notes: Notes, prefix: str = "") -> None:
        """Note the fields that are not among those that the format models."""
        for key in self.raw:
            if key not in known:
                notes.unmodelled(f"{self.file}: {prefix}{key}", self.where)

    @overload
    def text(self, key: str) -> str: ...
    @overload
    def text(self, key: str, default: T) -> str | T: ...
    def text(self, key: str, default: Any = ...) -> Any:
        value = self.raw.get(key)
        if value is None and (default is not ... or key in self.raw):
            if default is ...:
                raise self.error(key, "text is expected, not null")
            return default
        if value is None:
            raise self.error(key, "is missing")
        if not isinstance(value, str):
            raise self.error(key, f"text is expected, not {_shown(value)}")
        return value

    @overload
    def number(self, key: str, *, most: int = ...) -> int: ...
    @overload
    def number(self, key: str, default: T, *, most: int = ...) -> int | T: ...
    def number(self, key: str, default: Any = ..., *, most: int = 0xFFFFFFFF) -> Any:
        """A number from 0 to `most`, or a text of one: decimal, or hexadecimal with 0x."""
        value = self.raw.get(key)
        if value is None:
            if default is ...:
                raise self.error(key, "is missing")
            return default
        number = value
        if isinstance(value, str):
            try:
                number = int(value, 0)
            except ValueError:
                number = None
        if isinstance(number, bool) or not isinstance(number, int):
            raise self.error(key, f"a number is expected, not {_shown(value)}")
        if not 0 <= number <= most:
            raise self.error(key, f"{_shown(value)} is not from 0 to {most}")
        return number

    def true(self, key: str, default: bool = False) -> bool:
        """A boolean, or 0 or 1."""
        value = self.raw.get(key, default)
        if not isinstance(value, (bool, int)) or value not in (0, 1):
            raise self.error(key, f"true or false is expected, not {_shown(value)}")
        return bool(value)

    def has(self, key: str) -> bool:
        """Whether a flag is there: null or true."""
        return key in self.raw and self.raw[key] is not False

    def scope(self, key: str) -> str:
        """How far an address or a route is known: a name of the kernel's, or a number as text."""
        value = str(self.raw.get(key, "global"))
        if value not in SCOPES and not (value.isascii() and value.isdigit() and int(value[:4]) < 256):
            raise self.error(key, f"{value!r} is neither {', '.join(SCOPES)} nor a number below 256")
        return value

    def words(self, key: str) -> tuple[str, ...]:
        value = self.raw.get(key, ())
        if not isinstance(value, (list, tuple)) or not all(isinstance(word, str) for word in value):
            raise self.error(key, f"a list of words is expected, not {_shown(value)}")
        return tuple(value)

    def objects(self, key: str) -> list[Entry]:
        """The objects of a list of objects."""
        value = self.raw.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.error(key, f"a list of objects is expected, not {_shown(value)}")
        return [Entry(item, self.file, f"{self.where}: {key}[{number}]") for number, item in enumerate(value)]

    def object(self, key: str) -> Entry:
        """The object of this key; an empty one where it is not there."""
        value = self.raw.get(key, {})
        if not isinstance(value, dict):
            raise self.error(key, f"an object is expected, not {_shown(value)}")
        return Entry(value, self.file, f"{self.where}: {key}")

    def _parsed(self, key: str, read: Callable[[str], T], what: str) -> T | None:
        value = self.raw.get(key)
        if value is None:
            return None
        try:
            if isinstance(value, str):
                return read(value)
        except ValueError:
            pass
        raise self.error(key, f"{what} is expected, not {_shown(value)}")

    def address(self, key: str, family: int = 0) -> IPAddress | None:
        value = self._parsed(key, ipaddress.ip_address, "an address")
        if value is not None and family and value.version != family:
            raise self.error(key, f"an IPv{family} address is expected, not {value}")
        return value

    def network(self, key: str, family: int = 0) -> IPNetwork | None:
        """A prefix; "default" needs the family."""
        if self.raw.get(key) == "default":
            return ipaddress.ip_network("0.0.0.0/0" if family == 4 else "::/0")
        value = self._parsed(key, ipaddress.ip_network, "a prefix")
        if value is not None and family and value.version != family:
            raise self.error(key, f"an IPv{family} prefix is expected, not {value}")
        return value

    def mac(self, key: str) -> int | None:
        return self._parsed(key, mac_number, "a MAC address")
