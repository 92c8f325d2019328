"""Frames of TCP conversations between clients and Services, as they arrive at the router's two interfaces."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, ip_network

import numpy as np
import numpy.typing as npt

from dataplane._fast.batch import PacketBatch
from dataplane.bench.router import CLIENT_SIDE, MACS, NETWORK_SIDE, PEERS
from dataplane.bench.services import CLIENTS, PORT, cluster_ip

SYN, ACK, PSH = 0x02, 0x10, 0x08
HEADERS = 54
FIRST_PORT, PORTS = 1024, 64_512
GAP = 1_000  # ns between two packets
_CLIENTS = ip_network(CLIENTS)
_WINDOW = 64_240

_Bytes = npt.NDArray[np.uint8]


def segments(
    side: str,
    source: npt.ArrayLike,
    source_port: npt.ArrayLike,
    destination: npt.ArrayLike,
    destination_port: npt.ArrayLike,
    *,
    flags: int,
    seq: int = 1,
    ack: int = 0,
    payload: int = 0,
) -> _Bytes:
    """TCP segments that arrive at one side, checksums and all: an array of frames, (count, 54 + payload) bytes.

    Addresses as numbers; what is not an array is the same in each.
    """
    columns = np.broadcast_arrays(source, source_port, destination, destination_port)
    src, sport, dst, dport = (np.asarray(column, np.uint64).ravel() for column in columns)
    frames = np.zeros((len(src), HEADERS + payload), np.uint8)
    frames[:, :14] = np.frombuffer(MACS[side].to_bytes(6) + PEERS[side].to_bytes(6) + b"\x08\x00", np.uint8)
    total = 40 + payload
    frames[:, 14:24] = np.frombuffer(b"\x45\x00" + total.to_bytes(2) + b"\x00\x00\x40\x00\x40\x06", np.uint8)
    _put(frames, 26, src, 4)
    _put(frames, 30, dst, 4)
    _put(frames, 34, sport, 2)
    _put(frames, 36, dport, 2)
    frames[:, 38:50] = np.frombuffer(
        seq.to_bytes(4) + ack.to_bytes(4) + bytes((0x50, flags)) + _WINDOW.to_bytes(2), np.uint8
    )
    _put(frames, 24, _checksum(frames[:, 14:34], 0), 2)
    # The pseudo header: addresses, protocol, length.
    addresses = frames[:, 26:34].reshape(-1, 4, 2).astype(np.uint64)
    pseudo = (addresses[:, :, 0] * 256 + addresses[:, :, 1]).sum(axis=1) + np.uint64(6 + 20 + payload)
    _put(frames, 50, _checksum(frames[:, 34:], pseudo), 2)
    return frames


def _put(frames: _Bytes, at: int, values: npt.NDArray[np.uint64], width: int) -> None:
    for byte in range(width):
        frames[:, at + byte] = values >> np.uint64(8 * (width - 1 - byte)) & np.uint64(255)


def _checksum(data: _Bytes, start: npt.NDArray[np.uint64] | int) -> npt.NDArray[np.uint64]:
    if data.shape[1] % 2:
        data = np.pad(data, ((0, 0), (0, 1)))
    words = data.reshape(len(data), -1, 2).astype(np.uint64)
    total = (words[:, :, 0] * 256 + words[:, :, 1]).sum(axis=1) + np.uint64(start)
    for _ in range(2):
        total = (total & np.uint64(0xFFFF)) + (total >> np.uint64(16))
    folded: npt.NDArray[np.uint64] = total ^ np.uint64(0xFFFF)
    return folded


def batch(frames: _Bytes, start_ns: int) -> PacketBatch:
    """The frames as a batch, GAP apart from `start_ns` on."""
    times = [start_ns + GAP * row for row in range(len(frames))]
    return PacketBatch.from_frames([row.tobytes() for row in frames], times=times)


class Clients:
    """Connections that nobody has had before: every flow takes another client's port."""

    def __init__(self) -> None:
        self._taken = 0

    def take(self, count: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
        """Addresses and ports of the next `count` flows. Raises ValueError when every client has used every port."""
        numbers = np.arange(self._taken, self._taken + count, dtype=np.uint64)
        self._taken += count
        if self._taken > (_CLIENTS.num_addresses - 2) * PORTS:
            raise ValueError("every client has used every port")
        first = np.uint64(int(_CLIENTS.network_address) + 1)
        return first + numbers // np.uint64(PORTS), FIRST_PORT + numbers % np.uint64(PORTS)

    def first_packets(self, services: npt.NDArray[np.int64]) -> _Bytes:
        """A SYN to each of these Services, by number."""
        source, port = self.take(len(services))
        target = np.uint64(int(cluster_ip(0))) + services.astype(np.uint64)
        return segments(CLIENT_SIDE, source, port, target, PORT, flags=SYN)


def answer(emitted: bytes) -> bytes:
    """What the endpoint answers to a SYN that has left on the network side."""
    source, destination, sport, dport = _ends(emitted)
    frames = segments(NETWORK_SIDE, destination, dport, source, sport, flags=SYN | ACK, seq=1, ack=2)
    return bytes(frames[0])


def acknowledge(first: _Bytes) -> _Bytes:
    """The third packet of conversations whose first these are."""
    return _again(first, ACK)


def data(first: _Bytes) -> _Bytes:
    """A packet of an established conversation, without payload so that it may come again."""
    return _again(first, ACK | PSH)


def _again(first: _Bytes, flags: int) -> _Bytes:
    columns: Sequence[npt.NDArray[np.uint64]] = [
        _number(first, at, width) for at, width in ((26, 4), (34, 2), (30, 4), (36, 2))
    ]
    return segments(CLIENT_SIDE, *columns, flags=flags, seq=2, ack=2)


def _number(frames: _Bytes, at: int, width: int) -> npt.NDArray[np.uint64]:
    value = np.zeros(len(frames), np.uint64)
    for byte in range(width):
        value = value * np.uint64(256) + frames[:, at + byte]
    return value


def _ends(frame: bytes) -> tuple[int, int, int, int]:
    """Source, destination and their ports of an Ethernet frame of TCP over IPv4 without options."""
    return (
        int(IPv4Address(frame[26:30])),
        int(IPv4Address(frame[30:34])),
        int.from_bytes(frame[34:36]),
        int.from_bytes(frame[36:38]),
    )
