"""What the true kube-proxy 1.30.5 wrote, read from the shared data, and how to hold ours against it."""

import json
import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

from dataplane.agents.firewall import Firewall
from dataplane.agents.kubeproxy.options import ProxyOptions
from dataplane.agents.kubeproxy.proxier import Proxier
from dataplane.cluster import ClusterState, Objects, load_manifests

SHARED = Path(os.environ.get("DATAPLANE_SHARED") or Path(__file__).parents[2].parent / "shared")
DATA = SHARED / "data" / "kube-proxy"
SHARED_CHAINS = {"KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL"}

Chains = dict[tuple[str, str], list[str]]


def stated(objects: Objects) -> ClusterState:
    """The objects as they stand, nothing filled in: what kube-proxy's own tests give it."""
    slices: dict[tuple[str, str], list] = {}
    for piece in objects.endpoint_slices:
        slices.setdefault((piece.namespace, piece.service), []).append(piece)
    return ClusterState(
        nodes=objects.nodes,
        pods=objects.pods,
        services=objects.services,
        slices=objects.endpoint_slices,
        endpoints={key: tuple(found) for key, found in slices.items()},
        families=(4, 6),
        configs=objects.configs,
    )


def saved(text: str) -> Chains:
    """(table, chain) -> rules behind "-A CHAIN " of an iptables-save text, without its counters."""
    chains: Chains = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            chains[table, line[1:].split()[0]] = []
        elif line.startswith("-A "):
            _, chain, rule = line.split(" ", 2)
            chains[table, chain].append(rule)
    return chains


def by_service(rules: Iterable[str]) -> list[str]:
    """Rules sorted by the Service that their comment names, the order within a Service kept."""
    return sorted(rules, key=lambda rule: ("this must be the last rule" in rule, _service(rule)))


def _service(rule: str) -> str:
    comment = re.search(r'--comment "([^" ]*)', rule)
    return comment[1] if comment else ""


def differences(ours: Chains, theirs: Chains) -> dict[tuple[str, str], tuple[list[str] | None, list[str] | None]]:
    """The chains that differ, each as (ours, theirs); None for a chain that is not there."""
    found = {}
    for key in ours.keys() | theirs.keys():
        mine, other = ours.get(key), theirs.get(key)
        if key[1] in SHARED_CHAINS and other is not None:
            other = by_service(other)
            mine = None if mine is None else by_service(mine)
        if mine != other:
            found[key] = mine, other
    return found


@dataclass
class Case:
    """One .restore text with the objects and options that led to it."""

    restore: str
    state: ClusterState
    options: ProxyOptions
    family: int
    addresses: list

    @classmethod
    def read(cls, path: Path) -> "Case":
        source = path.with_name(path.name.replace(".v1.30.5.restore", ".yaml"))
        text = source.read_text()
        stated_options = json.loads(re.search(r"options: (\{.*\})", text)[1])
        interfaces = re.search(r"on the node's interfaces: (.*)", text)[1].split(", ")
        pod_cidr = stated_options["PodCIDR"]
        options = ProxyOptions(
            cluster_cidrs=(ip_network(pod_cidr),) if pod_cidr else (),
            masquerade_all=stated_options["MasqueradeAll"],
            localhost_node_ports=stated_options["LocalhostNodePorts"],
            node_port_addresses=tuple(map(ip_network, stated_options["NodePortAddresses"])),
            bind_address=ip_address(stated_options["NodeIP"]),
            random_fully=False,  # the fake iptables of these cases is too old for it
        )
        return cls(
            path.read_text(),
            stated(load_manifests(source)),
            options,
            int(stated_options["Family"][-1]),
            [ip_interface(text).ip for text in interfaces],
        )

    def ours(self) -> Chains:
        return rendered(self.state, self.options, self.family, self.addresses)


def rendered(state: ClusterState, options: ProxyOptions, family: int, addresses: Iterable) -> Chains:
    firewall = Firewall(family)
    Proxier(state, options).sync(firewall, state.nodes[0], addresses)
    return saved(firewall.ruleset().text())


def golden_cases() -> dict[str, list[Path]]:
    """Case -> its .restore files in order: the phases of one case act on what the phase before left."""
    cases: dict[str, list[Path]] = {}
    for path in sorted([*DATA.glob("golden/iptables/*.restore"), *DATA.glob("golden/flow-tests/iptables_*.restore")]):
        name = re.sub(r"(\.\d+-[^.]*|\.phase\d)?\.v1\.30\.5\.restore$", "", path.name)
        cases.setdefault(name, []).append(path)
    return cases


