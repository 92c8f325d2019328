"""One rule as text: what iptables takes behind `-A CHAIN`, and what iptables-save prints there.

Options are found as getopt_long finds them: long names may be cut short where that is unambiguous, and `-p tcp`
brings its match along when one of its options follows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dataplane._fast.packet import Field
from dataplane.host.iptables_backend import Backend
from dataplane.host.xtables import find_match, find_target
from dataplane.host.xtables.declare import Extension, Given, Match, Option, Refused, Scope, Target
from dataplane.host.xtables.predicate import ANY, Address, Interface, Test, Word
from dataplane.host.xtables.values import (
    Network,
    interface_name,
    protocol_name,
    protocol_number,
    read_network,
    show_network,
)

VERDICTS = frozenset({"ACCEPT", "DROP", "RETURN"})


@dataclass(frozen=True, slots=True)
class Selector:
    """What a rule asks without any match: addresses, interfaces, protocol, fragment. `not_`: with `!` before it."""

    source: Network | None = None
    destination: Network | None = None
    in_interface: str = ""
    out_interface: str = ""
    protocol: int = 0
    fragment: bool = False
    not_source: bool = False
    not_destination: bool = False
    not_in: bool = False
    not_out: bool = False
    not_protocol: bool = False
    not_fragment: bool = False

    def words(self) -> Iterator[str]:
        for option, network, inverted in (
            ("-s", self.source, self.not_source),
            ("-d", self.destination, self.not_destination),
        ):
            if network is not None:
                yield f"! {option} {show_network(network)}" if inverted else f"{option} {show_network(network)}"
        for option, name, inverted in (
            ("-i", self.in_interface, self.not_in),
            ("-o", self.out_interface, self.not_out),
        ):
            if name:
                yield f"! {option} {name}" if inverted else f"{option} {name}"
        if self.protocol:
            yield f"{'! ' if self.not_protocol else ''}-p {protocol_name(self.protocol)}"
        if self.fragment:
            yield "! -f" if self.not_fragment else "-f"

    def tests(self, backend: Backend, family: int) -> Iterator[Test]:
        """In the order of ip_packet_match (net/ipv4/netfilter/ip_tables.c)."""
        for word, network, inverted in (
            (Field.FIELD_SRC, self.source, self.not_source),
            (Field.FIELD_DST, self.destination, self.not_destination),
        ):
            if network is not None:
                yield Address(word, network.address, network.mask, network.family, inverted)
        if self.in_interface:
            yield Interface(Field.FIELD_IIF, self.in_interface, self.not_in)
        if self.out_interface:
            yield Interface(Field.FIELD_OIF, self.out_interface, self.not_out)
        if self.protocol:
            word = Field.FIELD_L4PROTO if backend == "nft" and family == 6 else Field.FIELD_PROTO
            yield Word(word, self.protocol, self.protocol, invert=self.not_protocol)
        if self.fragment:
            yield Word(Field.FIELD_FRAGMENT, 1, ANY, invert=self.not_fragment)


@dataclass(frozen=True, slots=True)
class Specification:
    """A rule understood.

    jump: a verdict, a chain, or the name of the extension target; "" for a rule that only counts.
    """

    family: int
    selector: Selector
    matches: tuple[Match, ...] = ()
    jump: str = ""
    goto: bool = False
    target: Target | None = None

    @property
    def chain(self) -> str:
        """The chain that the rule goes to, "" if to none."""
        return self.jump if self.target is None and self.jump not in VERDICTS else ""

    def text(self) -> str:
        words = [*self.selector.words(), *(match.text() for match in self.matches)]
        if self.target is not None:
            words.append(self.target.text())
        elif self.jump:
            words.append(f"{'-g' if self.goto else '-j'} {self.jump}")
        return " ".join(words)

    def tests(self, backend: Backend) -> Iterator[Test]:
        """What a packet must pass, in the kernel's order. Raises Refused for a match that is not evaluated."""
        yield from self.selector.tests(backend, self.family)
        for match in self.matches:
            yield from match.native() if backend == "nft" else match.tests()


# ---- words -----------------------------------------------------------------------------------------------------------


