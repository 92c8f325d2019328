"""-m socket: a socket of this host would take the packet (net/netfilter/xt_socket.c)."""

from __future__ import annotations

from dataplane.host.xtables.declare import Match, Option


class Socket(Match):
    name = "socket"
    hooks = frozenset({"PREROUTING", "INPUT"})
    options = (Option("transparent"), Option("nowildcard"), Option("restore-skmark"))


MATCH = Socket
