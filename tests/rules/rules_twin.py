"""The slow twin of the rule engine: rule by rule, from the values that the parser understood, with dicts and plain
integers.

Nothing of the compiled engine is used: neither the abstract tests nor the rows. It reads headers from bytes by
itself. Sources are the kernel's net/ipv4/netfilter/ip_tables.c and net/netfilter/xt_*.c.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dataplane.host.iptables import Ruleset
from dataplane.host.xtables.declare import Extension
from dataplane.host.xtables.rates import whole_rate

SECOND = 1_000_000_000


class HotDrop(Exception):  # noqa: N818
    """A match drops the packet, whatever the rule's target is."""


@dataclass
class Connection:
    """tuples: (src, dst, sport, dport, protocol) of the original and the reply direction; addresses as numbers."""

    tuples: list[tuple[int, int, int, int, int]]
    status: int = 0
    mark: int = 0
    expires: int = 0
    packets: tuple[int, int] = (0, 0)
    bytes: tuple[int, int] = (0, 0)


@dataclass
class Seen:
    """A packet where the rules meet it. Interface names are "" where there is none."""

    data: bytes
    iif: str = ""
    oif: str = ""
    physin: str = ""
    physout: str = ""
    mark: int = 0
    ctinfo: int = 0
    connection: Connection | None = None
    packet_type: int = 0
    mac: bytes = b""
    time: int = 0

    @property
    def family(self) -> int:
        return self.data[0] >> 4

    @property
    def source(self) -> int:
        at, size = (12, 4) if self.family == 4 else (8, 16)
        return int.from_bytes(self.data[at : at + size], "big")

    @property
    def destination(self) -> int:
        at, size = (16, 4) if self.family == 4 else (24, 16)
        return int.from_bytes(self.data[at : at + size], "big")

    @property
    def length(self) -> int:
        if self.family == 4:
            return int.from_bytes(self.data[2:4], "big")
        return int.from_bytes(self.data[4:6], "big") + 40

    @property
    def tos(self) -> int:
        return self.data[1] if self.family == 4 else int.from_bytes(self.data[0:2], "big") >> 4 & 0xFF

    @property
    def ttl(self) -> int:
        return self.data[8] if self.family == 4 else self.data[7]

    @property
    def transport(self) -> tuple[int, int, bytes]:
        """Protocol, fragment offset in units of 8 bytes, and the bytes from the transport header on."""
        data = self.data
        if self.family == 4:
            return data[9], int.from_bytes(data[6:8], "big") & 0x1FFF, data[(data[0] & 15) * 4 :]
        following, at, offset = data[6], 40, 0
        while following in (0, 43, 60, 44, 51):
            if following == 44:
                offset = int.from_bytes(data[at + 2 : at + 4], "big") >> 3
                following, at = data[at], at + 8
                if offset:
                    return following, offset, b""
            else:
                size = (data[at + 1] + 2) * 4 if following == 51 else (data[at + 1] + 1) * 8
                following, at = data[at], at + size
        return following, 0, data[at:]

    @property
    def authenticated(self) -> bool:
        """IPv6: whether an authentication header stands before the transport header."""
        following, at = self.data[6], 40
        while self.family == 6 and following in (0, 43, 60, 44, 51):
            if following == 51:
                return True
            if following == 44 and int.from_bytes(self.data[at + 2 : at + 4], "big") >> 3:
                return False
            following, at = self.data[at], at + (8 if following == 44 else (self.data[at + 1] + 1) * 8)
        return False

    def state(self) -> set[str]:
        if self.connection is None:
            return {"UNTRACKED" if self.ctinfo == 7 else "INVALID"}
        found = {("ESTABLISHED", "RELATED", "NEW")[self.ctinfo % 3]}
        if self.connection.status & 16:
            found.add("SNAT")
        if self.connection.status & 32:
            found.add("DNAT")
        return found