def split(line: str) -> list[str]:
    """The words of a line as iptables-restore cuts them: double quotes keep blanks, a backslash inside them the next
    character; a closing quote ends the word. Raises Refused for a quote that stays open."""
    if '"' not in line:
        return line.split()
    words: list[str] = []
    word: list[str] = []
    is_quoted = escaped = False
    for character in line:
        if is_quoted:
            if escaped:
                word.append(character)
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                is_quoted = False
                words.append("".join(word))
                word = []
            else:
                word.append(character)
        elif character == '"':
            is_quoted = True
        elif character in " \t\n":
            if word:
                words.append("".join(word))
                word = []
        else:
            word.append(character)
    if is_quoted:
        raise Refused('"', "a quote is not closed")
    if word:
        words.append("".join(word))
    return words


# ---- options ---------------------------------------------------------------------------------------------------------

_LETTERS = {
    "s": "source",
    "d": "destination",
    "p": "protocol",
    "i": "in-interface",
    "o": "out-interface",
    "m": "match",
    "j": "jump",
    "g": "goto",
    "f": "fragment",
    "c": "set-counters",
    "4": "ipv4",
    "6": "ipv6",
}
_LONG = {
    **{name: name for name in _LETTERS.values()},
    "src": "source",
    "dst": "destination",
    "proto": "protocol",
    "fragments": "fragment",
}
# Commands and options of the tool that have no place in a rule; they count when a name is cut short.
_ELSEWHERE = (
    "append", "delete", "check", "insert", "replace", "list", "list-rules", "flush", "zero", "new-chain",
    "delete-chain", "rename-chain", "policy", "table", "numeric", "verbose", "wait", "exact", "version", "help",
    "line-numbers", "modprobe",
)  # fmt: skip
_INVERTIBLE = frozenset({"source", "destination", "protocol", "in-interface", "out-interface", "fragment"})


class _Loaded:
    """An extension that the rule names, while its options come in."""

    __slots__ = ("given", "kind", "label", "names")

    def __init__(self, kind: type[Extension], label: str) -> None:
        self.kind = kind
        self.label = label
        self.given: dict[str, Given] = {}
        self.names: dict[str, Option] = {}
        for option in kind.options:
            for name in (option.name, *option.also):
                self.names[name] = option


@dataclass(slots=True)
class Parsed:
    """A line understood: as many rules as it has pairs of addresses, and the counters it states."""

    specifications: list[Specification]
    packets: int = 0
    bytes: int = 0


