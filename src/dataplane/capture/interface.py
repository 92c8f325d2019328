"""What a capture says of itself: its interfaces, and what was counted in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Counts", "Interface", "link_type_name"]

# Those that are read, and those that people meet and ask about (tcpdump.org/linktypes.html).
_LINK_TYPE_NAMES = {
    0: "NULL",
    1: "ETHERNET",
    6: "IEEE802_5",
    8: "SLIP",
    9: "PPP",
    12: "RAW",
    14: "RAW",
    50: "PPP_HDLC",
    51: "PPP_ETHER",
    101: "RAW",
    104: "C_HDLC",
    105: "IEEE802_11",
    108: "LOOP",
    113: "LINUX_SLL",
    127: "IEEE802_11_RADIOTAP",
    189: "USB_LINUX",
    192: "PPI",
    195: "IEEE802_15_4_WITHFCS",
    201: "BLUETOOTH_HCI_H4_WITH_PHDR",
    220: "USB_LINUX_MMAPPED",
    227: "CAN_SOCKETCAN",
    228: "IPV4",
    229: "IPV6",
    239: "NFLOG",
    247: "INFINIBAND",
    249: "USBPCAP",
    253: "NETLINK",
    276: "LINUX_SLL2",
}


def link_type_name(link_type: int) -> str:
    """The name after LINKTYPE_, or "" where this list has none."""
    return _LINK_TYPE_NAMES.get(link_type, "")


@dataclass(frozen=True, slots=True)
class Interface:
    """Where packets were captured.

    name:         if_name; "" in a pcap file, which has none
    link_type:    LINKTYPE_ value
    resolution:   ticks of the timestamps per second
    snap_length:  longest packet that the capture keeps, bytes; 0: no limit
    offset:       seconds that were added to the timestamps (if_tsoffset)
    description:  if_description
    comment:      the description block's comments, one per line
    section:      number of the pcapng section, from 0
    """

    name: str
    link_type: int
    resolution: int = 1_000_000
    snap_length: int = 0
    offset: int = 0
    description: str = ""
    comment: str = ""
    section: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """What was read so far: every packet and every block of the file is in one of these.

    packets:         given out
    bytes:           captured bytes of them
    wire_bytes:      bytes on the wire of them
    truncated:       packets captured with fewer bytes than were on the wire
    short_original:  packets that stated fewer bytes on the wire than were captured; the captured ones count
    beyond_snap:     packets longer than the snap length that the file states
    untimed:         packets without a timestamp (Simple Packet Block); they take that of the packet before
    clamped:         packets with a time that 64 bits of ns cannot hold; they take the nearest one
    sections:        of a pcapng file
    comments:        of sections, interfaces and packets
    unknown_blocks:  blocks left out: neither sections, interfaces nor packets
    blocks:          the same by kind: name_resolution, statistics, secrets, journal, custom, unknown
    """

    packets: int = 0
    bytes: int = 0
    wire_bytes: int = 0
    truncated: int = 0
    short_original: int = 0
    beyond_snap: int = 0
    untimed: int = 0
    clamped: int = 0
    sections: int = 0
    comments: int = 0
    unknown_blocks: int = 0
    blocks: Mapping[str, int] = field(default_factory=dict)
