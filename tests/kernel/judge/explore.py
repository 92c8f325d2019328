"""Every packet in every state of a connection of IPVS, found by trying."""

from collections.abc import Callable

from judge.ipvs_node import IpvsNode


def _state(node: IpvsNode, sport: int) -> str:
    """The state of the connection from a port of the client; "" without one."""
    for line in node.recording.steps[-1].ipvs["-Lnc"].splitlines():
        words = line.split()
        if words[3].endswith(f":{sport}"):
            return words[2]
    return ""


def explore(node: IpvsNode, send: Callable[[int, int, int], None], sides: int, kinds: int, first: int) -> None:
    """Send every kind of packet of every side (0 client, 1 server) in every state that there is: look where each leads, and
    go on to whatever state is left to look at. send: port of the client, side, kind; a packet of the kind `first` begins."""
    moves = [(side, kind) for side in range(sides) for kind in range(kinds)]
    after: dict[str, dict[tuple[int, int], str]] = {}
    for sport in (40000, 40001):
        send(sport, 0, first)
        state = _state(node, sport)
        while True:
            ways: dict[str, list[tuple[int, int]]] = {state: []}
            queue = [state]
            while queue and all(move in after.get(queue[0], {}) for move in moves):
                here = queue.pop(0)
                for move, there in after[here].items():
                    if there and there not in ways:
                        ways[there] = [*ways[here], move]
                        queue.append(there)
            if not queue:
                break
            goal = queue[0]
            path = [*ways[goal], next(move for move in moves if move not in after.get(goal, {}))]
            for move in path:
                send(sport, *move)
                after.setdefault(state, {})[move] = _state(node, sport)
                state = after[state][move]
