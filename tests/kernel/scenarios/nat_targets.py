"""REDIRECT, NETMAP, MASQUERADE and OUTPUT in detail, several translations at once, and flows that meet."""

from judge.choices import PORT
from judge.node import Node
from judge.scenario import scenario
from judge.talk import Talk, echo, network, reply
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6

from scenarios.nat_ranges import VIP, ask


@scenario(families=(4, 6))
def redirect_keeps_the_port(node: Node) -> None:
    """REDIRECT without ports: the node itself, the port as it was; TCP, UDP and ping."""
    client, server = node.router()
    node.listen("udp", 53)
    node.listen("tcp", 80)
    node.rules("-t nat -A PREROUTING -i eth0 -j REDIRECT\n-A INPUT -j ACCEPT")
    client.send(UDP(sport=40000, dport=53) / b"q", to=server)
    client.send(TCP(sport=40000, dport=80, flags="S"), to=server)
    answer = client.send(echo(node.family), to=server).only(client)
    assert network(answer).src == server.ip


@scenario()
def redirect_takes_the_first_address(node: Node) -> None:
    """REDIRECT goes to the first address of the interface that the packet came in by."""
    client, server = node.router()
    node.address_add("eth0", "10.0.9.1/24", "10.0.1.99/24")
    node.rules("-t nat -A PREROUTING -i eth0 -j REDIRECT")
    client.send(echo(4), to=server).only(client)
    client.send(echo(4, 9), to="10.0.9.1").only(client)


@scenario()
def redirect_of_the_own_packets(node: Node) -> None:
    """REDIRECT at OUTPUT: to 127.0.0.1, over lo."""
    _, server = node.router()
    node.listen("udp", 5353)
    node.rules("-t nat -A OUTPUT -p udp --dport 53 -j REDIRECT --to-ports 5353\n-A INPUT -p udp --dport 5353")
    own = IP(src=node.address("eth1"), dst=server.ip, id=5) / UDP(sport=40000, dport=53) / b"q"
    assert not node.send(own)


@scenario(families=(4, 6))
def netmap_both_ways(node: Node) -> None:
    """NETMAP of destinations and sources, for several hosts, with answers and errors."""
    client, server = node.router()
    if node.family == 4:
        second, other = node.peer("eth0", "10.0.1.77"), node.peer("eth1", "10.0.2.77")
        outside, inside, shown = "192.0.2", "10.0.2", "198.51.100"
        node.rules("""
            -t nat -A PREROUTING -d 192.0.2.0/24 -j NETMAP --to 10.0.2.0/24
            -t nat -A POSTROUTING -s 10.0.1.0/24 -j NETMAP --to 198.51.100.0/24
        """)
        targets = [f"{outside}.2", f"{outside}.77"]
    else:
        second, other = node.peer("eth0", "fd00:1::77"), node.peer("eth1", "fd00:2::77")
        node.rules("""
            -t nat -A PREROUTING -d 2001:db8:1::/64 -j NETMAP --to fd00:2::/64
            -t nat -A POSTROUTING -s fd00:1::/64 -j NETMAP --to 2001:db8:2::/64
        """)
        targets = ["2001:db8:1::2", "2001:db8:1::77"]
        inside = shown = ""
    del inside, shown
    for peer in (client, second):
        for target, end in zip(targets, (server, other), strict=True):
            request = peer.send(UDP(sport=40000, dport=53) / b"q", to=target).only(end)
            end.send(reply(request, b"a")).only(peer)
            end.complain("port unreachable", request).only(peer)


@scenario()
def netmap_of_odd_sizes(node: Node) -> None:
    """NETMAP with /30 and /32, and of the node's own packets."""
    client, server = node.router()
    node.rules("""
        -t nat -A PREROUTING -d 192.0.2.0/30 -j NETMAP --to 10.0.2.0/30
        -t nat -A PREROUTING -d 203.0.113.9 -j NETMAP --to 10.0.2.2/32
        -t nat -A OUTPUT -d 192.0.2.0/30 -j NETMAP --to 10.0.2.0/30
    """)
    node.ip("route add 192.0.2.0/24 via 10.0.1.2")
    client.send(UDP(sport=40000, dport=53) / b"q", to="192.0.2.2").only(server)
    client.send(UDP(sport=40001, dport=53) / b"q", to="203.0.113.9").only(server)
    own = IP(src=node.address("eth0"), dst="192.0.2.2", id=5) / UDP(sport=40002, dport=53) / b"q"
    node.send(own).only(server)