class _Parser:
    def __init__(self, words: Sequence[str], family: int, chain: str) -> None:
        self.words = words
        self.at = 0
        self.family = family
        self.chain = chain
        self.base: dict[str, tuple[str, bool]] = {}
        self.protocol = 0
        self.matches: list[_Loaded] = []
        self.target: _Loaded | None = None
        self.jump = ""
        self.goto = False
        self.counters = (0, 0)

    def take(self, option: str) -> str:
        if self.at >= len(self.words):
            raise Refused(option, "its value is missing")
        self.at += 1
        return self.words[self.at - 1]

    # getopt_long looks at what was loaded last first, and at the tool's own options before all.
    def owners(self) -> Iterator[_Loaded]:
        if self.target is not None:
            yield self.target
        yield from reversed(self.matches)

    def find(self, name: str) -> tuple[_Loaded | None, Option | str] | None:
        """The option of a long name, which may be cut short."""
        if name in _LONG:
            return None, _LONG[name]
        for owner in self.owners():
            if name in owner.names:
                return owner, owner.names[name]
        found: list[tuple[_Loaded | None, Option | str]] = []
        for long, option in _LONG.items():
            if long.startswith(name) and (None, option) not in found:
                found.append((None, option))
        found += [(None, "") for other in _ELSEWHERE if other.startswith(name)]
        for owner in self.owners():
            for long, declared in owner.names.items():
                if long.startswith(name) and not any(who is owner and what is declared for who, what in found):
                    found.append((owner, declared))
        if len(found) > 1:
            raise Refused(f"--{name}", "an ambiguous option")
        return found[0] if found else None

    def run(self) -> Parsed:
        inverted = False
        while self.at < len(self.words):
            word = self.take("")
            if word == "!":
                if inverted:
                    raise Refused("!", "twice in a row")
                inverted = True
                continue
            if word.startswith("--") and len(word) > 2:
                self.long(word, inverted)
            elif word.startswith("-") and len(word) > 1:
                self.short(word, inverted)
            else:
                raise Refused(word, "a word that belongs to no option")
            inverted = False
        if inverted:
            raise Refused("!", "nothing stands behind it")
        return self.finish()

    def short(self, word: str, inverted: bool) -> None:
        letter, rest = word[1], word[2:]
        if letter == "f" and self.family == 6:
            raise Refused("-f", "there is no such option in IPv6")
        if letter not in _LETTERS:
            raise Refused(word, "unknown option")
        if rest:
            if letter in "f46":
                raise Refused(word, "unknown option")
            # `-ptcp`: the rest of the word is the value.
            self.words = [*self.words[: self.at], rest, *self.words[self.at :]]
        self.own(_LETTERS[letter], f"-{letter}", inverted)

    def long(self, word: str, inverted: bool) -> None:
        name, equals, value = word[2:].partition("=")
        found = self.find(name)
        if found is None and self.load_protocol():
            found = self.find(name)
        if found is None:
            raise Refused(f"--{name}", "unknown option")
        if equals:
            self.words = [*self.words[: self.at], value, *self.words[self.at :]]
        owner, option = found
        if owner is None:
            assert isinstance(option, str)
            if not option:
                raise Refused(f"--{name}", "not an option of a rule")
            if option == "fragment" and self.family == 6:
                raise Refused(f"--{name}", "there is no such option in IPv6")
            self.own(option, f"--{name}", inverted)
        else:
            assert isinstance(option, Option)
            self.given(owner, option, inverted)

    def load_protocol(self) -> bool:
        """`-p tcp --dport 80`: the protocol's match comes by itself."""
        if self.protocol == 0:
            return False
        name = protocol_name(abs(self.protocol))
        kind = find_match(name)
        if kind is None or any(loaded.kind is kind for loaded in self.matches) or self.family not in kind.families:
            return False
        self.matches.append(_Loaded(kind, f"-m {kind.name}"))
        return True

    def given(self, owner: _Loaded, option: Option, inverted: bool) -> None:
        shown = f"--{option.name}"
        if option.name in owner.given:
            raise Refused(shown, "given more than once")
        if inverted and not option.invert:
            raise Refused(shown, "cannot be inverted")
        value: object = True
        if option.kind is not None:
            count = option.kind.arguments
            words = [self.take(shown) for _ in range(count)]
            scope = Scope(self.family, self.protocol)
            try:
                value = option.kind.read(words[0] if count == 1 else tuple(words), scope)
            except ValueError as error:
                raise Refused(shown, str(error)) from None
        owner.given[option.name] = Given(value, inverted)

    def own(self, option: str, shown: str, inverted: bool) -> None:
        """One of the tool's own options."""
        if inverted and option not in _INVERTIBLE:
            raise Refused(shown, "cannot be inverted")
        if option in ("ipv4", "ipv6"):
            if option != f"ipv{self.family}":
                raise Refused(shown, f"the rules are for IPv{self.family}")
            return
        if option == "fragment":
            self.once(option, shown, "", inverted)
            return
        value = self.take(shown)
        if option == "match":
            self.load_match(value)
        elif option in ("jump", "goto"):
            self.load_target(value, option == "goto", shown)
        elif option == "set-counters":
            self.counters = (_counter(shown, value), _counter(shown, self.take(shown)))
        else:
            self.once(option, shown, value, inverted)
            if option == "protocol":
                self.protocol = _protocol(shown, value, inverted)
            elif option in ("in-interface", "out-interface"):
                self.interface(option, shown, value)

    def once(self, option: str, shown: str, value: str, inverted: bool) -> None:
        if option in self.base:
            raise Refused(shown, "given more than once")
        self.base[option] = (value, inverted)

    def interface(self, option: str, shown: str, value: str) -> None:
        try:
            interface_name(value, Scope(self.family))
        except ValueError as error:
            raise Refused(shown, str(error)) from None
        refused = ("OUTPUT", "POSTROUTING") if option == "in-interface" else ("PREROUTING", "INPUT")
        if self.chain in refused:
            raise Refused(shown, f"has no place in {self.chain}")

    def load_match(self, name: str) -> None:
        kind = find_match(name)
        if kind is None:
            raise Refused(f"-m {name}", "this match is not known")
        if self.family not in kind.families:
            raise Refused(f"-m {name}", f"there is no such match in IPv{self.family}")
        self.matches.append(_Loaded(kind, f"-m {kind.name}"))

    def load_target(self, name: str, goto: bool, shown: str) -> None:
        if self.jump:
            raise Refused(shown, "a rule has one target")
        if not name:
            raise Refused(shown, "an empty name")
        if name == "QUEUE":
            raise Refused(f"-j {name}", "a program that decides on packets is not modelled")
        self.jump, self.goto = name, goto
        kind = find_target(name)
        if kind is None or goto:
            if goto and (kind is not None or name in VERDICTS):
                raise Refused(shown, f"{name} is not a chain")
            return
        if self.family not in kind.families:
            raise Refused(f"-j {name}", f"there is no such target in IPv{self.family}")
        self.target = _Loaded(kind, f"-j {name}")

    def finish(self) -> Parsed:
        scope = Scope(self.family, self.protocol)
        matches = tuple(_settle(loaded, scope) for loaded in self.matches)
        target = None if self.target is None else _settle(self.target, scope)
        selectors = self.selectors()
        specifications = [
            Specification(self.family, selector, matches, self.jump, self.goto, target)  # type: ignore[arg-type]
            for selector in selectors
        ]
        return Parsed(specifications, *self.counters)

    def selectors(self) -> list[Selector]:
        """One for each pair of a source and a destination: `-s A,B -d C,D` is four rules."""
        lists: list[list[Network | None]] = []
        flags: list[bool] = []
        for option, shown in (("source", "-s"), ("destination", "-d")):
            text, inverted = self.base.get(option, ("", False))
            networks: list[Network | None] = []
            for item in text.split(",") if option in self.base else ():
                try:
                    network = read_network(item, self.family)
                except ValueError as error:
                    raise Refused(shown, str(error)) from None
                # Everything: not printed, unless it is inverted, when nothing matches.
                networks.append(network if network.mask or inverted else None)
            if inverted and len(networks) > 1:
                raise Refused(shown, "! with several addresses")
            lists.append(networks or [None])
            flags.append(inverted)
        in_name, not_in = self.base.get("in-interface", ("", False))
        out_name, not_out = self.base.get("out-interface", ("", False))
        return [
            Selector(
                source=source,
                destination=destination,
                in_interface="" if in_name == "+" and not not_in else in_name,
                out_interface="" if out_name == "+" and not not_out else out_name,
                protocol=abs(self.protocol),
                fragment="fragment" in self.base,
                not_source=flags[0],
                not_destination=flags[1],
                not_in=not_in,
                not_out=not_out,
                not_protocol=self.protocol < 0,
                not_fragment=self.base.get("fragment", ("", False))[1],
            )
            for source, destination in itertools.product(*lists)
        ]


