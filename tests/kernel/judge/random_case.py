"""A case of the random judge as text: what sets the node up and what happens to it, one thing a line.

    # a comment
    backend nft                              of iptables: nft or legacy, which a case has that does not say
    port eth0 02:00:00:00:00:01 mtu 1500     a port; `master cni0` puts it into a bridge
    ip -6 route add fd00:9::/64 via ...      a line of `ip`
    bridge fdb add ...                       a line of `bridge`
    sysctl net.ipv4.ip_forward = 1
    ipset add A 10.0.0.1                     a line of `ipset restore`
    iptables -t nat -A PREROUTING ...        a rule; ip6tables likewise
    listen udp 53                            a socket that takes what comes and never answers
    join eth0 224.0.0.5                      a socket that is in a multicast group
    receive eth0 0200...                     a frame that arrives at a port, in hex
    send 4500...                             an IP packet of the node's own
    wait 1.5                                 seconds
    change 4 *filter; :U1 - [0:0]; COMMIT    what iptables-restore --noflush takes, of a family

Every line stands by itself, so a case shrinks by leaving lines out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from judge.node import Node
from judge.recording import Recording, decode
from judge.scenario import Scenario

STEPS = ("receive", "send", "wait", "change")
FOUND = Path(__file__).parent.parent / "found"
MASKS = ("chosen",)


def set_up(node: Node, lines: Iterable[str]) -> None:
    """Everything before the first step."""
    node.dual()
    node.look_at_every_step = False
    node.recording.readable = False  # the order is lost where rules drop; see random_masks.py
    for verb, group in groupby(lines, lambda line: line.split(" ", 1)[0]):
        texts = [line.split(" ", 1)[1] for line in group]
        if verb == "ip":
            node.ip("\n".join(texts))
        elif verb == "bridge":
            node.bridge("\n".join(texts))
        elif verb == "sysctl":
            node.sysctl("\n".join(texts))
        elif verb == "ipset":
            node.ipset("\n".join(texts))
        elif verb in ("iptables", "ip6tables"):
            node.rules("\n".join(texts), 6 if verb == "ip6tables" else 4)
        elif verb == "port":
            for text in texts:
                name, mac, *options = text.split()
                named = dict(zip(options[::2], options[1::2], strict=True))
                node.port(name, mtu=int(named.get("mtu", "1500")), master=named.get("master", ""), mac=mac)
        elif verb == "listen":
            for text in texts:
                protocol, port = text.split()
                node.listen(protocol, int(port))
        elif verb == "join":
            for text in texts:
                node.join(*text.split())
        else:
            raise ValueError(f"not a line of a case: {verb} {texts[0]}")


def take_steps(node: Node, lines: Iterable[str]) -> None:
    for line in lines:
        verb, *words = line.split()
        if verb == "change":
            node.change(line.split(" ", 2)[2].replace("; ", "\n") + "\n", int(words[0]))
        elif verb == "receive":
            node.receive(words[0], bytes.fromhex(words[1]))
        elif verb == "send":
            node.send(bytes.fromhex(words[0]))
        else:
            node.wait(float(words[0]))
    node.start()
    if node.recording.steps:
        node.look()


def scenario_of(name: str, shows: str, lines: Sequence[str]) -> Scenario:
    """A scenario that does what the lines say."""
    steps = [line for line in lines if line.startswith(STEPS)]
    before = [line for line in lines if not line.startswith((*STEPS, "backend "))]

    def body(node: Node) -> None:
        set_up(node, before)
        take_steps(node, steps)

    return Scenario(name, shows, 4, body, MASKS, "", backend_of(lines))


def backend_of(lines: Iterable[str]) -> str:
    return next((line.split()[1] for line in lines if line.startswith("backend ")), "legacy")


def steps_of(recording: Recording) -> list[str]:
    """The lines of what happened in a recording."""
    lines = []
    for step in recording.steps:
        if step.kind == "receive":
            lines.append(f"receive {step.interface} {step.data.hex()}")
        elif step.kind == "send":
            lines.append(f"send {step.data.hex()}")
        elif step.kind == "change":
            lines.append(f"change {step.interface} {'; '.join(step.data.decode().splitlines())}")
        else:
            lines.append("wait 1.3")
    return lines


def parse(text: str) -> list[str]:
    return [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]


def text_of(shows: str, told: Iterable[str], lines: Iterable[str]) -> str:
    """A case as it is kept: its first line says what it shows, then what differed, then the lines, frames explained."""
    made = [f"# {shows}", *(f"# {line}" for line in told), ""]
    for line in lines:
        verb, *words = line.split()
        if verb in ("receive", "send"):
            try:
                summary = decode(bytes.fromhex(words[-1]), verb == "receive").summary()
            except Exception:  # scapy does not read everything that a wire may carry
                summary = "not to be read"
            made += ["", f"# {summary}"]
        made.append(line)
    return "\n".join(made) + "\n"


def found() -> dict[str, Scenario]:
    """The cases that are kept in the folder `found`, as scenarios."""
    cases = {}
    for path in sorted(FOUND.glob("*.case")):
        text = path.read_text()
        name = f"found/{path.stem}"
        cases[name] = scenario_of(name, text.splitlines()[0].removeprefix("# "), parse(text))
    return cases
