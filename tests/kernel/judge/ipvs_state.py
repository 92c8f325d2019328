"""What the kernel tells of IPVS: /proc after every step, ipvsadm at the end, and the files of a dump."""

import os
import re
from ipaddress import ip_address

from judge.namespace import Namespace

_WRITTEN_OUT = re.compile(r"\b(?:[0-9a-f]{4}:){7}[0-9a-f]{4}\b")  # IPv6 addresses of /proc

# Words of ipvsadm, by the name under which its text is kept.
TOOLS = {
    "-Ln": ("-Ln",),
    "-Ln --stats --exact": ("-Ln", "--stats", "--exact"),
    "-Lnc": ("-Lnc",),
}


def take(namespace: Namespace, thresholds: bool) -> dict[str, str]:
    """The files of a dump. thresholds: some were set, which `ipvsadm --save` does not tell.

    `ipvsadm --save` sorts real servers by address, but schedulers walk the kernel's own order, in which the one that was
    added last is first. So they are written in the order in which they were added: to restore the file gives the same.
    """
    saved = _as_added(namespace.run("ipvsadm", "--save", "--numeric"), _read(namespace, "ip_vs"))
    if thresholds:
        saved = _with_thresholds(saved, namespace.run("ipvsadm", "-Ln", "--thresholds"))
    return {"ipvs.save": saved}


_PROTOCOLS = {"-t": "TCP", "-u": "UDP", "--sctp-service": "SCTP", "-f": "FWM"}


def _as_added(saved: str, proc: str) -> str:
    newest_first: dict[tuple[str, str], list[str]] = {}
    servers: list[str] = []
    for line in proc.splitlines()[3:]:
        words = line.split()
        if words[0] == "->":
            servers.append(_told(words[1]))
        else:
            name = str(int(words[1], 16)) if words[0] == "FWM" else _told(words[1])
            servers = newest_first.setdefault((words[0], name), [])
    lines = []
    for line in saved.splitlines():
        verb, flag, name, *rest = line.split()
        order = newest_first[_PROTOCOLS[flag], name]
        # Services stand in any order; behind each of them, its servers from the oldest to the newest.
        lines.append(((flag, name), -order.index(rest[rest.index("-r") + 1]) if verb == "-a" else -len(order), line))
    return "".join(f"{line}\n" for *_, line in sorted(lines))


def _with_thresholds(saved: str, listing: str) -> str:
    found: dict[tuple[str, str, str], str] = {}
    protocol = name = ""
    for line in listing.splitlines()[3:]:
        words = line.split()
        if words[0] == "->":
            found[protocol, name, words[1]] = f" -x {words[2]} -y {words[3]}"
        else:
            protocol, name = words[:2]
    lines = []
    for line in saved.splitlines():
        verb, flag, name, *rest = line.split()
        lines.append(line + (found[_PROTOCOLS[flag], name, rest[1]] if verb == "-a" else ""))
    return "".join(f"{line}\n" for line in lines)


def _told(text: str) -> str:
    address, _, port = text.rpartition(":")
    return _endpoint(address, port)


def tools(namespace: Namespace) -> dict[str, str]:
    return {name: namespace.run("ipvsadm", *words) for name, words in TOOLS.items()}


def _read(namespace: Namespace, name: str) -> str:
    with namespace, open(f"/proc/thread-self/net/{name}") as file:
        return file.read()


def glance(namespace: Namespace) -> dict[str, str]:
    """What `ipvsadm -Ln` and `-Lnc` say, from /proc: without options of services, and without headings."""
    return {
        "-Ln": services(_read(namespace, "ip_vs")),
        "-Lnc": connections(_read(namespace, "ip_vs_conn")),
    }


def services(text: str) -> str:
    """Rows of /proc/net/ip_vs as rows of `ipvsadm -Ln`."""
    rows = []
    for line in text.splitlines()[3:]:
        protocol, name, *rest = line.split()
        told = str(int(name, 16)) if protocol == "FWM" else _told(name)
        rows.append(f"  -> {told} {' '.join(rest)}" if protocol == "->" else f"{protocol} {told} {rest[0]}")
    return "".join(f"{row}\n" for row in rows)


def _endpoint(address: str, port: str) -> str:
    if len(address) == 8:
        return f"{ip_address(int(address, 16))}:{int(port, 16)}"
    return f"[{ip_address(address.strip('[]'))}]:{int(port, 16)}"


def connections(text: str) -> str:
    """Rows of /proc/net/ip_vs_conn as rows of `ipvsadm -Lnc`."""
    rows = []
    for line in text.splitlines()[1:]:
        protocol, *words = line.split()
        ends = [_endpoint(*words[i : i + 2]) for i in (0, 2, 4)]
        state, seconds = words[6], int(words[7])
        rows.append(f"{protocol:<3} {seconds // 60:02}:{seconds % 60:02}  {state:<11} {' '.join(ends)}")
    return "".join(f"{row}\n" for row in sorted(rows))


def netfilter_connections(namespace: Namespace) -> str:
    """What `conntrack -L -o extended` says, from /proc."""
    text = _read(namespace, "nf_conntrack").replace(" zone=0", "")
    return _WRITTEN_OUT.sub(lambda match: str(ip_address(match[0])), text)


def sysctls(namespace: Namespace) -> dict[str, str]:
    """What `sysctl -a` prints of net, by name."""
    found = {}
    with namespace:
        for folder, _, names in os.walk("/proc/sys/net"):
            for name in names:
                path = os.path.join(folder, name)
                try:
                    with open(path) as file:
                        value = file.read().strip()
                except OSError:  # written only
                    continue
                dotted = path.removeprefix("/proc/sys/").replace(".", "\0").replace("/", ".").replace("\0", "/")
                found[dotted] = value
    return found


def interfaces(namespace: Namespace) -> dict[str, dict[str, int]]:
    """Packets, bytes and drops of each interface, both ways."""
    found = {}
    for line in _read(namespace, "dev").splitlines()[2:]:
        name, _, counts = line.partition(":")
        numbers = [int(count) for count in counts.split()]
        found[name.strip()] = {
            f"{way}_{what}": numbers[first + place]
            for first, way in ((0, "rx"), (8, "tx"))
            for place, what in ((1, "packets"), (0, "bytes"), (3, "dropped"))
        }
    return found
