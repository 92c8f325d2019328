"""IPVS among the rules: which hooks see what, conntrack=0 and 1, masquerading after IPVS."""

from judge.balanced import Balancer, balanced, plain
from judge.choices import PORT
from judge.ipvs_node import IpvsNode
from judge.scenario import scenario
from judge.talk import reply
from scapy.layers.inet import UDP

HOOKS = {
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
}


def counting(node: IpvsNode, web: Balancer) -> None:
    """A rule in each chain for what goes to the virtual address, to and from servers."""
    net = "10.0.2.0/24" if node.family == 4 else "fd00:2::/64"
    for table, chains in HOOKS.items():
        for chain in chains:
            for match in (f"-d {web.vip}", f"-s {web.vip}", f"-d {net}", f"-s {net}"):
                node.rules(f"-t {table} -A {chain} {match}")


def conversation(web: Balancer) -> None:
    talk = web.talk()
    talk.open()
    talk.client("PA", b"query")
    talk.server("PA", b"answer")
    talk.close()


@scenario(families=(4, 6))
def hooks(node: IpvsNode) -> None:
    """Requests: PREROUTING, INPUT, OUTPUT, POSTROUTING; answers: PREROUTING, FORWARD, POSTROUTING."""
    web = balanced(node)
    counting(node, web)
    conversation(web)


@scenario(families=(4, 6))
def hooks_with_conntrack(node: IpvsNode) -> None:
    """The same with conntrack=1 and a rule that needs connections."""
    web = balanced(node)
    node.sysctl("net.ipv4.vs.conntrack = 1")
    counting(node, web)
    for chain in ("INPUT", "FORWARD", "OUTPUT"):
        for state in ("NEW", "ESTABLISHED", "INVALID", "UNTRACKED", "DNAT", "SNAT"):
            node.rules(f"-A {chain} -m conntrack --ctstate {state}")
    conversation(web)


@scenario(families=(4, 6))
def states_without_conntrack(node: IpvsNode) -> None:
    """conntrack=0: what the rules see of the packets' states."""
    web = balanced(node)
    for chain in ("INPUT", "FORWARD", "OUTPUT"):
        for state in ("NEW", "ESTABLISHED", "INVALID", "UNTRACKED"):
            node.rules(f"-A {chain} -m conntrack --ctstate {state}")
    conversation(web)


@scenario()
def invalid_dropped_without_conntrack(node: IpvsNode) -> None:
    """conntrack=0 and a rule that drops INVALID in FORWARD: no answer arrives."""
    web = balanced(node)
    node.rules("-A FORWARD -m conntrack --ctstate INVALID -j DROP")
    talk = web.talk()
    talk.client("S")
    assert not talk.server("SA")


@scenario()
def invalid_dropped_with_conntrack(node: IpvsNode) -> None:
    """conntrack=1 and the same rule: answers pass."""
    web = balanced(node)
    node.sysctl("net.ipv4.vs.conntrack = 1")
    node.rules("-A FORWARD -m conntrack --ctstate INVALID -j DROP")
    conversation(web)


@scenario(families=(4, 6))
def masquerade_with_conntrack(node: IpvsNode) -> None:
    """conntrack=1: MASQUERADE takes effect after IPVS, and answers find back."""
    web = balanced(node)
    node.sysctl("net.ipv4.vs.conntrack = 1")
    node.rules("-t nat -A POSTROUTING -o eth1 -j MASQUERADE")
    conversation(web)


@scenario(families=(4, 6))
def masquerade_of_udp(node: IpvsNode) -> None:
    """conntrack=1: MASQUERADE of a datagram, its answer, and an error about it."""
    web = balanced(node, protocol="udp")
    node.sysctl("net.ipv4.vs.conntrack = 1")
    node.rules("-t nat -A POSTROUTING -o eth1 -j MASQUERADE")
    frames = web.first(40000)
    server = web.servers[web.number(frames)]
    server.send(reply(frames.at(server)[0], b"answer")).only(web.client)
    server.complain("port unreachable", frames.at(server)[0])


@scenario()
def masquerade_without_conntrack(node: IpvsNode) -> None:
    """conntrack=0: MASQUERADE does nothing."""
    web = balanced(node)
    node.rules("-t nat -A POSTROUTING -o eth1 -j MASQUERADE")
    conversation(web)


@scenario(random="the second client's port")
def masquerade_of_a_second_client(node: IpvsNode) -> None:
    """Two clients with the same port to one server behind the node's address: another port for the second."""
    web = balanced(node, weights=(1,), protocol="udp")
    node.sysctl("net.ipv4.vs.conntrack = 1")
    other = node.peer("eth0", "10.0.1.3")
    node.rules("-t nat -A POSTROUTING -o eth1 -j MASQUERADE")
    web.first(40000)
    request = web.first(40000, other).only("eth1")
    assert request[UDP].sport != 40000
    node.chose(PORT, request[UDP].sport)


@scenario()
def snat_of_the_answer(node: IpvsNode) -> None:
    """A nat rule for what comes from the virtual address does not see answers of known connections."""
    web = balanced(node)
    node.sysctl("net.ipv4.vs.conntrack = 1")
    node.rules(f"-t nat -A POSTROUTING -s {web.vip} -j SNAT --to-source 10.0.1.77")
    conversation(web)


