"""What DNAT, SNAT, MASQUERADE and REDIRECT share: ranges of addresses and ports (iptables: libxt_NAT.c)."""

from __future__ import annotations

from typing import NamedTuple

from dataplane._fast.ruleset import NatFlag, TargetKind
from dataplane.host.xtables.declare import DCCP, ICMP, ICMPV6, SCTP, TCP, UDP, Extension, Kind, Refused, Scope
from dataplane.host.xtables.predicate import Action
from dataplane.host.xtables.values import address_number, port, show_address

WITH_PORTS = frozenset({TCP, UDP, SCTP, DCCP, ICMP, ICMPV6})


class PortRange(NamedTuple):
    low: int
    high: int
    base: int | None = None


class NatRange(NamedTuple):
    """Addresses from low to high (None: keep it) and ports."""

    low: int | None
    high: int | None
    ports: PortRange | None
    family: int


def read_ports(text: str, base_allowed: bool) -> PortRange:
    """`80`, `80-90`, and where it is allowed `80-90/70`."""
    numbers, slash, base_text = text.partition("/")
    low_text, dash, high_text = numbers.partition("-")
    low = port(low_text)
    high = port(high_text) if dash else low
    if low > high:
        raise ValueError(f"port range {text} runs backwards")
    if slash and not (base_allowed and dash):
        raise ValueError(f"{text!r} is no port range")
    return PortRange(low, high, port(base_text) if slash else None)


def show_ports(ports: PortRange) -> str:
    shown = str(ports.low) if ports.low == ports.high else f"{ports.low}-{ports.high}"
    return shown if ports.base is None else f"{shown}/{ports.base}"


def _range(base_allowed: bool) -> Kind:
    def read(text: str, scope: Scope) -> NatRange:
        addresses, ports_text = text, ""
        if scope.family == 4 or (text.startswith(":") and "::" not in text):
            addresses, _, ports_text = text.partition(":")
        elif text.startswith("["):
            addresses, closed, rest = text[1:].partition("]")
            if not closed or (rest and not rest.startswith(":")):
                raise ValueError(f"{text!r} is no address and port")
            ports_text = rest[1:]
        if not addresses and not ports_text:
            raise ValueError("neither an address nor a port")
        ports = read_ports(ports_text, base_allowed) if ports_text else None
        if text.endswith(":") and scope.family == 4:
            raise ValueError(f"{text!r} ends without a port")
        if not addresses:
            return NatRange(None, None, ports, scope.family)
        first, dash, last = addresses.partition("-")
        low = address_number(first, scope.family)
        high = address_number(last, scope.family) if dash else low
        return NatRange(low, high, ports, scope.family)

    return Kind(read, _show)


def _show(value: NatRange) -> str:
    shown = ""
    if value.low is not None and value.high is not None:
        shown = show_address(value.low, value.family)
        if value.high != value.low:
            shown += f"-{show_address(value.high, value.family)}"
    if value.ports is None:
        return shown
    if value.family == 6 and shown:
        shown = f"[{shown}]"
    return f"{shown}:{show_ports(value.ports)}"


DESTINATION = _range(base_allowed=True)
SOURCE = _range(base_allowed=False)
PORTS = Kind(lambda text, scope: read_ports(text, base_allowed=False), show_ports)


def need_protocol(option: str, ports: PortRange | None, scope: Scope) -> None:
    """Ports ask for a protocol that has them; `-p` may be inverted, as it may for iptables."""
    if ports is not None and abs(scope.protocol) not in WITH_PORTS:
        raise Refused(f"--{option}", "ports need a protocol that has them (-p tcp, udp, sctp or dccp)")


def nat_action(
    kind: TargetKind, target: Extension, span: NatRange | None = None, ports: PortRange | None = None
) -> Action:
    flags = 0
    first = last = 0
    if span is not None and span.low is not None and span.high is not None:
        flags |= NatFlag.NAT_MAP_IPS
        # Ends in the wrong order: the kernel takes them as they are, and so does the engine.
        first, last = span.low, span.high
    if span is not None:
        ports = span.ports
    if ports is not None:
        flags |= NatFlag.NAT_PORTS
        if ports.base is not None:
            flags |= NatFlag.NAT_PORT_OFFSET
    for option, flag in (
        ("random", NatFlag.NAT_RANDOM),
        ("random-fully", NatFlag.NAT_RANDOM_FULLY),
        ("persistent", NatFlag.NAT_PERSISTENT),
    ):
        if target.has(option):
            flags |= flag
    return Action(
        kind,
        flags=int(flags),
        min_port=ports.low if ports else 0,
        max_port=ports.high if ports else 0,
        base_port=ports.base or 0 if ports else 0,
        first=first,
        last=last,
        family=target.scope.family,
    )
