"""What a match asks of a packet and what a target does with it, as plain values.

The compiler of rules (dataplane.datapath.compile_rules) turns them into the rows of _fast/ruleset.pxd. Most matches are
words: a field of the packet, masked and compared with a range. Whatever needs its own code in the engine is a `Custom`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from dataplane._fast.ruleset import CtField, OpKind, TargetKind

ANY = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Word:
    """low <= (word & mask) <= high. word: of dataplane._fast.packet.Field."""

    word: int
    low: int
    high: int
    mask: int = ANY
    invert: bool = False


@dataclass(frozen=True, slots=True)
class Address:
    """(address & mask) == value, over the four words from `word` on; one word for IPv4."""

    word: int
    value: int
    mask: int
    family: int
    invert: bool = False


@dataclass(frozen=True, slots=True)
class AddressRange:
    """low <= address <= high, over the four words from `word` on; one word for IPv4."""

    word: int
    low: int
    high: int
    family: int
    invert: bool = False


@dataclass(frozen=True, slots=True)
class Header:
    """The transport header is there. A later fragment does not match; a packet too short for it is dropped outright.

    length: bytes that must be there. tcp: fragments at offset 8 bytes are dropped, and so is a data offset below 5.
    """

    length: int
    tcp: bool = False


@dataclass(frozen=True, slots=True)
class Payload:
    """low <= (word & mask) <= high, for a word of the transport header. A packet whose header ends before the word does
    not match; in a later fragment other bytes are taken for the header (nft_payload_fast_eval)."""

    word: int
    low: int
    high: int
    mask: int = ANY
    invert: bool = False


@dataclass(frozen=True, slots=True)
class Interface:
    """The name of an interface; a trailing + stands for any rest. word: FIELD_IIF, FIELD_OIF, FIELD_PHYSIN or
    FIELD_PHYSOUT.

    Where the packet has no such interface its name is empty.
    """

    word: int
    pattern: str
    invert: bool = False


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One of several words."""

    words: tuple[Word, ...]
    invert: bool = False


@dataclass(frozen=True, slots=True)
class CtWord:
    """A word of the packet's connection: low <= (word & mask) <= high; `absent` where there is none."""

    word: CtField
    low: int
    high: int
    mask: int = ANY
    invert: bool = False
    absent: bool = False


@dataclass(frozen=True, slots=True)
class CtAddress:
    """(address & mask) == value for an address of the packet's connection; `absent` where there is none."""

    word: CtField
    value: int
    mask: int
    family: int
    invert: bool = False
    absent: bool = False


@dataclass(frozen=True, slots=True)
class Shared:
    """Memory that a test needs beyond its own words.

    kind: "recent" or "hashlimit": rules share it by name, and settings are what it is made with; "connlimit": each rule
    has its own; "set": a set of the host, whose index comes before the test's words.
    """

    kind: str
    name: str
    settings: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Custom:
    """A test with its own function in _fast/rules.pxd.

    words: its constants, 32 bits each. state: the first values of its own mutable words, 64 bits each. shared: state
    that it shares with other rules.
    """

    kind: OpKind
    words: tuple[int, ...] = ()
    state: tuple[int, ...] = ()
    invert: bool = False
    shared: Shared | None = None


Test: TypeAlias = Word | Address | AddressRange | Header | Payload | Interface | AnyOf | CtWord | CtAddress | Custom


@dataclass(frozen=True, slots=True)
class Action:
    """What an extension target does: one `Target` row (_fast/ruleset.pxd says what each kind keeps in which word)."""

    kind: TargetKind
    flags: int = 0
    min_port: int = 0
    max_port: int = 0
    base_port: int = 0
    value: int = 0
    mask: int = 0
    first: int = 0
    last: int = 0
    family: int = 4
    # SET: the set to add to and the set to take from, each with how it is used.
    add: Custom | None = None
    delete: Custom | None = None
    map: Custom | None = None  # whose members give a packet its mark
