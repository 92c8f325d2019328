"""What the matches on ICMP and ICMPv6 types share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from dataplane.host.xtables.declare import Kind, Scope
from dataplane.host.xtables.values import integer


class IcmpType(NamedTuple):
    """A type and a range of codes: 0 to 255 where the code does not matter."""

    type: int
    low: int = 0
    high: int = 255


def icmp_kind(names: Mapping[str, IcmpType], any_type: int | None) -> Kind:
    """`name`, `type` or `type/code`; a name may be cut short where that is unambiguous. any_type: prints as `any`."""

    def read(text: str, scope: Scope) -> IcmpType:
        name = text.lower()
        found = {value for key, value in names.items() if key == name}
        if not found and not name[:1].isdigit():
            found = {value for key, value in names.items() if key.startswith(name)}
        if len(found) > 1:
            raise ValueError(f"{text!r} is ambiguous")
        if found:
            return found.pop()
        if not name[:1].isdigit():
            raise ValueError(f"{text!r} is no ICMP type")
        kind, slash, code = name.partition("/")
        low = integer(kind, 0, 255)
        if not slash:
            return IcmpType(low)
        return IcmpType(low, integer(code, 0, 255), integer(code, 0, 255))

    def show(value: IcmpType) -> str:
        if value.type == any_type:
            return "any"
        return str(value.type) if (value.low, value.high) == (0, 255) else f"{value.type}/{value.low}"

    return Kind(read, show)
