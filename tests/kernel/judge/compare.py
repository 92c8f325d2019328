"""Two recordings held against each other: frames, rule counters, connections, interface counters, drops."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import zip_longest

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6MLReport2, IPv6, IPv6ExtHdrFragment
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet

from judge.random_masks import tunnels_joined, without_choices
from judge.recording import Frame, Recording, Step, decode
from judge.times import without_times


@dataclass(frozen=True, slots=True)
class Difference:
    step: int  # index; -1: at the end
    what: str  # "frame at eth1", "rule", "connection", "interface", "drop"
    kernel: str
    emulator: str

    def __str__(self) -> str:
        where = "at the end" if self.step < 0 else f"step {self.step}"
        return f"{where}: {self.what}\n  kernel:   {self.kernel}\n  emulator: {self.emulator}"


# ---- frames ---------------------------------------------------------------------------------------------------------


def _layers(packet: Packet) -> Iterable[Packet]:
    while packet:
        yield packet
        packet = packet.payload


def _clear(kind: type[Packet], *names: str) -> Callable[[Packet], None]:
    def clear(packet: Packet) -> None:
        for layer in _layers(packet):
            if isinstance(layer, kind):
                for name in names:
                    setattr(layer, name, 0)

    return clear


def _clear_tunnel(packet: Packet) -> None:
    """The outer header of a VXLAN packet, as far as chance goes: source port, IP id, and their checksums."""
    for layer in _layers(packet):
        if isinstance(layer, UDP) and isinstance(layer.payload, VXLAN):
            layer.sport = 0
            layer.chksum = 0 if layer.chksum == 0 else 1
            if isinstance(layer.underlayer, IP):
                layer.underlayer.id = 0
                layer.underlayer.chksum = 0


# What cannot be compared in a scenario, by the name that its decorator gives. README.md says why for each.
MASKS: dict[str, Callable[[Packet], None]] = {
    "ip id": _clear(IP, "id", "chksum"),
    "tcp sequence": _clear(TCP, "seq", "ack", "chksum"),
    "ports": _clear(UDP, "sport", "dport", "chksum"),
    "tunnel": _clear_tunnel,
    "flow label": _clear(IPv6, "fl"),
    "time left": lambda packet: None,  # of connections of IPVS
    "ipv6 fragment id": _clear(IPv6ExtHdrFragment, "id"),
    "time of day": lambda packet: None,  # see judge/times.py
}


def masked(frame: Frame, masks: Iterable[str]) -> bytes:
    names = list(masks)
    if names == ["chosen"]:
        return without_choices(frame.data) if frame.ethernet else frame.data
    data = without_times(frame.data) if "time of day" in names and frame.ethernet else frame.data
    if set(names) <= {"time of day"}:
        return data
    packet = decode(data, frame.ethernet)
    for name in names:
        MASKS[name](packet)
    return bytes(packet)


def describe(frame: Frame | None) -> str:
    return "nothing" if frame is None else f"{frame.packet.summary()} [{len(frame.data)}] {frame.data.hex()}"


def _frames(index: int, word: str, ours: list[Frame], theirs: list[Frame], masks: tuple[str, ...]) -> list[Difference]:
    found = []
    interfaces = dict.fromkeys(frame.interface for frame in [*ours, *theirs])
    for interface in interfaces:
        left = [frame for frame in ours if frame.interface == interface]
        right = [frame for frame in theirs if frame.interface == interface]
        for i in range(max(len(left), len(right))):
            a = left[i] if i < len(left) else None
            b = right[i] if i < len(right) else None
            if a is None or b is None or masked(a, masks) != masked(b, masks):
                found.append(Difference(index, f"{word} at {interface}", describe(a), describe(b)))
    return found


def _without_reports(frames: list[Frame]) -> list[Frame]:
    """The kernel joins groups, and reports it whenever its timer says so (MLDv2, IGMPv3)."""
    return [frame for frame in frames if not _is_report(frame)]


def _is_report(frame: Frame) -> bool:
    return ICMPv6MLReport2 in frame.packet or (IP in frame.packet and frame.packet[IP].dst == "224.0.0.22")


# ---- rules ----------------------------------------------------------------------------------------------------------


def rule_lines(text: str) -> dict[str, list[str]]:
    """Lines of iptables-save -c by table, without comments; tables and user chains may come in any order."""
    tables: dict[str, list[str]] = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
            tables[table] = []
        elif line.startswith((":", "[")):
            tables[table].append(line)
    return {
        table: sorted(line for line in lines if line[0] == ":") + [line for line in lines if line[0] != ":"]
        for table, lines in tables.items()
    }


def _rules(index: int, ours: dict[int, str], theirs: dict[int, str]) -> list[Difference]:
    found = []
    for family, text in ours.items():
        left, right = rule_lines(text), rule_lines(theirs.get(family, ""))
        for table in dict.fromkeys([*left, *right]):
            a, b = left.get(table, []), right.get(table, [])
            for i in range(max(len(a), len(b))):
                x = a[i] if i < len(a) else "nothing"
                y = b[i] if i < len(b) else "nothing"
                if x != y:
                    found.append(Difference(index, f"rule of {table} (IPv{family})", x, y))
    return found


# ---- logs -----------------------------------------------------------------------------------------------------------


def _logged(index: int, ours: list[str] | None, theirs: list[str] | None) -> list[Difference]:
    pairs = zip_longest(ours or (), theirs or (), fillvalue="nothing")
    return [Difference(index, "logged", a, b) for a, b in pairs if a != b]


# ---- connections ----------------------------------------------------------------------------------------------------

_CONNECTION = re.compile(r"(?P<head>\S+\s+\d+\s+\S+\s+\d+) (?:(?P<timeout>\d+) )?(?P<rest>.*)")
_SLACK = 1  # seconds: the kernel says N or N - 1, by the jiffy


def connection_rows(text: str, chosen: bool = False) -> dict[str, tuple[int, int]]:
    """Timeout and age (delta-time) by everything else that a row of conntrack -L says, but for the kernel's own
    reference count. -1 where it says none. `chosen`: without what the node chose at random."""
    rows = {}
    for line in tunnels_joined(text.splitlines()) if chosen else text.splitlines():
        if match := _CONNECTION.fullmatch(line.strip()):
            head = " ".join(match["head"].split())
            words = match["rest"].split()
            rest = " ".join(word for word in words if not word.startswith(("use=", "delta-time=")))
            age = next((int(word[11:]) for word in words if word.startswith("delta-time=")), -1)
            rows[f"{head} {rest}"] = int(match["timeout"] or -1), age
    return rows


def _connections(index: int, ours: str, theirs: str, chosen: bool) -> list[Difference]:
    found = []
    left, right = connection_rows(ours, chosen), connection_rows(theirs, chosen)
    only_left = sorted(row for row in left if row not in right)
    only_right = sorted(row for row in right if row not in left)
    for i in range(max(len(only_left), len(only_right))):
        ours = only_left[i] if i < len(only_left) else "nothing"
        theirs = only_right[i] if i < len(only_right) else "nothing"
        found.append(Difference(index, "connection", ours, theirs))
    for row in left:
        for what, a, b in zip(("timeout", "age"), left[row], right.get(row, left[row]), strict=True):
            if abs(a - b) > _SLACK or (a < 0) != (b < 0):
                found.append(Difference(index, f"{what} of {row}", f"{a} s", f"{b} s"))
    return found


# ---- drops ----------------------------------------------------------------------------------------------------------

# What the kernel says where we name a drop more finely. "" is a packet that the kernel does not count as dropped.
FINER: dict[str, tuple[str, ...]] = {
    "NETFILTER_REJECT": ("NETFILTER_DROP",),
    "CONNTRACK_CLASH": ("NETFILTER_DROP",),
    "IP_INNOROUTES": ("NOT_SPECIFIED",),  # of a bridge that looked up a translated destination
    "IP_OUTNOROUTES": ("NETFILTER_DROP",),  # where a hook asked for a new route and there is none
    "CONNTRACK_TABLE_FULL": ("NETFILTER_DROP",),
    "TTL_EXCEEDED": ("IP_INHDR",),
    "ARP_BAD": ("NOT_SPECIFIED", "PKT_TOO_SMALL"),
    "OTHERHOST": ("NOT_SPECIFIED", ""),
    "PKT_TOO_SMALL": ("NOT_SPECIFIED", "IP_INHDR", "NOMEM", "ICMP_CSUM"),
    "IP_NOPROTO": ("NOT_SPECIFIED",),
    "UNHANDLED_PROTO": ("NOT_SPECIFIED",),
    "IP_INHDR": ("UNHANDLED_PROTO", "NOT_SPECIFIED"),
    "NO_SOCKET": ("NOT_SPECIFIED", "INVALID_PROTO"),
    "IPV6_NDISC_NS_OTHERHOST": ("NOT_SPECIFIED",),
    "TCP_CSUM": ("SOCKET_FILTER",),  # the judge's listeners look before the sum is complete
    "UDP_CSUM": ("NO_SOCKET", "NOT_SPECIFIED"),
    "ROUTE_BLACKHOLE": ("NOT_SPECIFIED",),
    "ROUTE_UNREACHABLE": ("NOT_SPECIFIED", "IP_INNOROUTES"),
    "ROUTE_PROHIBIT": ("NOT_SPECIFIED", "IP_INNOROUTES"),
    "IP_INVALID_DEST": ("NOT_SPECIFIED",),
    "BRIDGE_NO_EGRESS_PORT": ("NOT_SPECIFIED", "NO_TX_TARGET"),
    "PKT_TOO_BIG": ("NOT_SPECIFIED",),
    "IP_CSUM": ("IP_INHDR",),  # a bridge's own check of what it shows to netfilter has one reason for all
    # Of a datagram that is spoilt the kernel frees the fragments that wait without a word.
    "FRAG_OVERLAP": ("NOT_SPECIFIED", "NETFILTER_DROP", ""),
    "FRAG_LENGTH": ("NOT_SPECIFIED", "NETFILTER_DROP", ""),
    "FRAG_EMPTY": ("NOT_SPECIFIED", "NETFILTER_DROP", ""),
    "FRAG_ECN": ("NOT_SPECIFIED", ""),
    "NOMEM": ("NOT_SPECIFIED", "NETFILTER_DROP"),
    "NEIGH_FAILED": ("",),  # the queue is handed to arp_error_report, which frees without a reason
}
# What the kernel frees with a reason, and we count as taken by the host: its own sockets and messages that it ignores.
TAKEN = ("SOCKET_FILTER", "NOT_SPECIFIED", "UNHANDLED_PROTO", "NO_SOCKET", "PKT_TOO_SMALL")

REFUSED = {
    "EMSGSIZE": "PKT_TOO_BIG",
    **dict.fromkeys(
        ("ENETUNREACH", "EHOSTUNREACH", "EACCES", "EINVAL"), "IP_OUTNOROUTES"
    ),  # no route, or one that refuses
}


def drop_reasons(step: Step) -> Counter[str]:
    return Counter(reason for reason, _ in step.drops)


def _drops(index: int, ours: Step, theirs: Step) -> list[Difference]:
    left, right = drop_reasons(ours), drop_reasons(theirs)
    kernel, emulator = left - right, right - left
    for reason in list(emulator.elements()):
        for coarser in FINER.get(reason, ()):
            if not coarser or kernel[coarser]:
                emulator -= Counter([reason])
                kernel -= Counter([coarser])
                break
    for reason in TAKEN:
        del kernel[reason]
    if ours.refused in REFUSED:
        emulator -= Counter([REFUSED[ours.refused]])  # the socket says so before there is a packet
    if ours.kind == "wait":
        emulator.clear()  # the kernel's timers run in other processes, where the trace does not look
    if not kernel and not emulator:
        return []
    return [Difference(index, "drops", _counted(left), _counted(right))]


def _counted(reasons: Counter[str]) -> str:
    return ", ".join(f"{reason} x{count}" for reason, count in sorted(reasons.items())) or "none"


# ---- sets -----------------------------------------------------------------------------------------------------------

_SET_TIMEOUT = re.compile(r" timeout (\d+)")


def set_members(text: str) -> dict[str, int]:
    """Lines of `ipset save` that add a member, without the seconds that it has left; those."""
    found = {}
    for line in text.splitlines():
        if line.startswith("add "):
            left = _SET_TIMEOUT.search(line)
            found[_SET_TIMEOUT.sub("", line)] = int(left[1]) if left else 0
    return found


def _sets(index: int, ours: str, theirs: str) -> list[Difference]:
    left, right = set_members(ours), set_members(theirs)
    return [
        Difference(index, "set", *(f"{line} ({rows[line]} s)" if line in rows else "nothing" for rows in (left, right)))
        for line in dict.fromkeys([*left, *right])
        if line not in left or line not in right or abs(left[line] - right[line]) > _SLACK
    ]


# ---- IPVS -----------------------------------------------------------------------------------------------------------


def _seconds(text: str) -> int:
    minutes, seconds = text.split(":")
    return 60 * int(minutes) + int(seconds)


def balanced_connections(text: str) -> dict[str, int]:
    """Seconds to live by protocol, state and ends: what `ipvsadm -Lnc` says. Rows that are alike are counted."""
    rows: dict[str, int] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 6 and ":" in words[1]:
            row = " ".join([words[0], *words[2:]])
            while row in rows:
                row += " again"
            rows[row] = _seconds(words[1])
    return rows


def balanced_services(text: str) -> dict[str, str]:
    """What `ipvsadm -Ln`, with --stats or without, says of each service and of each server in it."""
    rows = {}
    service = ""
    for line in text.splitlines():
        words = line.split()
        if line.startswith("  -> ") and service:
            rows[f"{service} -> {words[1]}"] = " ".join(words[2:])
        elif words and words[0] in ("TCP", "UDP", "SCTP", "FWM"):
            service = " ".join(words[:2])
            rows[service] = " ".join(words[2:])
    return rows


def _balancing(index: int, ours: dict[str, str], theirs: dict[str, str], whole: bool, times: bool) -> list[Difference]:
    found = []
    for words, text in ours.items():
        other = theirs.get(words, "")
        if words == "-Lnc":
            left, right = balanced_connections(text), balanced_connections(other)
            for row in sorted({*left, *right}):
                if row not in left or row not in right:
                    found.append(
                        Difference(index, words, *(row if row in rows else "nothing" for rows in (left, right)))
                    )
                elif times and abs(left[row] - right[row]) > _SLACK:
                    found.append(Difference(index, f"time left of {row}", f"{left[row]} s", f"{right[row]} s"))
            continue
        one, two = balanced_services(text), balanced_services(other)
        for row in sorted({*one, *two}):
            a, b = one.get(row, "nothing"), two.get(row, "nothing")
            if not whole and " -> " not in row:  # /proc lays a service's options out in its own way
                a, b = (text.removeprefix("IPv6 ").split(" ")[0] for text in (a, b))
            if a != b:
                found.append(Difference(index, f"{words} of {row}", a, b))
    return found


# ---- all ------------------------------------------------------------------------------------------------------------


def compare(kernel: Recording, emulator: Recording, masks: tuple[str, ...] = ()) -> list[Difference]:
    """Every difference, in the order of the steps."""
    found: list[Difference] = []
    for index, (ours, theirs) in enumerate(zip(kernel.steps, emulator.steps, strict=True)):
        found += _frames(index, "late frame", _without_reports(ours.late), theirs.late, masks)
        found += _frames(index, "frame", ours.out, theirs.out, masks)
        if kernel.traced and emulator.traced:
            found += _drops(index, ours, theirs)
        found += _rules(index, ours.rules, theirs.rules)
        found += _logged(index, ours.logged, theirs.logged)
        if ours.connections is not None and theirs.connections is not None:
            found += _connections(index, ours.connections, theirs.connections, masks == ("chosen",))
        found += _sets(index, ours.sets, theirs.sets)
        found += _balancing(index, ours.ipvs, theirs.ipvs, "-Ln --stats --exact" in ours.ipvs, "time left" not in masks)
    for name, counts in kernel.interfaces.items():
        other = emulator.interfaces.get(name)
        if other is None:
            continue
        reports = [f for step in kernel.steps for f in step.late if f.interface == name and _is_report(f)]
        counts = {
            **counts,
            "tx_packets": counts.get("tx_packets", 0) - len(reports),
            "tx_bytes": counts.get("tx_bytes", 0) - sum(len(frame.data) for frame in reports),
        }
        for what, count in counts.items():
            if what in other and other[what] != count:
                found.append(Difference(-1, f"interface {name} {what}", str(count), str(other[what])))
    return found
