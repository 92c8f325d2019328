"""-m socket: a socket of this host would take the packet (net/netfilter/xt_socket.c)."""

from __future__ import annotations

from collections.abc import Iterator

from dataplane.host.xtables.declare import Match, Option, Refused
from dataplane.host.xtables.predicate import Test


class Socket(Match):
    name = "socket"
    hooks = frozenset({"PREROUTING", "INPUT"})
    options = (Option("transparent"), Option("nowildcard"), Option("restore-skmark"))

    def tests(self) -> Iterator[Test]:
        raise Refused("-m socket", "no sockets are modelled, so it is not evaluated")


MATCH = Socket