# The options of matches and targets that a kube-proxy text holds, by the module that takes them.
OPTIONS = {
    "--dport": "protocol",
    "--ctstate": "conntrack",
    "--comment": "comment",
    "--mark": "mark",
    "--dst-type": "addrtype",
    "--src-type": "addrtype",
    "--mode": "statistic",
    "--probability": "statistic",
    "--name": "recent",
    "--rcheck": "recent",
    "--seconds": "recent",
    "--reap": "recent",
    "--set": "recent",
    "--match-set": "set",
    "--physdev-is-in": "physdev",
    "--vaddr": "ipvs",
    "--vproto": "ipvs",
    "--vport": "ipvs",
}
WITHOUT_VALUE = {"--rcheck", "--reap", "--set", "--random-fully", "--physdev-is-in"}


def as_saved(rule: str, family: int) -> str:
    """A rule as kube-proxy gives it to iptables-restore, as iptables-save would print it. Written apart from the
    agent, from the forms in which the kernel's tools print; the kernel itself is asked elsewhere."""
    words = shlex.split(rule)
    source = destination = interface = protocol = target = ""
    matches: list[tuple[str, list[str]]] = []
    end: list[str] = []
    negated = ""
    while words:
        word = words.pop(0)
        if word == "!":
            negated = "! "
            continue
        if word in ("-s", "-d", "-i", "-p", "-m", "-j"):
            value = words.pop(0)
            if word == "-s":
                source = f"{negated}-s {_network(value, family)} "
            elif word == "-d":
                destination = f"{negated}-d {_network(value, family)} "
            elif word == "-i":
                interface = f"{negated}-i {value} "
            elif word == "-p":
                protocol = value
            elif word == "-m":
                matches.append((value, []))
            else:
                target = value
        elif target:
            end += [word] if word in WITHOUT_VALUE else [word, words.pop(0)]
        else:
            module = protocol_module(matches) if OPTIONS[word] == "protocol" else OPTIONS[word]
            given = next(options for name, options in reversed(matches) if name == module)
            value = "" if word in WITHOUT_VALUE else f" {_value(word, words.pop(0))}"
            if word == "--match-set":
                value += f" {words.pop(0)}"
            given.append(f"{negated}{word}{value}")
        negated = ""
    parts = [source + destination + interface + (f"-p {protocol} " if protocol else "")]
    parts += [f"-m {name} {' '.join(_ordered(name, options, family))}".rstrip() + " " for name, options in matches]
    parts.append(_target(target, end, family))
    return "".join(parts).strip()


def protocol_module(matches: list[tuple[str, list[str]]]) -> str:
    return next(name for name, _ in matches if name in ("tcp", "udp", "sctp"))


def _network(text: str, family: int) -> str:
    return text if "/" in text else f"{_address(text)}/{32 if family == 4 else 128}"


def _address(text: str) -> str:
    return ".".join(str(int(part)) for part in text.split(".")) if "." in text else str(ip_address(text))


def _value(option: str, value: str) -> str:
    if option == "--comment":
        return f'"{value}"'
    if option == "--vproto":
        return {"tcp": "6", "udp": "17", "sctp": "132"}[value]
    if option == "--mark":
        return "/".join(f"{int(part, 16):#x}" for part in value.split("/"))
    if option == "--probability":
        return f"{round(float(value) * 2**31) / 2**31:.11f}"
    return value


def _ordered(name: str, options: list[str], family: int) -> list[str]:
    if name == "ipvs":
        return sorted(options, key=lambda option: ["--vproto", "--vaddr", "--vport"].index(option.split()[0]))
    if name != "recent":
        return options
    order = ["--set", "--rcheck", "--seconds", "--reap", "--name"]
    mask = "255.255.255.255" if family == 4 else ":".join(["ffff"] * 8)
    return [*sorted(options, key=lambda option: order.index(option.split()[0])), f"--mask {mask}", "--rsource"]


def _target(target: str, options: list[str], family: int) -> str:
    if target == "REJECT":
        return f"-j REJECT --reject-with icmp{'6' if family == 6 else ''}-port-unreachable"
    if target == "MARK":
        mark = f"{int(options[1], 16):#x}"
        return f"-j MARK --set-xmark {mark}/{mark if options[0] == '--or-mark' else '0x0'}"
    if target == "DNAT":
        ip, port = options[1].rsplit(":", 1)
        options = [options[0], f"[{_address(ip.strip('[]'))}]:{port}" if family == 6 else f"{_address(ip)}:{port}"]
    return " ".join(["-j", target, *options]) if target else ""


def restore(chains: Chains, text: str, family: int) -> None:
    """Do to `chains` what iptables-restore --noflush does with a text."""
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            chains[table, line[1:].split()[0]] = []
        elif line.startswith("-A "):
            _, chain, rule = line.split(" ", 2)
            chains[table, chain].append(as_saved(rule, family))
        elif line.startswith("-X "):
            del chains[table, line[3:]]
