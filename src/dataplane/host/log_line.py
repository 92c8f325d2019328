"""The lines that -j LOG and -j TRACE write into the kernel's log (net/netfilter/nf_log_syslog.c)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

_TCP, _UDP, _ICMP, _UDPLITE, _ESP, _AH, _ICMPV6 = 6, 17, 1, 136, 50, 51, 58
_PORTS = {_UDP: "UDP", _UDPLITE: "UDPLITE"}
_ECHO, _ECHO_REPLY, _UNREACHABLE, _SOURCE_QUENCH, _REDIRECT, _TIME_EXCEEDED, _PARAMETER = 8, 0, 3, 4, 5, 11, 12
_ICMP_NEEDED = {0: 4, 3: 28, 4: 28, 5: 28, 8: 4, 11: 28, 12: 28}
_TCP_FLAGS = (
    ("AE", 0x100),
    ("CWR", 0x80),
    ("ECE", 0x40),
    ("URG", 0x20),
    ("ACK", 0x10),
    ("PSH", 8),
    ("RST", 4),
    ("SYN", 2),
    ("FIN", 1),
)
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _NONE, _DESTINATION = 0, 43, 44, 59, 60


@dataclass(frozen=True, slots=True)
class LineOptions:
    """What a LOG rule adds to its lines; TRACE writes all but the MAC header's fields."""

    tcp_sequence: bool = False
    tcp_options: bool = False
    ip_options: bool = False
    macdecode: bool = False


ALL = LineOptions(tcp_sequence=True, tcp_options=True, ip_options=True)


def line(
    packet: bytes,
    *,
    prefix: str = "",
    interface_in: str = "",
    interface_out: str = "",
    port_in: str = "",
    port_out: str = "",
    mark: int = 0,
    link_header: bytes = b"",
    options: LineOptions = LineOptions(),
) -> str:
    """The line of one packet, from its network header on, without a line's end.

    port_in, port_out: the bridge's ports, where the packet is bridged. mark: of the packet; 0 is not shown.
    """
    text = f"{prefix}IN={interface_in} OUT={interface_out} "
    if port_in and port_in != interface_in:
        text += f"PHYSIN={port_in} "
    if port_out and port_out != interface_out:
        text += f"PHYSOUT={port_out} "
    if interface_in:
        text += _mac(link_header, options)
    version = packet[0] >> 4 if packet else 4
    return text + (_ip4(packet, options, mark, 0) if version == 4 else _ip6(packet, options, mark, True))


def _mac(header: bytes, options: LineOptions) -> str:
    if options.macdecode and len(header) == 14:
        return f"MACSRC={header[6:12].hex(':')} MACDST={header[:6].hex(':')} MACPROTO={header[12:].hex()} "
    return f"MAC={header.hex(':')} "


def _number(data: bytes, at: int, size: int = 2) -> int:
    return int.from_bytes(data[at : at + size], "big")


def _incomplete(data: bytes) -> str:
    return f"INCOMPLETE [{len(data)} bytes] "


def _ip4(packet: bytes, options: LineOptions, mark: int, depth: int) -> str:
    """depth: how many headers are around this one, those of the errors that quote it."""
    if len(packet) < 20:
        return "TRUNCATED"
    size = (packet[0] & 15) * 4
    tos, fragment, proto = packet[1], _number(packet, 6), packet[9]
    text = f"SRC={IPv4Address(packet[12:16])} DST={IPv4Address(packet[16:20])} "
    text += f"LEN={_number(packet, 2)} TOS=0x{tos & 0x1E:02X} PREC=0x{tos & 0xE0:02X} TTL={packet[8]} "
    text += f"ID={_number(packet, 4)} "
    text += "".join(word for word, bit in (("CE ", 0x8000), ("DF ", 0x4000), ("MF ", 0x2000)) if fragment & bit)
    later = fragment & 0x1FFF
    if later:
        text += f"FRAG:{later} "
    if options.ip_options and size > 20:
        if len(packet) < size:
            return text + "TRUNCATED"
        text += f"OPT ({packet[20:size].hex().upper()}) "
    body = packet[size:]
    if proto == _TCP:
        text += _tcp(body, bool(later), options)
    elif proto in _PORTS:
        text += _udp(body, proto, bool(later))
        if len(body) < 8 and not later:
            return text
    elif proto == _ICMP:
        text += _icmp(body, bool(later), options, depth)
    elif proto in (_AH, _ESP):
        text += _security(body, proto, bool(later))
    else:
        text += f"PROTO={proto} "
    if not depth and mark:
        text += f"MARK=0x{mark:x} "
    return text


