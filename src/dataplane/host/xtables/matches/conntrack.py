"""-m conntrack: everything about the packet's connection (net/netfilter/xt_conntrack.c).

A packet without a connection passes only `--ctstate`: where that is asked for and holds, the other options are not
looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.ruleset import CtField
from dataplane.host.xtables.declare import Kind, Match, Option, Scope
from dataplane.host.xtables.predicate import ANY, CtAddress, CtWord, Test
from dataplane.host.xtables.states import ALL_STATES, state_test
from dataplane.host.xtables.values import (
    Network,
    flags_of,
    full_mask,
    number_range,
    prefix_length,
    protocol_number,
    read_network,
    show_address,
    words_of,
)

STATUSES = {"NONE": 0, "EXPECTED": 1, "SEEN_REPLY": 2, "ASSURED": 4, "CONFIRMED": 8}


def _network(text: str, scope: Scope) -> Network:
    network = read_network(text, scope.family)
    if prefix_length(network.mask, network.family) is None:
        raise ValueError(f"{text}: iptables-save does not print a mask with holes here")
    # As it was typed: unlike -s and -d, the host part is kept, and never matches.
    return network._replace(address=read_network(text.partition("/")[0], scope.family).address)


def _show_network(network: Network) -> str:
    shown = show_address(network.address, network.family)
    return (
        shown
        if network.mask == full_mask(network.family)
        else (f"{shown}/{prefix_length(network.mask, network.family)}")
    )


NETWORK = Kind(_network, _show_network)
# Ends in the wrong order are taken, and nothing lies between them.
PORT_RANGE = number_range(65535)
PROTOCOL = Kind(lambda text, scope: protocol_number(text), str)
_BITS = flags_of(STATUSES, "connection status")
STATUS = Kind(_BITS.read, lambda bits: _BITS.show(bits) or "NONE")

ADDRESSES = {
    "ctorigsrc": CtField.CT_ORIG_SRC,
    "ctorigdst": CtField.CT_ORIG_DST,
    "ctreplsrc": CtField.CT_REPLY_SRC,
    "ctrepldst": CtField.CT_REPLY_DST,
}
PORT_WORDS = {
    "ctorigsrcport": CtField.CT_ORIG_SPORT,
    "ctorigdstport": CtField.CT_ORIG_DPORT,
    "ctreplsrcport": CtField.CT_REPLY_SPORT,
    "ctrepldstport": CtField.CT_REPLY_DPORT,
}


class Conntrack(Match):
    name = "conntrack"
    some = True
    options = (
        Option("ctstate", flags_of(ALL_STATES, "connection state"), invert=True),
        Option("ctproto", PROTOCOL, invert=True),
        *(Option(name, NETWORK, invert=True) for name in ADDRESSES),
        Option("ctorigsrcport", PORT_RANGE, invert=True),
        Option("ctorigdstport", PORT_RANGE, invert=True),
        Option("ctreplsrcport", PORT_RANGE, invert=True),
        Option("ctrepldstport", PORT_RANGE, invert=True),
        Option("ctstatus", STATUS, invert=True),
        Option("ctexpire", number_range(ANY), invert=True),
        Option("ctdir", words_of(["ORIGINAL", "REPLY"], "direction")),
    )

    def tests(self) -> Iterator[Test]:
        absent = self.has("ctstate")
        if absent:
            yield state_test(self.value("ctstate"), self.inverted("ctstate"))
        if self.has("ctdir"):
            direction = self.value("ctdir")
            yield CtWord(CtField.CT_DIRECTION, direction, direction, absent=absent)
        for option, word in ADDRESSES.items():
            if self.has(option):
                network: Network = self.value(option)
                yield CtAddress(
                    word, network.address, network.mask, network.family, self.inverted(option), absent=absent
                )
        if self.has("ctproto"):
            protocol = self.value("ctproto")
            yield CtWord(CtField.CT_PROTOCOL, protocol, protocol, invert=self.inverted("ctproto"), absent=absent)
        for option, word in PORT_WORDS.items():
            if self.has(option):
                low, high = self.value(option)
                yield CtWord(word, low, high, invert=self.inverted(option), absent=absent)
        if self.has("ctstatus"):
            yield CtWord(CtField.CT_STATUS, 1, ANY, self.value("ctstatus"), self.inverted("ctstatus"), absent=absent)
        if self.has("ctexpire"):
            low, high = self.value("ctexpire")
            yield CtWord(CtField.CT_EXPIRES, low, high, invert=self.inverted("ctexpire"), absent=absent)


MATCH = Conntrack