@scenario(families=(4, 6))
def snat_after_dnat(node: Node) -> None:
    """SNAT sees the packet after DNAT: rules by the backend's address and port; both sides are undone in answers."""
    client, server = node.router()
    vip = VIP[node.family]
    address = "10.0.2.100" if node.family == 4 else "fd00:2::100"
    backend = server.ip if node.family == 4 else f"[{server.ip}]"
    source = address if node.family == 4 else f"[{address}]"
    node.rules(f"""
        -t nat -A PREROUTING -d {vip} -p udp --dport 53 -j DNAT --to-destination {backend}:5353
        -t nat -A POSTROUTING -d {vip} -p udp -j SNAT --to-source {address}
        -t nat -A POSTROUTING -d {server.ip} -p udp --dport 5353 -j SNAT --to-source {source}:3333
    """)
    request = client.send(UDP(sport=40000, dport=53) / b"q", to=vip).only(server)
    assert (network(request).src, request[UDP].sport, request[UDP].dport) == (address, 3333, 5353)
    answer = server.send(reply(request, b"a")).only(client)
    assert (network(answer).src, answer[UDP].sport, answer[UDP].dport) == (vip, 53, 40000)
    server.complain("port unreachable", request).only(client)


@scenario(families=(4, 6))
def output_dnat_changes_the_way(node: Node) -> None:
    """DNAT at OUTPUT of TCP, UDP and ping of the node's own: routed anew, the source address stays."""
    client, server = node.router()
    vip = VIP[node.family]
    node.ip(f"{node.dash}route add {vip} via {client.ip}")
    node.rules(f"-t nat -A OUTPUT -d {vip} -j DNAT --to-destination {server.ip}")
    here = node.address("eth0")
    ip = IP(src=here, dst=vip, id=5) if node.family == 4 else IPv6(src=here, dst=vip)
    for payload in (UDP(sport=40000, dport=53) / b"q", TCP(sport=40000, dport=80, flags="S"), echo(node.family)):
        request = node.send(ip / payload).only(server)
        assert (network(request).src, network(request).dst) == (here, server.ip)
        server.send(reply(request, b"", **({"flags": "SA"} if TCP in request else {})))


@scenario()
def output_dnat_to_the_node_itself(node: Node) -> None:
    """DNAT at OUTPUT to an address of the node: over lo, to a socket there."""
    node.router()
    node.listen("udp", 5353)
    node.ip("route add default via 10.0.1.2")
    node.rules("""
        -t nat -A OUTPUT -d 10.96.0.10 -p udp -j DNAT --to-destination 10.0.2.1:5353
        -A INPUT -i lo -p udp --dport 5353
    """)
    own = IP(src=node.address("eth0"), dst=VIP[4], id=5) / UDP(sport=40000, dport=53) / b"q"
    assert not node.send(own)


@scenario()
def output_dnat_and_masquerade(node: Node) -> None:
    """The node's own packet to a Service: DNAT at OUTPUT, MASQUERADE to the address of the new way."""
    _, server = node.router()
    node.ip("route add default via 10.0.1.2")
    node.rules(f"""
        -t nat -A OUTPUT -d {VIP[4]} -p udp -j DNAT --to-destination {server.ip}:5353
        -t nat -A POSTROUTING -m conntrack --ctstate DNAT -j MASQUERADE
    """)
    own = IP(src=node.address("eth0"), dst=VIP[4], id=5) / UDP(sport=40000, dport=53) / b"q"
    request = node.send(own).only(server)
    assert request[IP].src == node.address("eth1")
    server.send(reply(request, b"a"))


@scenario(random="the port of the node's own flow")
def own_flow_meets_a_masqueraded_one(node: Node) -> None:
    """The node itself uses the port that a client's flow was masqueraded to: its own packet gets another."""
    client, server = node.router()
    node.rules("-t nat -A POSTROUTING -s 10.0.1.0/24 -o eth1 -j MASQUERADE")
    ask(client, server)
    own = IP(src=node.address("eth1"), dst=server.ip, id=5) / UDP(sport=40000, dport=53) / b"own"
    moved = node.send(own).only(server)
    assert moved[UDP].sport != 40000
    node.chose(PORT, moved[UDP].sport)
    server.send(reply(moved, b"a"))


