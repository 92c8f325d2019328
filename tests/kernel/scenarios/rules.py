"""How rules are walked: tables, chains, jumps, policies, verdicts and counters."""

from judge.node import BUILTIN, Node
from judge.scenario import scenario
from judge.talk import echo
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6

QUERY = UDP(sport=4000, dport=53) / b"query"


@scenario(families=(4, 6))
def every_hook_of_every_table(node: Node) -> None:
    """A forwarded packet, one to the node and one from it: which chains see them, in which order they count."""
    client, server = node.router()
    for table, chains in BUILTIN.items():
        for chain in chains:
            node.rules(f"-t {table} -A {chain}")
    node.rules("-A FORWARD -m conntrack --ctstate INVALID -j DROP")
    client.send(QUERY, to=server)
    client.send(QUERY, to=server)
    client.send(echo(node.family), to=node.address("eth0"))
    here = node.address("eth1")
    ip = IP(src=here, dst=server.ip, id=5) if node.family == 4 else IPv6(src=here, dst=server.ip)
    node.send(ip / QUERY)


@scenario(families=(4, 6))
def nat_table_that_translates_nothing(node: Node) -> None:
    """Without any rule that needs connection tracking nothing is tracked, and the nat table sees no packet."""
    client, server = node.router()
    node.rules("""
        -t nat -A PREROUTING -p udp
        -t nat -A POSTROUTING -p udp -j ACCEPT
        -t nat -A POSTROUTING -p udp -j MARK --set-mark 0x1
    """)
    client.send(QUERY, to=server)


@scenario(families=(4, 6))
def jump_and_return(node: Node) -> None:
    """A jump comes back at the end of its chain and at RETURN; rules after it go on."""
    client, server = node.router()
    node.rules("""
        -A FORWARD -j ONE
        -A FORWARD -m comment --comment after
        -A ONE -m comment --comment first
        -A ONE -j TWO
        -A ONE -p udp --dport 53 -j RETURN
        -A ONE -m comment --comment "not for port 53"
        -A TWO -p tcp -j RETURN
        -A TWO -m comment --comment "not for tcp"
    """)
    client.send(QUERY, to=server)
    client.send(UDP(sport=1, dport=54), to=server)
    client.send(TCP(sport=1, dport=53), to=server)


@scenario(families=(4, 6))
def goto(node: Node) -> None:
    """After a goto the end of the chain goes back to where the last jump came from."""
    client, server = node.router()
    node.rules("""
        -A FORWARD -j ONE
        -A FORWARD -m comment --comment "back here"
        -A ONE -g TWO
        -A ONE -m comment --comment never
        -A TWO -j THREE
        -A TWO -m comment --comment "after three"
        -A THREE -j RETURN
    """)
    client.send(QUERY, to=server)


@scenario()
def goto_from_a_builtin_chain(node: Node) -> None:
    """A goto from a built-in chain ends in the policy of that chain."""
    client, server = node.router()
    node.rules("""
        -P FORWARD DROP
        -A FORWARD -g ONE
        -A FORWARD -j ACCEPT
        -A ONE -m comment --comment counted
    """)
    assert not client.send(QUERY, to=server)


@scenario()
def deep_chains(node: Node) -> None:
    """Jumps fourteen deep, and back: nft allows no more."""
    client, server = node.router()
    node.rules("-A FORWARD -j C0\n" + "\n".join(f"-A C{i} -j C{i + 1}\n-A C{i}" for i in range(13)) + "\n-A C13")
    client.send(QUERY, to=server)


@scenario(families=(4, 6))
def policies(node: Node) -> None:
    """Policies of INPUT, FORWARD and OUTPUT: what no rule decides is counted and dropped."""
    client, server = node.router()
    node.rules("""
        -P INPUT DROP
        -P FORWARD DROP
        -P OUTPUT DROP
        -A FORWARD -p udp --dport 53 -j ACCEPT
    """)
    client.send(QUERY, to=server).only(server)
    assert not client.send(UDP(sport=1, dport=54), to=server)
    assert not client.send(echo(node.family), to=node.address("eth0"))
    here = node.address("eth1")
    ip = IP(src=here, dst=server.ip, id=5) if node.family == 4 else IPv6(src=here, dst=server.ip)
    assert not node.send(ip / QUERY)


