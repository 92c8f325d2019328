"""-m hashlimit: a limit for each address or port (net/netfilter/xt_hashlimit.c)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dataplane._fast.ruleset import OpKind
from dataplane.host.xtables.declare import Given, Kind, Match, Option, Refused, Scope
from dataplane.host.xtables.predicate import Custom, Shared, Test
from dataplane.host.xtables.rates import NS, PERIOD, SCALE
from dataplane.host.xtables.values import bits_of, integer, number, prefix_words, text

# Bytes are counted in units of 16, as the kernel keeps them.
BYTE_SHIFT = 4
SUFFIXES = {"kb": 1024, "mb": 1024 * 1024, "b": 1}
MODES = {"srcip": 2, "srcport": 8, "dstip": 1, "dstport": 4}
BURST = 5
SIZE, MAXIMUM, INTERVAL, EXPIRE = 0, 0, 1000, 10000
MILLISECOND = 1_000_000
# Of a table without a size, on a machine with more than 1 GB of memory.
ROWS = 8192


# As _fast/hashlimit.pxd has them.
HZ, BYTE_CREDIT = 250, 1 << 24
UINT32_MAX = 0xFFFFFFFF


class ByteRate(int):
    """Units of 16 bytes in a second."""


def byte_rate(value: int) -> int:
    """Bytes in a second, as the kernel has rounded them: it keeps the time that 16 of them take."""
    return UINT32_MAX // (UINT32_MAX // (value + 1)) - 1 << BYTE_SHIFT


def _bytes(text: str) -> int:
    match = re.fullmatch(r"([0-9]+)(kb|mb|b)", text)
    if not match or not int(match[1]):
        raise ValueError(f"{text!r} is no number of bytes")
    return int(match[1]) * SUFFIXES[match[2]]


def _rate(text: str, scope: Scope) -> int:
    if "b" in text:
        count, slash, unit = text.partition("/")
        if not slash or not unit or not "second".startswith(unit):
            raise ValueError(f"{text!r} is no rate")
        if _bytes(count) >> BYTE_SHIFT == 0:
            raise ValueError(f"{text}: less than 16 bytes in a second")
        return ByteRate(_bytes(count) >> BYTE_SHIFT)
    period: int = PERIOD.read(text, scope)
    return period


def _show_bytes(value: int) -> str:
    for suffix, factor in (("mb", 1024 * 1024), ("kb", 1024)):
        if value >= factor:
            return f"{value // factor}{suffix}"
    return f"{value}b"


def _show_rate(value: int) -> str:
    return f"{_show_bytes(byte_rate(value))}/s" if isinstance(value, ByteRate) else PERIOD.show(value)


def _burst(text: str, scope: Scope) -> int:
    return _bytes(text) if "b" in text else integer(text, 1, 1000000)


def _modes(text: str, scope: Scope) -> int:
    bits = 0
    for word in text.split(","):
        if word not in MODES:
            raise ValueError(f"{word!r} is none of {', '.join(MODES)}")
        bits |= MODES[word]
    return bits


RATE = Kind(_rate, _show_rate)
BURSTS = Kind(_burst, lambda value: _show_bytes(value) if isinstance(value, ByteRate) else str(value))
# In this order, and not in that of the bits.
MODE = Kind(_modes, lambda bits: ",".join(name for name, bit in MODES.items() if bits & bit))


class Hashlimit(Match):
    name = "hashlimit"
    options = (
        Option("hashlimit-upto", RATE, invert=True, also=("hashlimit",), excludes=("hashlimit-above",)),
        Option("hashlimit-above", RATE, invert=True),
        Option("hashlimit-burst", BURSTS),
        Option("hashlimit-mode", MODE),
        Option("hashlimit-name", text(255, str), required=True),
        Option("hashlimit-htable-size", number()),
        Option("hashlimit-htable-max", number()),
        Option("hashlimit-htable-gcinterval", number()),
        Option("hashlimit-htable-expire", number()),
        Option("hashlimit-srcmask", number(0, 128)),
        Option("hashlimit-dstmask", number(0, 128)),
        Option("hashlimit-rate-match"),
        Option("hashlimit-rate-interval", number(1), needs=("hashlimit-rate-match",)),
    )

    @classmethod
    def settle(cls, given: dict[str, Given], scope: Scope) -> dict[str, Given]:
        for option, other in (("hashlimit-upto", "hashlimit-above"), ("hashlimit-above", "hashlimit-upto")):
            if option in given and given[option].inverted:
                given[other] = Given(given.pop(option).value)
                break
        rate = given.get("hashlimit-upto", given.get("hashlimit-above"))
        if rate is None:
            raise Refused("-m hashlimit", "--hashlimit-upto or --hashlimit-above must be given")
        in_bytes = isinstance(rate.value, ByteRate)
        if not in_bytes:
            given.setdefault("hashlimit-burst", Given(BURST))
        elif "hashlimit-burst" in given:
            each = byte_rate(rate.value)
            given["hashlimit-burst"] = Given(ByteRate(-(-given["hashlimit-burst"].value // each) * each))
        for option in ("hashlimit-srcmask", "hashlimit-dstmask"):
            if option in given and given[option].value > bits_of(scope.family):
                raise Refused(f"--{option}", f"not within 0 to {bits_of(scope.family)}")
            if given.get(option) == Given(bits_of(scope.family)):
                del given[option]
        for option, default in (
            ("hashlimit-htable-size", SIZE),
            ("hashlimit-htable-max", MAXIMUM),
            ("hashlimit-htable-gcinterval", INTERVAL),
            ("hashlimit-htable-expire", EXPIRE),
        ):
            if given.get(option) == Given(default):
                del given[option]
        return given

    def tests(self) -> Iterator[Test]:
        above = self.has("hashlimit-above")
        modes, family = self.value("hashlimit-mode", 0), self.scope.family
        none = (0, 0, 0, 0)
        whole = bits_of(family)
        ports = (0xFFFF if modes & MODES["dstport"] else 0) | (0xFFFF0000 if modes & MODES["srcport"] else 0)
        cost, full, burst, interval, mode = self._bucket(self.value("hashlimit-above" if above else "hashlimit-upto"))
        buckets = self.value("hashlimit-htable-size", 0) or ROWS
        settings = (
            *(prefix_words(self.value("hashlimit-dstmask", whole), family) if modes & MODES["dstip"] else none),
            *(prefix_words(self.value("hashlimit-srcmask", whole), family) if modes & MODES["srcip"] else none),
            ports,
            cost,
            full,
            self.value("hashlimit-htable-expire", EXPIRE) * MILLISECOND,
            max(self.value("hashlimit-htable-max", 0) or 8 * buckets, buckets),
            burst,
            interval,
            mode,
        )
        table = Shared("hashlimit", self.value("hashlimit-name"), settings)
        yield Custom(OpKind.OP_HASHLIMIT, invert=above, shared=table)

    def _bucket(self, rate: int) -> tuple[int, int, int, int, int]:
        """Cost, credit of a full bucket, burst, jiffies of a window, and HashlimitMode: see _fast/hashlimit.pxd."""
        in_bytes, burst = isinstance(rate, ByteRate), self.value("hashlimit-burst", 0)
        interval = self.value("hashlimit-rate-interval", 1) * HZ if self.has("hashlimit-rate-match") else 0
        if interval:
            wanted = byte_rate(rate) if in_bytes else SCALE // rate
            most = max(-(-burst // wanted), 1) * wanted if in_bytes else burst + wanted
            return wanted, 0, most, interval, int(in_bytes) | 2
        if not in_bytes:
            return rate * NS, rate * NS * burst, 0, 0, 0
        each = (UINT32_MAX // (rate + 1)) * HZ * BYTE_CREDIT >> 32
        return each, HZ * BYTE_CREDIT, -(-burst // byte_rate(rate)), 0, 1


MATCH = Hashlimit
