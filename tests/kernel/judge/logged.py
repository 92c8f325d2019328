"""What rules write down: read from the kernel over netlink (nfnetlink_log), and shown as the emulator's.

TRACE goes to whatever logger a namespace has chosen; here it is nfnetlink_log, as for NFLOG, and group 0 takes it. LOG
writes into the machine's own log, and outside of its first namespace only where net.netfilter.nf_log_all_netns says so: its
lines are compared with those that `log_lines.py` has kept.
"""

import socket
import struct
from typing import Any

from judge.namespace import Namespace

_NETFILTER = 12  # NETLINK_NETFILTER
_LOG = 4  # NFNL_SUBSYS_ULOG
_PACKET, _CONFIG = 0, 1
_BIND_GROUP = 1
_COMMAND, _MODE, _QUEUE = 1, 2, 5  # attributes of a configuration
_COPY_PACKET = 2
_MARK, _INDEV, _OUTDEV, _PHYSIN, _PHYSOUT, _PAYLOAD, _PREFIX, _HARDWARE_HEADER = 2, 4, 5, 6, 7, 9, 10, 16


class LogListener:
    """Listens to groups of nfnetlink_log in a namespace, from its making on."""

    def __init__(self, namespace: Namespace, groups: tuple[int, ...]) -> None:
        self._namespace = namespace
        for family in (2, 10):
            namespace.sysctl(f"net.netfilter.nf_log.{family}", "nfnetlink_log")
        with namespace:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind((0, 0))
        for group in groups:
            for attribute in (
                _attribute(_COMMAND, bytes([_BIND_GROUP])),
                _attribute(_MODE, struct.pack(">IBx", 0xFFFF, _COPY_PACKET)),
                _attribute(_QUEUE, struct.pack(">I", 1)),  # each packet at once
            ):
                body = struct.pack(">BBH", 0, 0, group) + attribute
                kind = (_LOG << 8) | _CONFIG
                self._socket.send(struct.pack("=IHHII", 16 + len(body), kind, 5, 0, 0) + body)
                error = struct.unpack_from("=i", self._socket.recv(4096), 16)[0]
                if error:
                    raise OSError(-error, "nfnetlink_log")
        self._socket.setblocking(False)

    def read(self) -> list[str]:
        """What was written down since the last call."""
        with self._namespace:
            names = dict(socket.if_nameindex())
        found = []
        while True:
            try:
                data = self._socket.recv(1 << 17)
            except BlockingIOError:
                return found
            while data:
                size, kind = struct.unpack_from("=IH", data)
                if kind == (_LOG << 8) | _PACKET:
                    given = _attributes(data[20:size])
                    device = {
                        number: names.get(struct.unpack(">I", given[number])[0], "?") if number in given else ""
                        for number in (_INDEV, _OUTDEV, _PHYSIN, _PHYSOUT)
                    }
                    found.append(
                        _row(
                            given.get(_PREFIX, b"").rstrip(b"\0").decode(),
                            *device.values(),
                            struct.unpack(">I", given.get(_MARK, b"\0\0\0\0"))[0],
                            given.get(_HARDWARE_HEADER, b""),
                            given.get(_PAYLOAD, b""),
                        )
                    )
                data = data[(size + 3) & ~3 :]

    def close(self) -> None:
        self._socket.close()


def emulated(host: Any) -> list[str]:
    """The same of an emulator's host. Of packets that TRACE marked nftables tells xtables-monitor, and not the log."""
    rulesets = {4: host.config.iptables, 6: host.config.ip6tables}
    return [
        _row(
            one.prefix,
            one.interface_in,
            one.interface_out,
            one.port_in,
            one.port_out,
            one.mark,
            one.link_header if one.interface_in else b"",
            one.packet,
        )
        for one in host.logged()
        if one.kind == "NFLOG" or (one.kind == "TRACE" and rulesets[one.family].backend == "legacy")
    ]


def _row(
    prefix: str, indev: str, outdev: str, physin: str, physout: str, mark: int, link_header: bytes, packet: bytes
) -> str:
    devices = f"in={indev} out={outdev}" + (f" physin={physin} physout={physout}" if physin or physout else "")
    return f"{prefix!r} {devices} mark={mark:#x} link={link_header.hex()} {packet.hex()}"


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= 4:
        size, kind = struct.unpack_from("=HH", data)
        found[kind & 0x3FFF] = data[4:size]
        data = data[(size + 3) & ~3 :]
    return found