def _tcp(body: bytes, later: bool, options: LineOptions) -> str:
    text = "PROTO=TCP "
    if later:
        return text
    if len(body) < 20:
        return text + _incomplete(body)
    text += f"SPT={_number(body, 0)} DPT={_number(body, 2)} "
    if options.tcp_sequence:
        text += f"SEQ={_number(body, 4, 4)} ACK={_number(body, 8, 4)} "
    flags = _number(body, 12)
    text += f"WINDOW={_number(body, 14)} RES=0x{(flags >> 6) & 0x38:02x} "
    text += "".join(f"{name} " for name, bit in _TCP_FLAGS if flags & bit)
    text += f"URGP={_number(body, 18)} "
    size = (body[12] >> 4) * 4
    if options.tcp_options and size > 20:
        if len(body) < size:
            return text + "OPT (TRUNCATED)"
        text += f"OPT ({body[20:size].hex().upper()}) "
    return text


def _udp(body: bytes, proto: int, later: bool) -> str:
    text = f"PROTO={_PORTS[proto]} "
    if later:
        return text
    if len(body) < 8:
        return text + _incomplete(body)
    return text + f"SPT={_number(body, 0)} DPT={_number(body, 2)} LEN={_number(body, 4)} "


def _security(body: bytes, proto: int, later: bool) -> str:
    text = "PROTO=AH " if proto == _AH else "PROTO=ESP "
    if later:
        return text
    if len(body) < (12 if proto == _AH else 8):
        return text + _incomplete(body)
    return text + f"SPI=0x{_number(body, 4 if proto == _AH else 0, 4):x} "


def _icmp(body: bytes, later: bool, options: LineOptions, depth: int) -> str:
    text = "PROTO=ICMP "
    if later:
        return text
    if len(body) < 8:
        return text + _incomplete(body)
    kind, code = body[0], body[1]
    text += f"TYPE={kind} CODE={code} "
    if len(body) - 4 < _ICMP_NEEDED.get(kind, 0):
        return text + _incomplete(body)
    if kind in (_ECHO, _ECHO_REPLY):
        return text + f"ID={_number(body, 4)} SEQ={_number(body, 6)} "
    if kind == _PARAMETER:
        return text + f"PARAMETER={body[4]} "
    if kind == _REDIRECT:
        text += f"GATEWAY={IPv4Address(body[4:8])} "
    if kind in (_REDIRECT, _UNREACHABLE, _SOURCE_QUENCH, _TIME_EXCEEDED):
        if not depth:
            text += f"[{_ip4(body[8:], options, 0, depth + 1)}] "
        if kind == _UNREACHABLE and code == 4:
            text += f"MTU={_number(body, 6)} "
    return text


def _ip6(packet: bytes, options: LineOptions, mark: int, outermost: bool) -> str:
    if len(packet) < 40:
        return "TRUNCATED"
    words = _number(packet, 0, 4)
    text = f"SRC={IPv6Address(packet[8:24]).exploded} DST={IPv6Address(packet[24:40]).exploded} "
    text += f"LEN={_number(packet, 4) + 40} TC={(words >> 20) & 0xFF} HOPLIMIT={packet[7]} FLOWLBL={words & 0xFFFFF} "
    proto, body, later = packet[6], packet[40:], False
    while proto in (_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AH, _ESP, _DESTINATION):
        if len(body) < (8 if proto == _FRAGMENT else 2):
            return text + "TRUNCATED"
        if options.ip_options:
            text += "OPT ( "
        size = (body[1] + 1) * 8
        if proto == _FRAGMENT:
            size = 8
            word = _number(body, 2)
            text += f"FRAG:{word & 0xFFF8} "
            if word & 1:
                text += "INCOMPLETE "
            text += f"ID:{_number(body, 4, 4):08x} "
            later = bool(word & 0xFFF8)
        elif proto in (_AH, _ESP):
            shown = _security(body, proto, later).removeprefix("PROTO=")
            if options.ip_options:
                text += shown
            if later or proto == _ESP or (options.ip_options and "INCOMPLETE" in shown):
                return text + (") " if options.ip_options else "")
            size = (body[1] + 2) * 4
        if options.ip_options:
            text += ") "
        proto, body = body[0], body[size:]
    if proto == _TCP:
        text += _tcp(body, later, options)
    elif proto in _PORTS:
        text += _udp(body, proto, later)
        if len(body) < 8 and not later:
            return text
    elif proto == _ICMPV6:
        text += _icmp6(body, later, options, outermost)
    else:
        text += f"PROTO={proto} "
    if outermost and mark:
        text += f"MARK=0x{mark:x} "
    return text


def _icmp6(body: bytes, later: bool, options: LineOptions, outermost: bool) -> str:
    text = "PROTO=ICMPv6 "
    if later:
        return text
    if len(body) < 8:
        return text + _incomplete(body)
    kind = body[0]
    text += f"TYPE={kind} CODE={body[1]} "
    if kind in (128, 129):
        return text + f"ID={_number(body, 4)} SEQ={_number(body, 6)} "
    if kind == 4:
        text += f"POINTER={_number(body, 4, 4):08x} "
    if kind in (1, 2, 3, 4) and outermost:
        text += f"[{_ip6(body[8:], options, 0, False)}] "
    if kind == 2:
        text += f"MTU={_number(body, 4, 4)} "
    return text
