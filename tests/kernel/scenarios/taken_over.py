"""A dump of a node in the midst of its work: connections, counters and learnt entries go on."""

from judge.node import Node
from judge.scenario import scenario
from judge.talk import Talk, echo, reply
from scapy.layers.inet import TCP, UDP
from scapy.packet import Raw

from scenarios.bridge import introduce, pods

QUERY = UDP(sport=4000, dport=53) / b"query"
STATES = """
    -A FORWARD -m conntrack --ctstate NEW
    -A FORWARD -m conntrack --ctstate ESTABLISHED
    -A FORWARD -m conntrack --ctstate RELATED
    -A FORWARD -m conntrack --ctstate INVALID
"""


@scenario(families=(4, 6))
def open_connections(node: Node) -> None:
    """TCP in several states, UDP, ping and GRE: what belongs to them does so after the dump, what does not is new."""
    client, server = node.router()
    node.rules(STATES)
    opened, closing, opening = (Talk(client, server, sport=port) for port in (1000, 1001, 1002))
    opened.open()
    closing.open()
    closing.client("FA")
    opening.client("S")
    request = client.send(QUERY, to=server).only(server)
    server.send(reply(request, b"answer"))
    ping = client.send(echo(node.family), to=server).only(server)
    client.send(Raw(bytes(8)), to=server, proto=253)
    node.begin()
    server.send(reply(ping))
    server.send(reply(request, b"another"))
    client.send(QUERY, to=server)
    opened.client("A")
    opened.server("A")
    opened.client("PA", b"data")
    opened.server("FA")
    closing.server("A")
    closing.server("FA")
    closing.client("A")
    opening.server("SA")
    opening.client("A")
    server.send(Raw(bytes(8)), to=client, proto=253)
    server.complain("port unreachable", request)
    client.send(TCP(sport=1003, dport=80, flags="A"), to=server)


@scenario(families=(4, 6))
def translated_connections(node: Node) -> None:
    """Connections through DNAT and masquerade go on without a look at the rules, errors about them too."""
    client, server = node.router()
    vip, shown = ("10.96.0.10", server.ip) if node.family == 4 else ("fd00:96::a", f"[{server.ip}]")
    node.rules(f"""
        {STATES}
        -t nat -A PREROUTING -d {vip} -p tcp --dport 80 -j DNAT --to-destination {shown}:8080
        -t nat -A PREROUTING -d {vip} -p udp --dport 53 -j DNAT --to-destination {shown}:5353
        -t nat -A POSTROUTING -o eth1 -j MASQUERADE
    """)
    talk = Talk(client, server, to=vip)
    talk.open()
    request = client.send(QUERY, to=vip).only(server)
    ping = client.send(echo(node.family, ident=99), to=server).only(server)
    node.begin()
    talk.client("A")  # no dump tells how far the two have come: each says so by its first segment
    talk.server("A")
    talk.client("PA", b"data")
    talk.server("PA", b"more")
    server.send(reply(request, b"answer"))
    client.send(QUERY, to=vip)
    server.send(reply(ping))
    server.complain("host unreachable", request)
    client.send(UDP(sport=4001, dport=53), to=vip)


@scenario()
def connections_that_end(node: Node) -> None:
    """What a dumped connection has left runs from the first packet on; marks and accounting go on."""
    client, server = node.router()
    node.sysctl("net.netfilter.nf_conntrack_udp_timeout = 3")
    node.rules(STATES)
    node.rules("-t mangle -A PREROUTING -p udp --sport 9 -j CONNMARK --set-mark 0x9")
    node.rules("-A FORWARD -m connmark --mark 0x9")
    node.rules("-A FORWARD -m connbytes --connbytes 2: --connbytes-dir both --connbytes-mode packets")
    request = client.send(UDP(sport=9, dport=53), to=server).only(server)
    client.send(UDP(sport=8, dport=53), to=server)
    node.begin()
    server.send(reply(request, b"answer"))
    node.wait(4.2)
    client.send(UDP(sport=8, dport=53), to=server)


@scenario(families=(4, 6))
def zones_of_connections(node: Node) -> None:
    """Connections in zones, of both directions and of one."""
    client, server = node.router()
    node.rules(f"""
        -t raw -A PREROUTING -p udp --dport 1 -j CT --zone 5
        -t raw -A PREROUTING -p udp --sport 1 -j CT --zone 5
        -t raw -A PREROUTING -p udp --dport 2 -j CT --zone-orig 6
        {STATES}
    """)
    requests = [client.send(UDP(sport=7, dport=port), to=server).only(server) for port in (1, 2, 3)]
    node.begin()
    for request in requests:
        server.send(reply(request, b"answer"))
    for port in (1, 2, 3):
        client.send(UDP(sport=7, dport=port), to=server)


@scenario(families=(4, 6))
def learnt_entries(node: Node) -> None:
    """What a bridge has learnt, and the neighbours that the node knows, are in the dump: nothing is flooded or asked."""
    one, two, three = pods(node)
    node.port("eth0", "192.168.1.11/24" if node.family == 4 else "fd00:168::11/64")
    router = node.peer("eth0", "192.168.1.1" if node.family == 4 else "fd00:168::1")
    introduce(one, two, three)
    node.begin()
    one.send(QUERY, to=two, mac=two.mac).only(two)
    router.send(QUERY, to=three).only(three)


@scenario(families=(4, 6))
def counters_and_sets(node: Node) -> None:
    """Rules count on from the dump; what SET has put into a set is in it."""
    inet = "inet" if node.family == 4 else "inet6"
    node.ipset(f"create seen hash:ip,port family {inet} counters timeout 60")
    client, server = node.router()
    node.rules("-A FORWARD -m set --match-set seen src,dst")
    node.rules("-A FORWARD -p udp -j SET --add-set seen src,dst")
    client.send(QUERY, to=server)
    node.begin()
    client.send(QUERY, to=server)
    client.send(UDP(sport=1, dport=54), to=server)