@scenario()
def return_in_a_builtin_chain(node: Node) -> None:
    """RETURN in a built-in chain is the policy."""
    client, server = node.router()
    node.rules("""
        -P FORWARD DROP
        -A FORWARD -p udp -j RETURN
        -A FORWARD -j ACCEPT
    """)
    assert not client.send(QUERY, to=server)
    client.send(TCP(sport=1, dport=2), to=server).only(server)


@scenario(families=(4, 6))
def accept_ends_one_table_only(node: Node) -> None:
    """ACCEPT in mangle does not keep filter from dropping."""
    client, server = node.router()
    node.rules("""
        -t mangle -A FORWARD -j ACCEPT
        -t mangle -A FORWARD -m comment --comment never
        -A FORWARD -j DROP
        -t security -A FORWARD -m comment --comment never
    """)
    assert not client.send(QUERY, to=server)


@scenario(families=(4, 6))
def drop_everywhere(node: Node) -> None:
    """DROP in each table of PREROUTING and POSTROUTING: later tables do not see the packet."""
    client, server = node.router()
    for port, table in enumerate(("raw", "mangle"), 1):
        node.rules(f"-t {table} -A PREROUTING -p udp --dport {port} -j DROP")
    node.rules("""
        -t mangle -A FORWARD -p udp --dport 3 -j DROP
        -t mangle -A POSTROUTING -p udp --dport 4 -j DROP
        -t nat -A PREROUTING
        -t nat -A POSTROUTING
        -A FORWARD -m conntrack --ctstate NEW
        -t raw -A PREROUTING
    """)
    for port in range(1, 6):
        client.send(UDP(sport=4000, dport=port), to=server)


@scenario()
def counters_of_chains(node: Node) -> None:
    """Bytes are those of the IP packet at that hook; a user chain counts through its rules alone."""
    client, server = node.router()
    node.rules("""
        -A FORWARD -p udp -j COUNT
        -A COUNT
        -A COUNT -j COUNT2
        -A COUNT2
        -t mangle -A PREROUTING
        -t mangle -A POSTROUTING
    """)
    for size in (0, 1, 100, 1400):
        client.send(UDP(sport=1, dport=2) / bytes(size), to=server)


@scenario()
def rules_start_with_counters(node: Node) -> None:
    """Counters of a restored text go on from where they were."""
    client, server = node.router()
    node.restore(
        "*filter\n:INPUT ACCEPT [1:2]\n:FORWARD ACCEPT [10:1000]\n:OUTPUT ACCEPT [0:0]\n"
        "[5:500] -A FORWARD -p udp\n[0:0] -A FORWARD -p tcp\nCOMMIT\n"
    )
    client.send(QUERY, to=server)


@scenario()
def empty_user_chain(node: Node) -> None:
    """A jump to an empty chain does nothing but count."""
    client, server = node.router()
    node.rules("""
        -N EMPTY
        -A FORWARD -j EMPTY
        -A FORWARD -p udp -j ACCEPT
    """)
    client.send(QUERY, to=server).only(server)


@scenario()
def unused_chains(node: Node) -> None:
    """Chains that nothing jumps to stay in the text."""
    client, server = node.router()
    node.rules("""
        -N UNUSED
        -A UNUSED2 -j DROP
        -A FORWARD
    """)
    client.send(QUERY, to=server).only(server)


@scenario()
def mark_in_output_chooses_the_route(node: Node) -> None:
    """A mark set in mangle OUTPUT has the packet routed again."""
    client, server = node.router()
    node.ip("""
        route add 203.0.113.0/24 via 10.0.2.2
        route add 203.0.113.0/24 via 10.0.1.2 table 100
        rule add fwmark 0x1 lookup 100
    """)
    node.rules("-t mangle -A OUTPUT -p udp --dport 53 -j MARK --set-mark 0x1")
    ip = IP(src=node.address("eth1"), dst="203.0.113.9", id=5)
    node.send(ip / QUERY).only(client)
    node.send(ip / UDP(sport=1, dport=54)).only(server)


@scenario()
def icmp_error_of_the_node_passes_output(node: Node) -> None:
    """An error that the node makes passes OUTPUT and POSTROUTING, and can be dropped there."""
    client, server = node.router()
    node.rules("""
        -A OUTPUT -p icmp --icmp-type time-exceeded -d 10.0.1.2 -j DROP
        -t mangle -A POSTROUTING -p icmp
    """)
    client.send(QUERY, to="203.0.113.1").only(client)
    assert not client.send(QUERY, to=server, ttl=1)  # last: nobody sees the IP id that it would have had
