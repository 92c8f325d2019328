"""What the real tools print of a namespace: the files of a host's dump, and the state after a step."""

import json
import os
from pathlib import Path

from judge.namespace import Namespace

# `nft` or `legacy`: which back end of iptables is asked where a scenario names none. Either must agree.
BACKEND = os.environ.get("DATAPLANE_IPTABLES", "nft")


def iptables_tool(family: int, verb: str, backend: str = BACKEND) -> str:
    return f"ip{'6' if family == 6 else ''}tables-{backend}-{verb}"


def _batch(namespace: Namespace, options: list[str], commands: list[str]) -> list[str]:
    """One `ip` for several questions: the JSON text of each answer."""
    text = namespace.run("ip", *options, "-json", "-batch", "-", text="".join(f"{line}\n" for line in commands))
    decoder = json.JSONDecoder()
    answers = []
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        _, end = decoder.raw_decode(text, position)
        answers.append(text[position:end] + "\n")
        position = end
    if len(answers) != len(commands):
        raise ValueError(f"ip -batch answered {len(answers)} of {len(commands)} questions")
    return answers


def take(namespace: Namespace, folder: Path, ipv6: bool, backend: str = BACKEND) -> None:
    """Write the files of a host's dump into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    files = network(namespace, ipv6)
    files["fdb.json"] = namespace.run("bridge", "-json", "fdb", "show")
    files["iptables.save"] = rules(namespace, 4, backend)
    if ipv6:
        files["ip6tables.save"] = rules(namespace, 6, backend)
    files["ipset.save"] = namespace.run("ipset", "save")
    files["sysctl.txt"] = namespace.run("sysctl", "-a", "--pattern", r"^net\.")
    files["conntrack.txt"] = connections(namespace)
    for name, text in files.items():
        (folder / name).write_text(text)


def network(namespace: Namespace, ipv6: bool) -> dict[str, str]:
    """The files that `ip` prints."""
    files = {"links.json": namespace.run("ip", "-details", "-json", "link", "show")}
    questions = {
        "addresses.json": "address show",
        "routes.json": "route show table all",
        "rules.json": "rule show",
        "neighbours.json": "neighbour show",
        "neighbours-proxy.json": "neighbour show proxy",
        "groups.json": "maddress show",
    }
    files.update(zip(questions, _batch(namespace, [], list(questions.values())), strict=True))
    if ipv6:
        questions = {"routes6.json": "route show table all", "rules6.json": "rule show"}
        files.update(zip(questions, _batch(namespace, ["-6"], list(questions.values())), strict=True))
    return files


def rules(namespace: Namespace, family: int, backend: str = BACKEND) -> str:
    return namespace.run(iptables_tool(family, "save", backend), "-c")


def connections(namespace: Namespace) -> str:
    return namespace.run("conntrack", "-L", "-o", "extended")


def interfaces(namespace: Namespace) -> dict[str, dict[str, int]]:
    """Packets, bytes and drops of each interface, both ways."""
    found = {}
    for link in json.loads(namespace.run("ip", "-s", "-json", "link", "show")):
        stats = link["stats64"]
        found[link["ifname"]] = {
            f"{way}_{what}": stats[way][what] for way in ("rx", "tx") for what in ("packets", "bytes", "dropped")
        }
    return found