@scenario()
def dnat_before(node: IpvsNode) -> None:
    """A DNAT rule leads another address to the virtual one."""
    web = balanced(node)
    node.sysctl("net.ipv4.vs.conntrack = 1")
    node.rules(f"-t nat -A PREROUTING -d 10.0.1.1 -p tcp --dport 30080 -j DNAT --to-destination {web.vip}:80")
    frames = web.first(40000, to="10.0.1.1", dport=30080)
    server = web.servers[web.number(frames)]
    server.send(reply(frames.at(server)[0], flags="SA", seq=9, ack=1001))


@scenario(families=(4, 6))
def dropped_in_input(node: IpvsNode) -> None:
    """A packet that INPUT drops is not scheduled."""
    web = balanced(node)
    node.rules(f"-A INPUT -s {web.client.ip} -j DROP")
    assert web.picks(2) == [0, 0]


@scenario()
def dropped_in_output(node: IpvsNode) -> None:
    """A packet that OUTPUT drops has been scheduled: the connection is there."""
    web = balanced(node)
    node.rules("-A OUTPUT -d 10.0.2.0/24 -j DROP")
    web.picks(3)


@scenario()
def rejected_in_output(node: IpvsNode) -> None:
    """A packet that OUTPUT rejects: the client hears of the server's address, or of the virtual one?"""
    web = balanced(node)
    node.rules("-A OUTPUT -d 10.0.2.0/24 -j REJECT")
    web.picks(2)


@scenario()
def answers_dropped_in_forward(node: IpvsNode) -> None:
    """FORWARD sees answers with the server's own address."""
    web = balanced(node, weights=(1,))
    node.rules("-A FORWARD -s 10.0.2.2 -p tcp --sport 8080 -j DROP")
    talk = web.talk()
    talk.client("S")
    assert not talk.server("SA")


@scenario(families=(4, 6))
def match_ipvs(node: IpvsNode) -> None:
    """-m ipvs: what it says in each chain."""
    web = balanced(node)
    node.sysctl("net.ipv4.vs.conntrack = 1")
    node.rules("-A INPUT -m conntrack --ctstate NEW")
    for chain in ("INPUT", "FORWARD", "OUTPUT", "POSTROUTING"):
        table = "mangle" if chain == "POSTROUTING" else "filter"
        for match in (
            "--ipvs",
            "! --ipvs",
            f"--vaddr {web.vip} --vproto tcp --vport 80",
            "--vport 81",
            "--vmethod MASQ",
            "--vdir ORIGINAL",
            "--vdir REPLY",
        ):
            node.rules(f"-t {table} -A {chain} -m ipvs {match}")
    conversation(web)


@scenario()
def conntrack_of_udp_and_removal(node: IpvsNode) -> None:
    """conntrack=1: when the IPVS connection ends, netfilter's goes with it."""
    web = balanced(node, protocol="udp")
    node.sysctl("net.ipv4.vs.conntrack = 1")
    node.ipvs_timeouts(0, 0, 20)
    node.rules("-A FORWARD -m conntrack --ctstate NEW")
    web.picks(2)
    node.wait(26)


@scenario()
def notrack(node: IpvsNode) -> None:
    """Untracked packets with conntrack=1."""
    web = balanced(node)
    node.sysctl("net.ipv4.vs.conntrack = 1")
    node.rules("-t raw -A PREROUTING -j CT --notrack\n-A FORWARD -m conntrack --ctstate UNTRACKED")
    conversation(web)


@scenario(families=(4, 6))
def conntrack_without_rules(node: IpvsNode) -> None:
    """conntrack=1, and no rule that asks for connections: are there any?"""
    web = balanced(node)
    node.sysctl("net.ipv4.vs.conntrack = 1")
    conversation(web)


@scenario(families=(4, 6))
def conntrack_switched_on(node: IpvsNode) -> None:
    """conntrack=1 while a connection lives, and another begins."""
    web = balanced(node, protocol="udp")
    node.rules("-A INPUT -m conntrack --ctstate NEW")
    web.picks(2)
    node.sysctl_change("net.ipv4.vs.conntrack", 1)
    web.picks(4)


@scenario()
def conntrack_and_tunnel(node: IpvsNode) -> None:
    """conntrack=1: the client's connection is confirmed, and the tunnel is one of its own."""
    web = plain(node, "udp", 2)
    lines = [f"-A {web.service} -s rr"]
    node.ipvs("\n".join(lines + [web.server(number, "-i", port=80) for number in web.servers]))
    node.sysctl("net.ipv4.vs.conntrack = 1")
    for chain in ("INPUT", "OUTPUT"):
        for state in ("NEW", "ESTABLISHED", "INVALID", "UNTRACKED"):
            node.rules(f"-A {chain} -m conntrack --ctstate {state}")
    web.picks(3)
    web.picks(3)


@scenario()
def answers_by_their_new_source(node: IpvsNode) -> None:
    """snat_reroute: an answer is routed once more, as if the node had sent it from the virtual address."""
    web = balanced(node, protocol="udp")
    node.ip("route add unreachable 10.0.1.0/24 table 77")
    node.ip(f"rule add from {web.vip} iif lo lookup 77 priority 77")
    request = web.first(40000).only("eth1")
    server = web.servers[4]
    server.send(reply(request, b"answer"))
    node.sysctl_change("net.ipv4.vs.snat_reroute", 0)
    server.send(reply(request, b"answer"))