@scenario(random="the port of the second client")
def two_clients_of_one_backend_meet(node: Node) -> None:
    """Two VIPs lead to one backend, and one client uses one port for both: the second flow gets another port."""
    client, server = node.router()
    node.rules(f"-t nat -A PREROUTING -d 10.96.0.0/24 -p udp -j DNAT --to-destination {server.ip}:53")
    first = client.send(UDP(sport=40000, dport=53) / b"q", to="10.96.0.1").only(server)
    second = client.send(UDP(sport=40000, dport=53) / b"q", to="10.96.0.2").only(server)
    node.chose(PORT, second[UDP].sport)
    assert server.send(reply(first, b"a")).only(client)[IP].src == "10.96.0.1"
    assert server.send(reply(second, b"a")).only(client)[IP].src == "10.96.0.2"


@scenario(random="the port of the second flow")
def two_tcp_connections_of_one_backend_meet(node: Node) -> None:
    """The same with TCP, to the end."""
    client, server = node.router()
    node.rules(f"-t nat -A PREROUTING -d 10.96.0.0/24 -p tcp -j DNAT --to-destination {server.ip}:80")
    Talk(client, server, to="10.96.0.1").open()
    talk = Talk(client, server, to="10.96.0.2")
    moved = talk.client("S").only(server)
    assert moved[TCP].sport != 40000
    node.chose(PORT, moved[TCP].sport)
    talk.server("SA").only(client)
    talk.client("A")


@scenario()
def second_ping_to_another_address_of_one_backend(node: Node) -> None:
    """Two VIPs, one backend, pings with one id: the second gets another id."""
    client, server = node.router()
    node.rules(f"-t nat -A PREROUTING -d 10.96.0.0/24 -j DNAT --to-destination {server.ip}")
    client.send(echo(4), to="10.96.0.1").only(server)
    second = client.send(echo(4), to="10.96.0.2").only(server)
    assert second[ICMP].id != 7
    node.chose(PORT, second[ICMP].id)


@scenario()
def masquerade_without_an_address(node: Node) -> None:
    """MASQUERADE out of an interface without addresses takes one of another interface."""
    node.port("eth0", "10.0.1.1/24")
    node.port("eth1")
    node.ip("route add 10.0.2.0/24 dev eth1")
    client, server = node.peer("eth0", "10.0.1.2"), node.peer("eth1", "10.0.2.2")
    node.rules("-t nat -A POSTROUTING -o eth1 -j MASQUERADE")
    ask(client, server)


@scenario()
def masquerade_by_the_next_hop(node: Node) -> None:
    """Of several addresses MASQUERADE takes the one whose network holds the next hop; secondary ones never."""
    node.port("eth0", "10.0.1.1/24")
    node.port("eth1", "10.0.2.1/24", "10.0.2.9/24", "192.168.7.1/24")
    node.ip("route add 203.0.113.0/24 via 192.168.7.2")
    client, server = node.peer("eth0", "10.0.1.2"), node.peer("eth1", "10.0.2.2")
    node.peer("eth1", "192.168.7.2")
    node.rules("-t nat -A POSTROUTING -o eth1 -j MASQUERADE")
    assert ask(client, server)[0] == "10.0.2.1"
    assert ask(client, "203.0.113.1")[0] == "192.168.7.1"


@scenario()
def rules_apply_to_the_first_packet_alone(node: Node) -> None:
    """A flow that began UNREPLIED keeps its binding for all later NEW packets; nat counts it once."""
    client, server = node.router()
    node.rules("-t nat -A POSTROUTING -o eth1 -m statistic --mode nth --every 2 --packet 0 -j MASQUERADE")
    for _ in range(3):
        ask(client, server, sport=40000)
        ask(client, server, sport=40001)


@scenario()
def accept_in_nat_is_a_binding(node: Node) -> None:
    """ACCEPT and the end of the chain make a null binding; DROP is not for nat."""
    client, server = node.router()
    node.rules("""
        -t nat -A POSTROUTING -p udp --dport 53 -j ACCEPT
        -t nat -A POSTROUTING -o eth1 -j MASQUERADE
    """)
    assert ask(client, server)[0] == client.ip
    assert ask(client, server, dport=54)[0] == node.address("eth1")


@scenario(families=(6,))
def redirect_of_what_stays_on_the_link(node: Node) -> None:
    """REDIRECT of a packet to a link-local address goes to a link-local address of the node, of others to its first."""
    client, _ = node.router()
    node.rules("-t nat -A PREROUTING -p udp --dport 53 -j REDIRECT --to-ports 5353")
    for port, to in enumerate(("fe80::99", "fd00:1::77", "2001:db8::1"), 4000):
        client.send(UDP(sport=port, dport=53) / b"query", to=to)
