"""Which real server a scheduler takes for each new connection."""

from judge.balanced import balanced
from judge.ipvs_node import IpvsNode
from judge.scenario import scenario


@scenario(families=(4, 6))
def rr_in_turn(node: IpvsNode) -> None:
    """Round robin: the server that was added last is the first."""
    web = balanced(node)
    assert web.picks(7) == [4, 3, 2, 4, 3, 2, 4]


@scenario()
def rr_takes_no_weights(node: IpvsNode) -> None:
    """Round robin knows no weight but 0, which it passes over."""
    web = balanced(node, weights=(5, 0, 1))
    assert web.picks(5) == [4, 2, 4, 2, 4]
