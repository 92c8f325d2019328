"""What the kernel tells of IPVS: /proc after every step, ipvsadm at the end, and the files of a dump."""

from ipaddress import ip_address

from judge.namespace import Namespace

# Words of ipvsadm, by the name under which its text is kept.
TOOLS = {
    "-Ln": ("-Ln",),
    "-Ln --stats": ("-Ln", "--stats", "--exact"),
    "-Ln --thresholds": ("-Ln", "--thresholds"),
    "-Ln --persistent-conn": ("-Ln", "--persistent-conn"),
    "-Lnc": ("-Lnc",),
}


def take(namespace: Namespace) -> dict[str, str]:
    """The files of a dump."""
    return {
        "ipvs.save": namespace.run("ipvsadm", "--save", "--numeric"),
        "ipvs-timeout.txt": namespace.run("ipvsadm", "-L", "--timeout"),
    }


def tools(namespace: Namespace) -> dict[str, str]:
    return {name: namespace.run("ipvsadm", *words) for name, words in TOOLS.items()}


def _read(namespace: Namespace, name: str) -> str:
    with namespace, open(f"/proc/thread-self/net/{name}") as file:
        return file.read()


def glance(namespace: Namespace) -> dict[str, str]:
    """Without any tool: /proc/net/ip_vs and /proc/net/ip_vs_conn, the latter as `ipvsadm -Lnc` prints it."""
    return {
        "services": _read(namespace, "ip_vs"),
        "connections": connections(_read(namespace, "ip_vs_conn")),
    }


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
    return _read(namespace, "nf_conntrack").replace(" zone=0", "")