@dataclass
class Twin:
    """A host's rules and what they remember.

    local: RTN_ number of an address, given its value, its family and the interface that it is limited to ("" for none).
    drawn: draws of `statistic`.
    """

    ruleset: Ruleset
    local: Callable[[int, int, str], int]
    drawn: Iterator[int]
    rules: dict[tuple[str, str, int], list[int]] = field(default_factory=dict)
    policies: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    nth: dict[tuple[str, str, int, int], int] = field(default_factory=dict)
    recent: dict[str, OrderedDict[tuple[int, int], list[Any]]] = field(default_factory=dict)
    credit: dict[tuple[str, str, int, int], tuple[int, int]] = field(default_factory=dict)
    buckets: dict[str, dict[tuple[int, int, int, int], list[int]]] = field(default_factory=dict)

    def walk(self, table: str, hook: str, seen: Seen) -> tuple[str, Extension | None]:
        """ACCEPT, DROP, or TERMINAL with the target that ended it."""
        found = self.ruleset.table(table)
        chain = None if found is None else found.chain(hook)
        if found is None or chain is None:
            return "ACCEPT", None
        verdict, target = self.chain(table, hook, seen)
        if verdict in ("ACCEPT", "DROP", "TERMINAL"):
            return verdict, target
        count(self.policies, (table, hook), seen)
        return chain.policy, None

    def chain(self, table: str, name: str, seen: Seen) -> tuple[str, Extension | None]:
        """RETURN where the chain ends without a verdict."""
        found = self.ruleset.table(table)
        assert found is not None
        chain = found.chain(name)
        assert chain is not None
        for number, rule in enumerate(chain.rules):
            spec = rule.specification(self.ruleset.family)
            try:
                if not self.selected(spec.selector, seen):
                    continue
                for at, match in enumerate(spec.matches):
                    if not getattr(self, f"match_{match.name}")(match, seen, (table, name, number, at)):
                        break
                else:
                    count(self.rules, (table, name, number), seen)
                    verdict, target = self.target(spec, table, seen)
                    if verdict == "GOTO":
                        return self.chain(table, spec.jump, seen)
                    if verdict:
                        return verdict, target
            except HotDrop:
                return "DROP", None
        return "RETURN", None

    def target(self, spec: Any, table: str, seen: Seen) -> tuple[str, Extension | None]:
        if spec.target is not None:
            act = getattr(self, f"target_{spec.target.name}", None)
            if act is None:
                return "TERMINAL", spec.target
            act(spec.target, seen)
            return "", None
        if spec.jump in ("ACCEPT", "DROP", "RETURN"):
            return spec.jump, None
        if not spec.jump:
            return "", None
        if spec.goto:
            return "GOTO", None
        verdict, target = self.chain(table, spec.jump, seen)
        return ("", None) if verdict == "RETURN" else (verdict, target)

    # -- what every rule may ask --

    def selected(self, s: Any, seen: Seen) -> bool:
        protocol, fragment, _ = seen.transport
        if self.ruleset.backend == "nft" and seen.authenticated:
            protocol = 51
        return (
            (s.source is None or (seen.source & s.source.mask == s.source.address) != s.not_source)
            and (
                s.destination is None
                or (seen.destination & s.destination.mask == s.destination.address) != s.not_destination
            )
            and (not s.in_interface or named(seen.iif, s.in_interface) != s.not_in)
            and (not s.out_interface or named(seen.oif, s.out_interface) != s.not_out)
            and (not s.protocol or (protocol == s.protocol) != s.not_protocol)
            and (not s.fragment or (fragment != 0) != s.not_fragment)
        )

    # -- matches --

    def header(self, seen: Seen, size: int, *, tcp: bool = False) -> bytes | None:
        _, fragment, data = seen.transport
        if fragment:
            if tcp and fragment == 1 and seen.family == 4:
                raise HotDrop
            return None
        if len(data) < size:
            raise HotDrop
        return data

    def ports(self, match: Extension, data: bytes) -> bool:
        for option, at in (("sport", 0), ("dport", 2)):
            if match.has(option):
                low, high = match.value(option)
                if (low <= int.from_bytes(data[at : at + 2], "big") <= high) == match.inverted(option):
                    return False
        return True

    def payload(self, match: Extension, seen: Seen) -> bool:
        """nftables reads each word by itself, and there must be no more of the header than that."""
        _, fragment, data = seen.transport
        if fragment and seen.family == 6:
            data = seen.data  # it does not ask whether there is a header, and reads from where none was found
        mask, wanted = match.value("tcp-flags", (0, 0))
        if mask and (len(data) < 14 or (data[13] & mask == wanted) == match.inverted("tcp-flags")):
            return False
        for option, end in (("sport", 2), ("dport", 4)):
            low, high = match.value(option, (0, 65535))
            if (low, high) == (0, 65535):
                continue
            if len(data) < end:
                return False
            if (low <= int.from_bytes(data[end - 2 : end], "big") <= high) == match.inverted(option):
                return False
        return True

    def match_tcp(self, match: Extension, seen: Seen, place: Any) -> bool:
        if self.ruleset.backend == "nft" and match.given and not match.has("tcp-option"):
            return self.payload(match, seen)
        data = self.header(seen, 20, tcp=True)
        if data is None or not self.ports(match, data):
            return False
        if match.has("tcp-flags"):
            mask, wanted = match.value("tcp-flags")
            if (data[13] & mask == wanted) == match.inverted("tcp-flags"):
                return False
        if match.has("tcp-option"):
            return (match.value("tcp-option") in dict(options_of(data))) != match.inverted("tcp-option")
        return True

    def match_udp(self, match: Extension, seen: Seen, place: Any) -> bool:
        if self.ruleset.backend == "nft" and match.given:
            return self.payload(match, seen)
        data = self.header(seen, 8)
        return data is not None and self.ports(match, data)

    def match_sctp(self, match: Extension, seen: Seen, place: Any) -> bool:
        data = self.header(seen, 12)
        if data is None or not self.ports(match, data):
            return False
        if not match.has("chunk-types"):
            return True
        asked = match.value("chunk-types")
        wanted = {chunk: (mask, flags) for chunk, mask, flags in asked.chunks}
        held, at = [], 12
        outcome = None
        while outcome is None:
            if at + 4 > len(data) or not int.from_bytes(data[at + 2 : at + 4], "big"):
                raise HotDrop
            kind, flags = data[at], data[at + 1]
            mask, bits = wanted.get(kind, (0, 0))
            fits = kind in wanted and flags & mask == bits
            if fits:
                held.append(kind)
            if fits and asked.way == "any":
                outcome = True
            if not fits and asked.way == "only":
                outcome = False
            at += (int.from_bytes(data[at + 2 : at + 4], "big") + 3) // 4 * 4
            if at >= len(data):
                break
        if outcome is None:
            outcome = {"any": False, "only": True, "all": set(wanted) <= set(held)}[asked.way]
        return outcome != match.inverted("chunk-types")

    def icmp(self, match: Extension, seen: Seen, option: str) -> bool:
        data = self.header(seen, 8)
        if data is None:
            return False
        wanted = match.value(option)
        everything = seen.family == 4 and wanted.type == 255
        fits = everything or (data[0] == wanted.type and wanted.low <= data[1] <= wanted.high)
        return fits != match.inverted(option)

    def match_icmp(self, match: Extension, seen: Seen, place: Any) -> bool:
        return self.icmp(match, seen, "icmp-type")

    def match_icmp6(self, match: Extension, seen: Seen, place: Any) -> bool:
        return self.icmp(match, seen, "icmpv6-type")

    def match_multiport(self, match: Extension, seen: Seen, place: Any) -> bool:
        data = self.header(seen, 4)
        if data is None:
            return False
        sport, dport = int.from_bytes(data[:2], "big"), int.from_bytes(data[2:4], "big")
        for option, ports in (("sports", (sport,)), ("dports", (dport,)), ("ports", (sport, dport))):
            if match.has(option):
                fits = any(low <= port <= high for low, high in match.value(option) for port in ports)
                return fits != match.inverted(option)
        raise AssertionError

    def match_comment(self, match: Extension, seen: Seen, place: Any) -> bool:
        return True

    match_nfacct = match_comment

    def match_mark(self, match: Extension, seen: Seen, place: Any) -> bool:
        value, mask = match.value("mark")
        return (seen.mark & mask == value) != match.inverted("mark")

    def match_connmark(self, match: Extension, seen: Seen, place: Any) -> bool:
        if seen.connection is None:
            return False
        value, mask = match.value("mark")
        return (seen.connection.mark & mask == value) != match.inverted("mark")

    def match_state(self, match: Extension, seen: Seen, place: Any) -> bool:
        return self.in_state(match, "state", seen)

    def in_state(self, match: Extension, option: str, seen: Seen) -> bool:
        shown = next(kind for kind in match.options if kind.name == option).kind
        assert shown is not None
        wanted = set(shown.show(match.value(option)).split(","))
        return bool(wanted & seen.state()) != match.inverted(option)

    def match_conntrack(self, match: Extension, seen: Seen, place: Any) -> bool:
        if match.has("ctstate") and not self.in_state(match, "ctstate", seen):
            return False
        ct = seen.connection
        if ct is None:
            return match.has("ctstate")
        asked: list[tuple[str, bool]] = []
        if match.has("ctproto"):
            asked.append(("ctproto", ct.tuples[0][4] == match.value("ctproto")))
        if match.has("ctdir"):
            asked.append(("ctdir", (1 if seen.ctinfo >= 3 else 0) == match.value("ctdir")))
        if match.has("ctstatus"):
            asked.append(("ctstatus", ct.status & match.value("ctstatus") != 0))
        if match.has("ctexpire"):
            low, high = match.value("ctexpire")
            left = max(ct.expires - seen.time, 0) // SECOND if ct.status & 8 else 0
            asked.append(("ctexpire", low <= left <= high))
        for number, way in enumerate(("orig", "repl")):
            for at, end in enumerate(("src", "dst")):
                if match.has(f"ct{way}{end}"):
                    network = match.value(f"ct{way}{end}")
                    asked.append((f"ct{way}{end}", ct.tuples[number][at] & network.mask == network.address))
                if match.has(f"ct{way}{end}port"):
                    low, high = match.value(f"ct{way}{end}port")
                    asked.append((f"ct{way}{end}port", low <= ct.tuples[number][2 + at] <= high))
        return all(holds != match.inverted(option) for option, holds in asked)

    def match_addrtype(self, match: Extension, seen: Seen, place: Any) -> bool:
        if seen.family == 6:
            return self.type6(match, "src-type", seen.source) and self.type6(match, "dst-type", seen.destination)
        device = seen.iif if match.has("limit-iface-in") else seen.oif if match.has("limit-iface-out") else ""
        for option, address in (("src-type", seen.source), ("dst-type", seen.destination)):
            if match.has(option):
                holds = bool(match.value(option) >> self.local(address, seen.family, device) & 1)
                if holds == match.inverted(option):
                    return False
        return True

    def type6(self, match: Extension, option: str, address: int) -> bool:
        """IPv6 asks every wanted type for itself, and only of LOCAL, ANYCAST and UNREACHABLE whether one holds."""
        if not match.has(option):
            return True
        wanted = match.value(option)
        multicast, unspecified = address >> 120 == 0xFF, address == 0
        holds = not (
            (wanted & 1 << 5 and not multicast)
            or (wanted & 1 << 1 and (multicast or unspecified))
            or (wanted & 1 << 0 and not unspecified)
        )
        if holds and wanted & (1 << 2 | 1 << 4 | 1 << 7):
            holds = bool(wanted >> self.local(address, 6, "") & 1)
        return holds != match.inverted(option)

    def match_statistic(self, match: Extension, seen: Seen, place: Any) -> bool:
        if match.has("probability"):
            return (next(self.drawn) & 0x7FFFFFFF < match.value("probability")) != match.inverted("probability")
        every = match.value("every")
        number = self.nth.get(place, 0)
        self.nth[place] = number + 1
        return (number % every == match.value("packet")) != match.inverted("every")

    def match_recent(self, match: Extension, seen: Seen, place: Any) -> bool:
        name = match.value("name")
        entries = self.recent.setdefault(name, OrderedDict())
        mask, family = match.value("mask")
        key = (family, (seen.destination if match.has("rdest") else seen.source) & mask)
        invert = any(match.inverted(option) for option in ("set", "rcheck", "update", "remove"))
        ttl = seen.ttl + (1 if seen.oif and seen.iif else 0)
        entry = entries.get(key)
        if entry is not None and match.has("rttl") and entry[0] != ttl:
            entry = None
        since = seen.time - match.value("seconds", 0) * SECOND
        if entry is None:
            if not match.has("set"):
                return invert
            if len(entries) >= 100:
                entries.popitem(last=False)
            entries[key] = [ttl, [seen.time]]
            return not invert
        if match.has("remove"):
            del entries[key]
            return not invert
        if match.has("set"):
            matched = True
        else:
            hits = [stamp for stamp in entry[1] if not match.has("seconds") or stamp >= since]
            matched = len(hits) >= max(match.value("hitcount", 1), 1)
        touched = match.has("set") or (match.has("update") and matched != invert)
        if match.has("reap"):
            oldest = next(iter(entries))
            if (oldest != key or not touched) and since > entries[oldest][1][-1]:
                del entries[oldest]
        if touched:
            entry[1].append(seen.time)
            del entry[1][: -self.stamps(name)]
            entry[0] = ttl
            entries.move_to_end(key)
        return matched != invert

    def stamps(self, name: str) -> int:
        """How many hits a list keeps of each address: the largest that any rule asks for, as a power of two."""
        most = 0
        for _, _, rule in self.ruleset.rules():
            for match in rule.specification(self.ruleset.family).matches:
                if match.name == "recent" and match.value("name") == name:
                    hits = match.value("hitcount", 32)
                    most = max(most, 1 << (hits - 1).bit_length())
        return most

    def match_limit(self, match: Extension, seen: Seen, place: Any) -> bool:
        if self.ruleset.backend == "nft":
            packets, seconds = whole_rate(match.value("limit"))
            now, each = seen.time, 1
            cost = seconds * 1_000_000_000 // packets
            full = cost * match.value("limit-burst", 5)
        else:
            # By the tick of 4 ms, in numbers of 32 bits.
            now, each = seen.time // 4_000_000, 128
            cost, full = (
                period // 10_000 * 32_000 % 2**32 if period > (2**32 - 1) // 32_000 else period * 32_000 // 10_000
                for period in (match.value("limit"), match.value("limit") * match.value("limit-burst", 5) % 2**32)
            )
        credit, then = self.credit.get(place, (full, now))
        gained = max(now - then, 0) * each
        credit = min(full, credit + gained if each == 1 else (credit + gained) % 2**32)
        self.credit[place] = (credit - cost if credit >= cost else credit, now)
        return credit >= cost

    def match_hashlimit(self, match: Extension, seen: Seen, place: Any) -> bool:
        above = match.has("hashlimit-above")
        # The settings of the first rule of a name are those of all.
        first = self.first_of(match.value("hashlimit-name"))
        modes = first.value("hashlimit-mode", 0)
        whole = 32 if seen.family == 4 else 128
        key = [0, 0, 0, 0]
        for at, (bit, option, address) in enumerate(
            ((1, "hashlimit-dstmask", seen.destination), (2, "hashlimit-srcmask", seen.source))
        ):
            if modes & bit:
                shift = whole - first.value(option, whole)
                key[at] = address >> shift << shift
        protocol, fragment, data = seen.transport
        for at, (bit, offset) in enumerate(((4, 2), (8, 0)), 2):
            if modes & bit and protocol in (6, 17, 132, 136):
                if fragment or len(data) < 4:
                    raise HotDrop
                key[at] = int.from_bytes(data[offset : offset + 2], "big")
        cost = first.value("hashlimit-upto", first.value("hashlimit-above")) * 100_000
        full = cost * first.value("hashlimit-burst")
        expire = first.value("hashlimit-htable-expire", 10_000) * 1_000_000
        rows = first.value("hashlimit-htable-size", 0) or 8192
        limit = max(first.value("hashlimit-htable-max", 0) or 8 * rows, rows)
        table = self.buckets.setdefault(first.value("hashlimit-name"), {})
        for idle in [known for known, bucket in table.items() if bucket[1] + expire < seen.time]:
            del table[idle]
        bucket = table.get(tuple(key))  # type: ignore[call-overload]
        if bucket is None:
            if len(table) >= limit:
                raise HotDrop
            bucket = table[tuple(key)] = [full, seen.time]  # type: ignore[index]
        bucket[0] = min(full, bucket[0] + seen.time - bucket[1])
        bucket[1] = seen.time
        if bucket[0] < cost:
            return above
        bucket[0] -= cost
        return not above

    def first_of(self, name: str) -> Extension:
        for _, _, rule in self.ruleset.rules():
            for match in rule.specification(self.ruleset.family).matches:
                if match.name == "hashlimit" and match.value("hashlimit-name") == name:
                    return match
        raise AssertionError

    def match_u32(self, match: Extension, seen: Seen, place: Any) -> bool:
        return all(self.compared(test, seen.data) for test in match.value("u32")) != match.inverted("u32")

    def compared(self, test: Any, data: bytes) -> bool:
        if len(data) < 4 or test.start > len(data) - 4:
            return False
        base, value = 0, int.from_bytes(data[test.start : test.start + 4], "big")
        for operator, number in test.steps:
            if operator == "&":
                value &= number
            elif operator == "<<":
                value = value << (number & 31) & 0xFFFFFFFF
            elif operator == ">>":
                value >>= number & 31
            else:
                base += value
                if base + number + 4 > len(data):
                    return False
                value = int.from_bytes(data[base + number : base + number + 4], "big")
        return any(low <= value <= high for low, high in test.ranges)

    def match_physdev(self, match: Extension, seen: Seen, place: Any) -> bool:
        if not seen.physin and not seen.physout:
            return all(given.inverted for given in match.given.values())
        for option, holds in (
            ("physdev-is-bridged", bool(seen.physout)),
            ("physdev-is-in", bool(seen.physin)),
            ("physdev-is-out", bool(seen.physout)),
        ):
            if match.has(option) and holds == match.inverted(option):
                return False
        if match.has("physdev-in") and named(seen.physin, match.value("physdev-in")) == match.inverted("physdev-in"):
            return False
        if match.has("physdev-out"):
            holds = named(seen.physout, match.value("physdev-out")) != match.inverted("physdev-out")
            return bool(seen.physout) and holds
        return True

    def match_length(self, match: Extension, seen: Seen, place: Any) -> bool:
        low, high = match.value("length")
        return (low <= seen.length <= high) != match.inverted("length")

    def hops(self, match: Extension, seen: Seen, prefix: str) -> bool:
        if match.has(f"{prefix}-eq"):
            return (seen.ttl == match.value(f"{prefix}-eq")) != match.inverted(f"{prefix}-eq")
        if match.has(f"{prefix}-lt"):
            return seen.ttl < match.value(f"{prefix}-lt")
        return seen.ttl > match.value(f"{prefix}-gt")

    def match_ttl(self, match: Extension, seen: Seen, place: Any) -> bool:
        return self.hops(match, seen, "ttl")

    def match_hl(self, match: Extension, seen: Seen, place: Any) -> bool:
        return self.hops(match, seen, "hl")

    def match_tos(self, match: Extension, seen: Seen, place: Any) -> bool:
        value, mask = match.value("tos")
        return (seen.tos & mask == value) != match.inverted("tos")

    def match_dscp(self, match: Extension, seen: Seen, place: Any) -> bool:
        return (seen.tos >> 2 == match.value("dscp")) != match.inverted("dscp")

    def match_pkttype(self, match: Extension, seen: Seen, place: Any) -> bool:
        return (seen.packet_type == match.value("pkt-type")) != match.inverted("pkt-type")

    def match_mac(self, match: Extension, seen: Seen, place: Any) -> bool:
        if len(seen.mac) < 14:
            return False
        return (int.from_bytes(seen.mac[6:12], "big") == match.value("mac-source")) != match.inverted("mac-source")

    def match_iprange(self, match: Extension, seen: Seen, place: Any) -> bool:
        for option, address in (("src-range", seen.source), ("dst-range", seen.destination)):
            if match.has(option):
                low, high, _ = match.value(option)
                if (low <= address <= high) == match.inverted(option):
                    return False
        return True

    def match_tcpmss(self, match: Extension, seen: Seen, place: Any) -> bool:
        _, fragment, data = seen.transport
        if fragment and seen.family == 6:
            # The kernel takes the IP header for a TCP header.
            data = seen.data
        if len(data) < 20:
            raise HotDrop
        low, high = match.value("mss")
        for kind, body in options_of(data):
            if kind == 2 and len(body) == 2:
                return (low <= int.from_bytes(body, "big") <= high) != match.inverted("mss")
        return match.inverted("mss")

    # -- targets that let the packet go on --

    def target_MARK(self, target: Extension, seen: Seen) -> None:  # noqa: N802
        value, mask = target.value("set-xmark")
        seen.mark = (seen.mark & ~mask) ^ value

    def target_CONNMARK(self, target: Extension, seen: Seen) -> None:  # noqa: N802
        ct = seen.connection
        if ct is None:
            return

        def shift(mark: int) -> int:
            if target.has("right-shift-mark"):
                return mark >> target.value("right-shift-mark")
            return mark << target.value("left-shift-mark", 0) & 0xFFFFFFFF

        if target.has("set-xmark"):
            value, mask = target.value("set-xmark")
            ct.mark = shift((ct.mark & ~mask) ^ value)
        elif target.has("save-mark"):
            ct.mark = (ct.mark & ~target.value("ctmask")) ^ shift(seen.mark & target.value("nfmask"))
        else:
            seen.mark = (seen.mark & ~target.value("nfmask")) ^ shift(ct.mark & target.value("ctmask"))

    def target_NOTRACK(self, target: Extension, seen: Seen) -> None:  # noqa: N802
        if seen.connection is None:
            seen.ctinfo = 7

    def target_TTL(self, target: Extension, seen: Seen) -> None:  # noqa: N802
        self.change_hops(target, seen, target.name.lower())

    target_HL = target_TTL  # noqa: N815

    def change_hops(self, target: Extension, seen: Seen, prefix: str) -> None:
        ttl = target.value(f"{prefix}-set", seen.ttl)
        ttl = min(max(ttl + target.value(f"{prefix}-inc", 0) - target.value(f"{prefix}-dec", 0), 0), 255)
        data = bytearray(seen.data)
        if seen.family == 4:
            data[8] = ttl
            mend(data, seen.data)
        else:
            data[7] = ttl
        seen.data = bytes(data)

    def target_TOS(self, target: Extension, seen: Seen) -> None:  # noqa: N802
        value, mask = target.value("set-tos")
        self.change_tos(seen, (seen.tos & ~mask) ^ value)

    def target_DSCP(self, target: Extension, seen: Seen) -> None:  # noqa: N802
        self.change_tos(seen, seen.tos & 3 | target.value("set-dscp") << 2)

    def change_tos(self, seen: Seen, tos: int) -> None:
        data = bytearray(seen.data)
        if seen.family == 4:
            data[1] = tos
            mend(data, seen.data)
        else:
            data[0] = data[0] & 0xF0 | tos >> 4
            data[1] = data[1] & 0x0F | (tos & 15) << 4
        seen.data = bytes(data)

    def target_LOG(self, target: Extension, seen: Seen) -> None:  # noqa: N802
        pass

    target_NFLOG = target_LOG  # noqa: N815
    target_TRACE = target_LOG  # noqa: N815
    target_CHECKSUM = target_LOG  # noqa: N815
    target_CLASSIFY = target_LOG  # noqa: N815
    target_CT = target_LOG  # noqa: N815


def named(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("+") else name == pattern


def count(counters: dict[Any, list[int]], place: Any, seen: Seen) -> None:
    both = counters.setdefault(place, [0, 0])
    both[0] += 1
    both[1] += seen.length


def options_of(data: bytes) -> list[tuple[int, bytes]]:
    """The options of a TCP header, which must be whole."""
    size = (data[12] >> 4) * 4
    if size < 20 or size > len(data):
        raise HotDrop
    found, at = [], 20
    while at < size:
        kind = data[at]
        step = 1 if kind < 2 or at + 1 >= size else data[at + 1] or 1
        found.append((kind, data[at + 2 : at + step] if at + step <= size else b""))
        at += step
    return found


def mend(data: bytearray, before: bytes) -> None:
    """A header checksum that was right is right again, and a wrong one is as wrong as before (RFC 1624)."""
    total = ~int.from_bytes(before[10:12], "big") & 0xFFFF
    for at in range(0, 20, 2):
        if at != 10 and before[at : at + 2] != data[at : at + 2]:
            total += ~int.from_bytes(before[at : at + 2], "big") & 0xFFFF
            total += int.from_bytes(data[at : at + 2], "big")
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    data[10:12] = (~total & 0xFFFF).to_bytes(2, "big")
