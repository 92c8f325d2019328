"""Rules that change while traffic flows, as kube-proxy changes them: what is counted on, what is kept, what is flushed."""

from judge.node import Node
from judge.scenario import scenario
from judge.talk import Peer, Talk, network, reply
from scapy.layers.inet import TCP, UDP

VIP = {4: "10.96.0.10", 6: "fd00:96::a"}
OTHER = {4: "10.96.0.11", 6: "fd00:96::b"}


def backend(node: Node, address: str, port: int) -> str:
    return f"{address}:{port}" if node.family == 4 else f"[{address}]:{port}"


def length(node: Node) -> int:
    return 32 if node.family == 4 else 128


def services(node: Node) -> tuple[Peer, Peer, Peer]:
    """Two Services as kube-proxy writes them, over TCP and UDP, with a first endpoint each; two servers."""
    client, first = node.router()
    second = node.peer("eth1", "10.0.2.3" if node.family == 4 else "fd00:2::3")
    lines = []
    for protocol in ("tcp", "udp"):
        for name, vip in (("A", VIP), ("B", OTHER)):
            chain = f"SVC-{name}-{protocol}"
            lines += [
                f"-t nat -A KUBE-SERVICES -d {vip[node.family]} -p {protocol} --dport 80 -j {chain}",
                f"-t nat -A {chain} -j SEP-{name}-{protocol}-1",
                f"-t nat -A SEP-{name}-{protocol}-1 -p {protocol}"
                f" -j DNAT --to-destination {backend(node, first.ip, 8080)}",
            ]
    lines.insert(0, "-t nat -A PREROUTING -j KUBE-SERVICES")
    node.rules("\n".join(lines))
    return client, first, second


def moved(node: Node, to: str, protocol: str) -> str:
    """Service A gets another endpoint instead of the one it had: a partial sync."""
    mask = length(node)
    lines = ["*nat", ":KUBE-SERVICES - [0:0]"]
    lines += [f":{chain} - [0:0]" for chain in (f"SVC-A-{protocol}", f"SEP-A-{protocol}-2", f"SEP-A-{protocol}-1")]
    for each in ("tcp", "udp"):
        for name, vip in (("A", VIP), ("B", OTHER)):
            lines.append(
                f"-A KUBE-SERVICES -d {vip[node.family]}/{mask} -p {each} -m {each} --dport 80 -j SVC-{name}-{each}"
            )
    lines.append(f"-A SVC-A-{protocol} -j SEP-A-{protocol}-2")
    lines.append(
        f"-A SEP-A-{protocol}-2 -p {protocol} -m {protocol} -j DNAT --to-destination {backend(node, to, 8080)}"
    )
    lines += [f"-X SEP-A-{protocol}-1", "COMMIT"]
    return "\n".join(lines) + "\n"


def partial_sync(node: Node) -> None:
    client, first, second = services(node)
    vip, other = VIP[node.family], OTHER[node.family]
    for port in (40000, 40001):
        client.send(UDP(sport=port, dport=80) / b"query", to=vip).only(first)
        client.send(UDP(sport=port + 100, dport=80) / b"query", to=other).only(first)
    node.change(moved(node, second.ip, "udp"))
    # A new connection takes the new rules; one that was there stays where it was translated to.
    client.send(UDP(sport=40002, dport=80) / b"query", to=vip).only(second)
    client.send(UDP(sport=40000, dport=80) / b"more", to=vip).only(first)
    client.send(UDP(sport=40003, dport=80) / b"query", to=other).only(first)


@scenario(families=(4, 6), backend="nft")
def partial_sync_keeps_counters(node: Node) -> None:
    """A partial sync: chains that are rewritten count from 0, all others go on, connections stay (nft)."""
    partial_sync(node)


@scenario(backend="legacy")
def partial_sync_keeps_counters_legacy(node: Node) -> None:
    """The same with the other back end, which replaces whole tables."""
    partial_sync(node)


