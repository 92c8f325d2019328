"""The frames that are measured with are what they say: whole, with good checksums, each flow a new one."""

import numpy as np
import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from dataplane.bench import traffic
from dataplane.bench.router import CLIENT_SIDE, MACS, NETWORK_SIDE
from dataplane.bench.services import CLIENTS, cluster_ip, endpoint_ip, manifests
from dataplane.errors import ModelError


def checked(frame: bytes) -> Ether:
    """The frame, once scapy has made the same checksums."""
    packet = Ether(frame)
    again = Ether(frame)
    del again[IP].chksum, again[TCP].chksum
    assert bytes(again) == frame
    return packet


def test_first_packets_are_good_syns_to_their_services() -> None:
    frames = traffic.Clients().first_packets(np.array([0, 299, 30_000]))
    for frame, service in zip(frames, (0, 299, 30_000), strict=True):
        packet = checked(frame.tobytes())
        assert packet[IP].dst == str(cluster_ip(service))
        assert (packet[TCP].dport, str(packet[TCP].flags)) == (80, "S")
        assert packet.dst.replace(":", "") == f"{MACS[CLIENT_SIDE]:012x}"


def test_answers_and_what_follows_are_of_the_same_conversation() -> None:
    first = traffic.Clients().first_packets(np.array([7]))
    syn = checked(first[0].tobytes())
    answer = checked(traffic.answer(first[0].tobytes()))
    assert (answer[IP].src, answer[TCP].sport) == (syn[IP].dst, syn[TCP].dport)
    assert (answer[TCP].ack, str(answer[TCP].flags)) == (syn[TCP].seq + 1, "SA")
    assert answer.dst.replace(":", "") == f"{MACS[NETWORK_SIDE]:012x}"
    for again, flags in ((traffic.acknowledge(first), "A"), (traffic.data(first), "PA")):
        packet = checked(again[0].tobytes())
        assert (packet[IP].src, packet[TCP].sport, packet[IP].dst) == (syn[IP].src, syn[TCP].sport, syn[IP].dst)
        assert str(packet[TCP].flags) == flags


def test_payload_is_part_of_the_checksum() -> None:
    frame = traffic.segments(CLIENT_SIDE, 0x0A640001, 5, 0x0A640002, 6, flags=traffic.ACK, payload=7)[0].tobytes()
    assert len(checked(frame)) == 54 + 7


def test_no_two_connections_are_the_same_and_clients_run_out_with_a_word() -> None:
    clients = traffic.Clients()
    seen = set()
    for count in (1, 70_000, 70_000):
        address, port = clients.take(count)
        seen |= set(zip(address.tolist(), port.tolist(), strict=True))
    assert len(seen) == 140_001
    with pytest.raises(ValueError, match="every port"):
        clients.take(1 << 26)


def test_clusters_too_large_or_too_small_are_refused() -> None:
    with pytest.raises(ModelError, match="at most 600000"):
        manifests(60_001, 10)
    with pytest.raises(ModelError, match="at least one"):
        manifests(0, 10)
    assert CLIENTS.startswith("10.100.254.")
    assert str(endpoint_ip(599_999)).startswith("10.109.")
    assert int(endpoint_ip(599_990)) < int.from_bytes(bytes((10, 100, 254, 0)))
