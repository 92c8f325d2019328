"""-m socket: a socket of this host would take the packet (net/netfilter/xt_socket.c).

The sockets of a modelled host listen at every address, so that only --nowildcard finds them, and none is transparent.
"""

from __future__ import annotations

from collections.abc import Iterator

from dataplane._fast.ruleset import OpKind, SocketFlag
from dataplane.host.xtables.declare import Match, Option
from dataplane.host.xtables.predicate import Custom, Test

FLAGS = {"transparent": SocketFlag.SOCKET_TRANSPARENT, "nowildcard": SocketFlag.SOCKET_NO_WILDCARD}


class Socket(Match):
    name = "socket"
    hooks = frozenset({"PREROUTING", "INPUT"})
    # --restore-skmark copies the mark of a transparent socket alone.
    options = (Option("transparent"), Option("nowildcard"), Option("restore-skmark"))

    def tests(self) -> Iterator[Test]:
        yield Custom(OpKind.OP_SOCKET, (sum(flag for name, flag in FLAGS.items() if self.has(name)),))


MATCH = Socket