def _counter(shown: str, text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise Refused(shown, f"{text!r} is not a number")
    return int(text)


def _protocol(shown: str, text: str, inverted: bool) -> int:
    """The number, negative when inverted."""
    try:
        number = protocol_number(text)
    except ValueError as error:
        raise Refused(shown, str(error)) from None
    if inverted and number == 0:
        raise Refused(shown, "no packet is of no protocol")
    return -number if inverted else number


def _settle(loaded: _Loaded, scope: Scope) -> Extension:
    kind, given = loaded.kind, loaded.given
    if kind.some and not given:
        raise Refused(loaded.label, "at least one option must be given")
    for option in kind.options:
        if option.required and option.name not in given:
            raise Refused(loaded.label, f"--{option.name} must be given")
        if option.name not in given:
            continue
        for other in option.excludes:
            if other in given:
                raise Refused(f"--{option.name}", f"cannot stand with --{other}")
        for other in option.needs:
            if other not in given:
                raise Refused(f"--{option.name}", f"needs --{other}")
    if kind.protocols and scope.protocol not in kind.protocols:
        names = ", ".join(f"-p {protocol_name(number)}" for number in sorted(kind.protocols))
        raise Refused(loaded.label, f"needs {names}")
    return kind(kind.settle(given, scope), scope)


def parse_rule(words: Sequence[str], family: int, chain: str = "") -> Parsed:
    """Understand the words of one rule. chain: a built-in chain that it stands in, for what has no place there.

    Raises Refused, which names the option.
    """
    return _Parser(words, family, chain).run()
