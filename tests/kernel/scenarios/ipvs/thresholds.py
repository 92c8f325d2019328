"""Thresholds: a server with too many connections is passed over until it has few enough."""

from judge.balanced import balanced
from judge.ipvs_node import IpvsNode
from judge.scenario import scenario


@scenario()
def upper_alone(node: IpvsNode) -> None:
    """Full at the upper threshold; open again below three quarters of it."""
    web = balanced(node, weights=(1,), server="-m -x 4", protocol="udp")
    assert web.picks(6) == [2, 2, 2, 2, 0, 0]
    node.wait(400)
    assert web.picks([41000]) == [2]


@scenario()
def upper_and_lower(node: IpvsNode) -> None:
    """Full at the upper threshold; open again only below the lower one."""
    web = balanced(node, weights=(1,), server="-m -x 4 -y 2")
    talks = [web.talk(40000 + i) for i in range(4)]
    for talk in talks:
        talk.open()
    for talk in talks[:3]:
        talk.client("R")
        node.wait(20)
        web.picks([41000 + talk.client_seq])


@scenario(families=(4, 6))
def the_others_take_over(node: IpvsNode) -> None:
    """Round robin passes over full servers; all full, the client is refused."""
    web = balanced(node, server="-m -x 2")
    assert web.picks(8).count(0) == 2


@scenario()
def raised(node: IpvsNode) -> None:
    """A raised threshold opens a full server at once."""
    web = balanced(node, weights=(1,), server="-m -x 2")
    web.picks(3)
    node.ipvs_change(web.server(2, "-m -w 1 -x 4 -y 0", "-e"))
    web.picks([41000, 41001, 41002])


@scenario()
def with_wlc(node: IpvsNode) -> None:
    """Weighted least connection passes over full servers."""
    balanced(node, "wlc", (1, 8, 1), server="-m -x 3").picks(11)


@scenario()
def with_sh(node: IpvsNode) -> None:
    """Source hashing refuses where the server is full."""
    balanced(node, "sh", (1, 1), server="-m -x 3", service="-b sh-port").picks(10)


@scenario()
def with_sh_fallback(node: IpvsNode) -> None:
    """Source hashing with fallback goes on to a server that has room."""
    balanced(node, "sh", (1, 1), server="-m -x 3", service="-b sh-port,sh-fallback").picks(8)


@scenario()
def with_persistence(node: IpvsNode) -> None:
    """A client stays with a full server: thresholds are for scheduling; its template counts as no connection."""
    balanced(node, server="-m -x 2", service="-p 100").picks(4)