@scenario(families=(4, 6))
def tcp_outlives_its_endpoint(node: Node) -> None:
    """An established TCP connection goes on to an endpoint that no rule names any more; the next one does not."""
    client, first, second = services(node)
    talk = Talk(client, first, to=VIP[node.family])
    talk.client("S")
    talk.server("SA")
    talk.client("A")
    node.change(moved(node, second.ip, "tcp"))
    request = talk.client("PA", b"GET / HTTP/1.0\r\n\r\n").only(first)
    assert request[TCP].dport == 8080
    talk.server("PA", b"HTTP/1.0 200 OK\r\n\r\n")
    talk.client("FA")
    talk.server("FA")
    talk.client("A")
    client.send(TCP(sport=50000, dport=80, flags="S", seq=7), to=VIP[node.family]).only(second)


@scenario(families=(4, 6))
def udp_is_flushed(node: Node) -> None:
    """conntrack -D as kube-proxy calls it for a removed UDP endpoint: the same socket reaches the new one."""
    client, first, second = services(node)
    vip, other = VIP[node.family], OTHER[node.family]
    answer = client.send(UDP(sport=40000, dport=80) / b"query", to=vip).only(first)
    first.send(reply(answer, b"answer"))
    client.send(UDP(sport=40100, dport=80) / b"query", to=other).only(first)
    node.change(moved(node, second.ip, "udp"))
    family = ["-f", "ipv6"] if node.family == 6 else []
    node.forget("-p", "udp", *family, "--orig-dst", vip, "--dst-nat", first.ip)
    assert network(client.send(UDP(sport=40000, dport=80) / b"more", to=vip).only(second)).dst == second.ip
    # The other Service led to the same endpoint, and has another address.
    client.send(UDP(sport=40100, dport=80) / b"more", to=other).only(first)


@scenario()
def affinity_outlives_a_sync(node: Node) -> None:
    """A list of recent lives as long as a rule names it: a rewritten chain finds it, a removed one loses it."""
    client, first, second = services(node)
    vip = VIP[4]
    sticky = """*nat
:SVC-A-udp - [0:0]
:SEP-A-udp-1 - [0:0]
:SEP-A-udp-2 - [0:0]
-A SVC-A-udp -m recent --rcheck --seconds 60 --reap --name ONE --mask 255.255.255.255 --rsource -j SEP-A-udp-1
-A SVC-A-udp -j SEP-A-udp-2
-A SEP-A-udp-1 -p udp -m recent --set --name ONE --mask 255.255.255.255 --rsource -m udp -j DNAT --to-destination {one}
-A SEP-A-udp-2 -p udp -m udp -j DNAT --to-destination {two}
COMMIT
""".format(one=f"{first.ip}:8080", two=f"{second.ip}:8080")
    only_one = sticky.replace("-j SEP-A-udp-2\n", "-j SEP-A-udp-1\n")
    none = """*nat
:SVC-A-udp - [0:0]
:SEP-A-udp-1 - [0:0]
:SEP-A-udp-2 - [0:0]
-A SVC-A-udp -j SEP-A-udp-2
-A SEP-A-udp-2 -p udp -m udp -j DNAT --to-destination {two}
-X SEP-A-udp-1
COMMIT
""".format(two=f"{second.ip}:8080")
    node.change(only_one)
    client.send(UDP(sport=40000, dport=80) / b"query", to=vip).only(first)
    node.change(sticky)
    client.send(UDP(sport=40001, dport=80) / b"query", to=vip).only(first)
    node.change(none)
    client.send(UDP(sport=40002, dport=80) / b"query", to=vip).only(second)
    node.change(sticky)
    client.send(UDP(sport=40003, dport=80) / b"query", to=vip).only(second)


@scenario(families=(4, 6))
def a_pod_that_goes(node: Node) -> None:
    """Its port of the bridge goes with it: what is still sent to it is flooded to the others, and its neighbour entry
    stays until it is looked at again."""
    six = node.family == 6
    node.bridge_device("cni0", "fd00:2::1/64" if six else "10.0.2.1/24")
    node.port("eth0", "fd00:1::1/64" if six else "10.0.1.1/24")
    for name in ("veth1", "veth2"):
        node.port(name, master="cni0")
    client = node.peer("eth0", "fd00:1::2" if six else "10.0.1.2")
    pod = node.peer("veth1", "fd00:2::2" if six else "10.0.2.2", at="cni0")
    other = node.peer("veth2", "fd00:2::3" if six else "10.0.2.3", at="cni0")
    for here in (pod, other):
        here.send(UDP(sport=9, dport=9) / b"here I am", to=client.ip).only(client)
        request = client.send(UDP(sport=40000, dport=80) / b"query", to=here.ip)
        here.send(reply(request.only(here), b"answer")).only(client)
    node.unplug("veth1")
    client.send(UDP(sport=40000, dport=80) / b"more", to=pod.ip)
    client.send(UDP(sport=40000, dport=80) / b"more", to=other.ip)
    other.send(UDP(sport=53, dport=80) / b"to the one that is gone", to=pod.ip)
    client.send(UDP(sport=40001, dport=80) / b"another", to=pod.ip)


