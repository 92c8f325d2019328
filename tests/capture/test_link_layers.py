"""The decode kernel against scapy, for each link type."""

import struct
from collections.abc import Callable

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, CookedLinux, CookedLinuxV2, Dot1AD, Dot1Q, Ether, Loopback
from scapy.packet import Packet, Raw

from dataplane._fast.batch import PacketBatch
from dataplane._fast.link import LinkType

NONE = (0xFFFF, 0)


def decode(frame: bytes, link_type: int) -> tuple[int, int]:
    batch = PacketBatch.from_frames([frame], link_type=link_type)
    return int(batch.network[0]), int(batch.protocol[0])


def network_of(packet: Packet) -> tuple[int, int]:
    """What scapy says: where its network layer starts, and which one it is."""
    packet = packet.__class__(bytes(packet))
    for layer, ethertype in ((IP, 0x0800), (IPv6, 0x86DD), (ARP, 0x0806)):
        if layer in packet:
            return len(bytes(packet)) - len(bytes(packet[layer])), ethertype
    raise AssertionError("scapy sees no network layer")


# Both addresses are given: scapy would ask the machine's network for what is missing.
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")

LINKS: dict[str, tuple[int, Callable[[], Packet]]] = {
    "ethernet": (1, lambda: ETHER.copy()),
    "802.1Q": (1, lambda: ETHER / Dot1Q(vlan=5)),
    "802.1ad": (1, lambda: ETHER / Dot1AD(vlan=7) / Dot1Q(vlan=5)),
    "three tags": (1, lambda: ETHER / Dot1AD(vlan=7) / Dot1Q(vlan=5) / Dot1Q(vlan=6)),
    "cooked": (113, lambda: CookedLinux(pkttype=4, lladdrtype=1, lladdrlen=6)),
    "cooked 2": (276, lambda: CookedLinuxV2(ifindex=3, lladdrtype=1, pkttype=0, lladdrlen=6)),
    "cooked with a tag": (113, lambda: CookedLinux(lladdrtype=1, proto=0x8100) / Dot1Q(vlan=9)),
}
NETWORKS: dict[str, Callable[[], Packet]] = {
    "ip4": lambda: IP(src="10.0.0.1", dst="10.0.0.2") / UDP(),
    "ip6": lambda: IPv6(src="fd00::1", dst="fd00::2") / UDP(),
    "arp": lambda: ARP(psrc="10.0.0.1", pdst="10.0.0.2", hwsrc="02:00:00:00:00:01"),
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("link", LINKS)
def test_headers_with_an_ethertype(link: str, network: str) -> None:
    link_type, header = LINKS[link]
    packet = header() / NETWORKS[network]()
    at, ethertype = network_of(packet)
    assert decode(bytes(packet), link_type) == (at, ethertype)
    assert decode(bytes(packet)[:at], link_type) == (at, ethertype), "the link header alone is enough"
    for length in range(at):
        assert decode(bytes(packet)[:length], link_type) == NONE, f"cut at {length}"


@pytest.mark.parametrize("link_type", [LinkType.LINKTYPE_RAW, LinkType.LINKTYPE_RAW_BSD, LinkType.LINKTYPE_RAW_OPENBSD])
def test_raw_ip_tells_its_version(link_type: int) -> None:
    assert decode(bytes(NETWORKS["ip4"]()), link_type) == (0, 0x0800)
    assert decode(bytes(NETWORKS["ip6"]()), link_type) == (0, 0x86DD)
    assert decode(b"\x50" + bytes(30), link_type) == NONE
    assert decode(b"", link_type) == NONE


def test_raw_ip_of_one_version_is_believed() -> None:
    assert decode(bytes(NETWORKS["ip4"]()), LinkType.LINKTYPE_IPV4) == (0, 0x0800)
    assert decode(bytes(NETWORKS["ip6"]()), LinkType.LINKTYPE_IPV6) == (0, 0x86DD)


@pytest.mark.parametrize("order", ["<", ">"])
def test_null_has_the_byte_order_of_its_machine(order: str) -> None:
    for family, ethertype in ((2, 0x0800), (10, 0x86DD), (24, 0x86DD), (28, 0x86DD), (30, 0x86DD)):
        frame = struct.pack(order + "I", family) + b"\x45"
        assert decode(frame, LinkType.LINKTYPE_NULL) == (4, ethertype)
        assert decode(frame[:3], LinkType.LINKTYPE_NULL) == NONE
        expected = (4, ethertype) if order == ">" else NONE
        assert decode(frame, LinkType.LINKTYPE_LOOP) == expected, "LOOP is in network order"
    for unknown in (0, 7, 16, 0x0202, 0xFFFFFFFF):
        assert decode(struct.pack(order + "I", unknown), LinkType.LINKTYPE_NULL) == NONE


def test_null_as_scapy_builds_it() -> None:
    packet = Loopback() / NETWORKS["ip4"]()
    assert decode(bytes(packet), LinkType.LINKTYPE_NULL) == network_of(packet)


def test_a_length_instead_of_an_ethertype_is_802_2() -> None:
    assert decode(bytes(12) + b"\x00\x26\x42\x42\x03", 1) == (14, 0x0004)
    assert decode(bytes(12) + b"\x05\xff", 1) == (14, 0x0004)
    assert decode(bytes(12) + b"\x06\x00", 1) == (14, 0x0600)


def test_cooked_packets_whose_protocol_is_no_ethertype() -> None:
    for hardware in (803, 824):
        assert decode(bytes(CookedLinux(lladdrtype=hardware, proto=0x0800) / Raw(b"x")), 113) == NONE
        assert decode(bytes(CookedLinuxV2(lladdrtype=hardware, proto=0x0800) / Raw(b"x")), 276) == NONE


def test_tags_without_end_end() -> None:
    frame = bytes(12) + b"\x81\x00\x00\x01" * 20_000 + b"\x08\x00"
    assert decode(frame, 1) == NONE
    deep = bytes(12) + b"\x88\xa8\x00\x01" * 1000 + b"\x08\x00"
    assert decode(deep, 1) == (len(deep), 0x0800)


def test_other_link_types_are_not_guessed() -> None:
    assert decode(bytes(NETWORKS["ip4"]()), 105) == NONE
