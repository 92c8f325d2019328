"""How a match or a target of xtables is declared.

An extension states its options once. From that statement its command-line options are parsed, and its canonical text
(what iptables-save prints) is made; its `tests` or its `action` say what it does to a packet, in the words of
predicate.py. One file, one extension: nothing else has to know of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from dataplane.host.xtables.predicate import Action, Test

TCP, UDP, DCCP, SCTP, UDPLITE, ICMP, ICMPV6 = 6, 17, 33, 132, 136, 1, 58


class Refused(Exception):  # noqa: N818 - it is turned into a DumpError, which names the file and the line
    """An option or a value is not understood, or not allowed where it stands."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        self.message = message
        super().__init__(field, message)


class Scope(NamedTuple):
    """What a value is read against: the family (4 or 6) and the number of `-p`, 0 without one, negative if inverted."""

    family: int
    protocol: int = 0


@dataclass(frozen=True, slots=True)
class Kind:
    """How the words behind an option are read and shown. Reading raises ValueError with the reason.

    arguments: the number of words; `read` gets one string, or a tuple of strings where there are several.
    """

    read: Callable[[Any, Scope], Any]
    show: Callable[[Any], str]
    arguments: int = 1


@dataclass(frozen=True, slots=True)
class Option:
    """One long option.

    name: as iptables-save prints it. kind: of its value; None for a flag. invert: `!` may stand before it. also: its
    other names. required: the extension is nothing without it. excludes, needs: other options of the same extension.
    """

    name: str
    kind: Kind | None = None
    invert: bool = False
    also: tuple[str, ...] = ()
    required: bool = False
    excludes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


class Given(NamedTuple):
    """An option as it was given: its value (True for a flag), and whether `!` stood before it."""

    value: Any
    inverted: bool = False


class Extension:
    """A match or a target as one rule uses it: the options that were given, in canonical form."""

    name: ClassVar[str]
    options: ClassVar[tuple[Option, ...]] = ()
    families: ClassVar[tuple[int, ...]] = (4, 6)
    # `-p` must name one of these, not inverted; empty: any, or none at all.
    protocols: ClassVar[frozenset[int]] = frozenset()
    # Where a rule with it may stand; empty: anywhere. Hooks are those from which the rule can be reached.
    tables: ClassVar[frozenset[str]] = frozenset()
    hooks: ClassVar[frozenset[str]] = frozenset()
    # At least one option must be given.
    some: ClassVar[bool] = False
    flag: ClassVar[str] = "-m"

    __slots__ = ("given", "scope")

    def __init__(self, given: Mapping[str, Given], scope: Scope) -> None:
        self.given = given
        self.scope = scope

    @classmethod
    def settle(cls, given: dict[str, Given], scope: Scope) -> dict[str, Given]:
        """The options in canonical form: other spellings replaced, defaults filled in. Raises Refused."""
        return given

    def allowed_hooks(self) -> frozenset[str]:
        """The hooks where the rule may stand, where that depends on the options; empty: all."""
        return self.hooks

    def allowed_tables(self) -> frozenset[str]:
        """The tables where the rule may stand, where that depends on the options; empty: all."""
        return self.tables

    @property
    def label(self) -> str:
        """`-m name` or `-j NAME`, for messages."""
        return f"{self.flag} {self.name}"

    def value(self, option: str, default: Any = None) -> Any:
        found = self.given.get(option)
        return default if found is None else found.value

    def has(self, option: str) -> bool:
        return option in self.given

    def inverted(self, option: str) -> bool:
        found = self.given.get(option)
        return found is not None and found.inverted

    def shown(self) -> Iterator[str]:
        """The words of the options in the order of their declaration, in which iptables-save prints them."""
        for option in self.options:
            found = self.given.get(option.name)
            if found is None:
                continue
            if found.inverted:
                yield "!"
            yield f"--{option.name}"
            if option.kind is not None:
                yield option.kind.show(found.value)

    def text(self) -> str:
        """As iptables-save prints it, from `-m` or `-j` on."""
        return " ".join((self.flag, self.name, *self.shown()))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Extension)
            and type(self) is type(other)
            and self.given == other.given
            and self.scope.family == other.scope.family
        )

    def __hash__(self) -> int:
        return hash((self.name, tuple(sorted(self.given))))

    def __repr__(self) -> str:
        return f"<{self.name} {' '.join(self.shown())}>"


class Match(Extension):
    __slots__ = ()

    def tests(self) -> Iterator[Test]:
        """What a packet must pass, in the kernel's order."""
        raise Refused(self.label, "read and printed, but not evaluated")

    def native(self) -> Iterator[Test]:
        """The same under the nft back end: iptables-nft writes some matches as expressions of nftables, and takes the
        kernel's own for the others."""
        return self.tests()


class Target(Extension):
    flag = "-j"
    __slots__ = ()

    def action(self) -> Action:
        """What it does. Raises Refused where it is not evaluated."""
        raise Refused(self.label, "read and printed, but not evaluated")