@scenario()
def a_pod_that_goes_unknown(node: Node) -> None:
    """A pod whose address was resolved: after it has gone the entry is believed for a while, then nobody answers."""
    node.bridge_device("cni0", "10.0.2.1/24")
    node.port("eth0", "10.0.1.1/24")
    node.port("veth1", master="cni0")
    node.port("veth2", master="cni0")
    client = node.peer("eth0", "10.0.1.2")
    pod = node.peer("veth1", "10.0.2.2", at="cni0", neighbour=False)
    node.unplug("veth1")
    client.send(UDP(sport=40000, dport=80) / b"query", to=pod.ip)
    node.wait(3.3)


def remembering(node: Node) -> None:
    """Rules that remember stand in a chain that no change names; another chain of their table is rewritten."""
    client, server = node.router()
    node.rules("""
        -N OTHER
        -A FORWARD -m limit --limit 1/hour --limit-burst 3
        -A FORWARD -m statistic --mode nth --every 4 --packet 1
        -A FORWARD -p udp -m connlimit --connlimit-above 2
        -A FORWARD -m recent --set --name A
        -A FORWARD -m recent --rcheck --hitcount 4 --name A
        -A FORWARD -m hashlimit --hashlimit-upto 1/hour --hashlimit-burst 4 --hashlimit-name B
        -A FORWARD -j OTHER
    """)
    for port in (1, 2, 3):
        client.send(UDP(sport=port, dport=80) / b"x", to=server).only(server)
    node.change("*filter\n:OTHER - [0:0]\n-A OTHER -p udp\nCOMMIT\n")
    for port in (4, 5, 6, 7):
        client.send(UDP(sport=port, dport=80) / b"x", to=server).only(server)


@scenario(backend="nft")
def memory_of_other_chains(node: Node) -> None:
    """A change leaves what rules of other chains remember: limit, statistic, connlimit (nft)."""
    remembering(node)


@scenario(backend="legacy")
def memory_of_other_chains_legacy(node: Node) -> None:
    """A change begins limit, statistic and connlimit of the whole table anew, but not recent and hashlimit (legacy)."""
    remembering(node)


def declared(node: Node) -> None:
    """A built-in chain that an addition declares keeps its rules, and gets a policy with its counters."""
    client, server = node.router()
    node.rules("""
        -A FORWARD -p udp --dport 80
        -t mangle -A FORWARD -p udp
    """)
    client.send(UDP(sport=1, dport=80) / b"x", to=server).only(server)
    node.change(
        "*filter\n:FORWARD DROP [7:77]\n:NEW - [0:0]\n-A FORWARD -p udp --dport 81 -j NEW\n-A NEW -j ACCEPT\nCOMMIT\n"
    )
    client.send(UDP(sport=2, dport=80) / b"x", to=server)
    client.send(UDP(sport=3, dport=81) / b"x", to=server).only(server)
    # What is added to a chain that is not declared comes behind what it has.
    node.change("*filter\n-A NEW -p tcp\n-A FORWARD -p udp -j ACCEPT\nCOMMIT\n")
    client.send(UDP(sport=4, dport=80) / b"x", to=server).only(server)
    node.change("*filter\n:FORWARD - [5:55]\nCOMMIT\n*mangle\nCOMMIT\n")
    client.send(UDP(sport=5, dport=80) / b"x", to=server).only(server)


@scenario(families=(4, 6), backend="nft")
def declared_chains(node: Node) -> None:
    """An addition that declares a built-in chain: its rules stay, its policy and its counters are set (nft)."""
    declared(node)


@scenario(families=(4, 6), backend="legacy")
def declared_chains_legacy(node: Node) -> None:
    """The same where `-` stands for the policy that it has: legacy does not even set counters then."""
    declared(node)
