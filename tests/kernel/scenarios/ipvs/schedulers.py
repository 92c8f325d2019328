"""Which real server a scheduler takes for each new connection."""

from judge.balanced import address, balanced
from judge.ipvs_node import IpvsNode
from judge.scenario import scenario
from scapy.layers.inet import UDP


def clients(node: IpvsNode, count: int) -> list:
    return [node.peer("eth0", address(node.family, 1, 10 + i)) for i in range(count)]


def each(web, found: list) -> list[int]:
    return [web.number(web.first(40000 + i, client)) for i, client in enumerate(found)]


@scenario(families=(4, 6))
def rr_in_turn(node: IpvsNode) -> None:
    """Round robin: the server that was added last is the first."""
    web = balanced(node)
    assert web.picks(7) == [4, 3, 2, 4, 3, 2, 4]


@scenario()
def rr_takes_no_weights(node: IpvsNode) -> None:
    """Round robin knows no weight but 0, which it passes over."""
    web = balanced(node, weights=(5, 0, 1))
    assert web.picks(5) == [4, 2, 4, 2, 4]


@scenario(families=(4, 6))
def wrr_with_equal_weights(node: IpvsNode) -> None:
    """Weighted round robin with equal weights goes in turn."""
    balanced(node, "wrr", (2, 2, 2)).picks(7)


@scenario()
def wrr_with_weights(node: IpvsNode) -> None:
    """Weighted round robin: a server gets as many turns in a round as it weighs, the heavy ones first."""
    balanced(node, "wrr", (1, 2, 3)).picks(13)


@scenario()
def wrr_with_a_common_divisor(node: IpvsNode) -> None:
    """Weights are as their ratio: 4 and 2 are 2 and 1."""
    balanced(node, "wrr", (4, 2)).picks(9)


@scenario()
def wrr_with_weight_0(node: IpvsNode) -> None:
    """A server of weight 0 has no turn."""
    balanced(node, "wrr", (0, 3, 1)).picks(9)


@scenario()
def wrr_with_nothing_but_0(node: IpvsNode) -> None:
    """All weights 0: nothing is sent on, the client hears that the port is unreachable."""
    assert balanced(node, "wrr", (0, 0)).picks(2) == [0, 0]


@scenario(families=(4, 6))
def lc_counts_connections(node: IpvsNode) -> None:
    """Least connection: the one with the fewest, the first of the list where they tie; half-open ones are active."""
    web = balanced(node, "lc", (1, 1, 1))
    web.picks(4)
    talk = web.talk(41000)
    talk.open()
    talk.close()
    web.picks([42000, 42001, 42002, 42003])


@scenario()
def lc_knows_no_weights(node: IpvsNode) -> None:
    """Least connection passes over weight 0, and knows no other weight."""
    balanced(node, "lc", (5, 0, 1)).picks(6)


@scenario()
def lc_of_udp(node: IpvsNode) -> None:
    """UDP connections are never active: they count as one of 256."""
    balanced(node, "lc", (1, 1, 1), protocol="udp").picks(7)


@scenario(families=(4, 6))
def wlc_with_weights(node: IpvsNode) -> None:
    """Weighted least connection: connections over weight."""
    balanced(node, "wlc", (1, 2, 3)).picks(13)


@scenario()
def wlc_with_equal_weights(node: IpvsNode) -> None:
    """Weighted least connection with equal weights, and one server that has lost its connections."""
    web = balanced(node, "wlc", (1, 1, 1))
    talks = [web.talk(40000 + i) for i in range(6)]
    for talk in talks:
        talk.open()
    talks[1].close()
    talks[4].close()
    web.picks([41000, 41001, 41002, 41003])


@scenario()
def wlc_with_weight_0(node: IpvsNode) -> None:
    """Weighted least connection passes over weight 0."""
    balanced(node, "wlc", (0, 1, 3)).picks(8)


@scenario()
def wlc_of_udp(node: IpvsNode) -> None:
    """Weighted least connection of UDP counts inactive connections."""
    balanced(node, "wlc", (3, 1, 2), protocol="udp").picks(12)


@scenario(families=(4, 6))
def sed_with_weights(node: IpvsNode) -> None:
    """Shortest expected delay: (active + 1) over weight."""
    balanced(node, "sed", (1, 2, 3)).picks(12)


@scenario()
def sed_with_weight_0(node: IpvsNode) -> None:
    """Shortest expected delay passes over weight 0."""
    balanced(node, "sed", (0, 1, 4)).picks(8)


@scenario()
def sed_of_udp(node: IpvsNode) -> None:
    """Shortest expected delay looks at active connections alone, which UDP has none of: always the same server."""
    balanced(node, "sed", (2, 1, 2), protocol="udp").picks(5)


@scenario(families=(4, 6))
def nq_with_weights(node: IpvsNode) -> None:
    """Never queue: a server without active connections at once, else the shortest expected delay."""
    balanced(node, "nq", (1, 2, 6)).picks(12)


@scenario()
def nq_after_a_close(node: IpvsNode) -> None:
    """Never queue comes back to the server that has become idle."""
    web = balanced(node, "nq", (1, 1, 3))
    talks = [web.talk(40000 + i) for i in range(6)]
    for talk in talks:
        talk.open()
    talks[2].close()
    web.picks([41000, 41001])


@scenario()
def nq_with_weight_0(node: IpvsNode) -> None:
    """Never queue passes over weight 0, idle or not."""
    balanced(node, "nq", (0, 1, 0)).picks(3)


@scenario(families=(4, 6))
def dh_by_destination(node: IpvsNode) -> None:
    """Destination hashing: one virtual address, one server, whoever asks."""
    web = balanced(node, "dh", (1, 1, 1))
    assert len(set(web.picks(3) + each(web, clients(node, 0)))) == 1


@scenario()
def dh_of_many_addresses(node: IpvsNode) -> None:
    """Destination hashing of a mark: addresses are spread over the servers."""
    web = balanced(node, "dh", (1, 1, 1))
    node.ip("route add local 10.97.0.0/24 dev lo")
    node.rules("-t mangle -A PREROUTING -d 10.97.0.0/24 -j MARK --set-mark 7")
    node.ipvs("-A -f 7 -s dh\n" + "\n".join(f"-a -f 7 -r 10.0.2.{n}:0 -m" for n in web.servers))
    for last in range(1, 13):
        web.first(40000, to=f"10.97.0.{last}")


@scenario()
def dh_with_weight_0(node: IpvsNode) -> None:
    """Destination hashing refuses where the server of the hash weighs 0."""
    web = balanced(node, "dh", (1, 1))
    found = web.picks(1)[0]
    node.ipvs_change(web.server(found, "-m -w 0", "-e"))
    assert web.picks([40001]) == [0]


@scenario(families=(4, 6))
def sh_by_source(node: IpvsNode) -> None:
    """Source hashing: each client has its server, whatever the port."""
    web = balanced(node, "sh", (1, 1, 1))
    found = clients(node, 12)
    assert each(web, found) == [web.number(web.first(50000 + i, client)) for i, client in enumerate(found)]


@scenario(families=(4, 6))
def sh_with_weights(node: IpvsNode) -> None:
    """Source hashing: a server has as many slots as it weighs."""
    web = balanced(node, "sh", (1, 2, 4))
    each(web, clients(node, 16))


@scenario(families=(4, 6))
def sh_port(node: IpvsNode) -> None:
    """Source hashing with the port: one client is spread."""
    balanced(node, "sh", (1, 1, 1), service="-b sh-port").picks(16)


@scenario()
def sh_with_weight_0(node: IpvsNode) -> None:
    """Source hashing refuses clients whose server weighs 0."""
    web = balanced(node, "sh", (1, 0, 1))
    each(web, clients(node, 10))


@scenario(families=(4, 6))
def sh_fallback(node: IpvsNode) -> None:
    """Source hashing with fallback goes on to another slot."""
    web = balanced(node, "sh", (1, 0, 1), service="-b sh-fallback")
    assert 0 not in each(web, clients(node, 12))


@scenario()
def sh_fallback_and_port(node: IpvsNode) -> None:
    """Source hashing with both flags."""
    balanced(node, "sh", (2, 0, 1, 0), service="-b sh-fallback,sh-port").picks(16)


@scenario(families=(4, 6))
def mh_by_source(node: IpvsNode) -> None:
    """Maglev hashing: each client has its server."""
    web = balanced(node, "mh", (1, 1, 1))
    each(web, clients(node, 16))


@scenario(families=(4, 6))
def mh_port_as_kubeproxy_sets_it(node: IpvsNode) -> None:
    """Maglev hashing with the port, which kube-proxy asks for."""
    balanced(node, "mh", (1, 1, 1), service="-b mh-port").picks(20)


@scenario()
def mh_with_weights(node: IpvsNode) -> None:
    """Maglev hashing: slots as weights."""
    balanced(node, "mh", (1, 3, 9), service="-b mh-port").picks(24)


@scenario()
def mh_with_great_weights(node: IpvsNode) -> None:
    """Maglev hashing: weights are shifted until the greatest fits into the table's bits."""
    balanced(node, "mh", (100, 1, 4000), service="-b mh-port").picks(24)


@scenario()
def mh_with_weight_0(node: IpvsNode) -> None:
    """Maglev hashing: weight 0 from the start has no slots; set to 0 later, it keeps them and refuses."""
    web = balanced(node, "mh", (1, 0, 1), service="-b mh-port")
    web.picks(8)
    node.ipvs_change(web.server(4, "-m -w 0", "-e"))
    web.picks(list(range(41000, 41010)))


@scenario(families=(4, 6))
def mh_fallback(node: IpvsNode) -> None:
    """Maglev hashing with fallback goes on to another slot."""
    web = balanced(node, "mh", (1, 1, 1), service="-b mh-port,mh-fallback")
    web.picks(6)
    node.ipvs_change(web.server(3, "-m -w 0", "-e"))
    assert 0 not in web.picks(list(range(41000, 41012)))


@scenario(families=(4, 6))
def fo_takes_the_heaviest(node: IpvsNode) -> None:
    """Failover: always the highest weight, until it is 0."""
    web = balanced(node, "fo", (1, 5, 3))
    assert web.picks(3) == [3, 3, 3]
    node.ipvs_change(web.server(3, "-m -w 0", "-e"))
    assert web.picks([41000, 41001]) == [4, 4]


@scenario()
def fo_with_equal_weights(node: IpvsNode) -> None:
    """Failover with equal weights stays with one."""
    balanced(node, "fo", (2, 2, 2)).picks(3)


@scenario(families=(4, 6))
def ovf_fills_the_heaviest(node: IpvsNode) -> None:
    """Overflow: the highest weight until it is full, then the next; all full, refused."""
    web = balanced(node, "ovf", (1, 3, 2))
    talks = [web.talk(40000 + i) for i in range(11)]
    for talk in talks:
        talk.client("S")


@scenario()
def ovf_comes_back(node: IpvsNode) -> None:
    """Overflow returns to a server that has room again; weight 0 takes none."""
    web = balanced(node, "ovf", (1, 2, 0))
    talks = [web.talk(40000 + i) for i in range(4)]
    for talk in talks:
        talk.open()
    talks[0].close()
    web.picks([41000, 41001])


@scenario(families=(4, 6))
def lblc_stays_with_a_server(node: IpvsNode) -> None:
    """Locality-based least connection: one server for an address, until it is overloaded."""
    web = balanced(node, "lblc", (2, 8, 2))
    for i in range(12):
        web.talk(40000 + i).open()


@scenario()
def lblc_with_weight_0(node: IpvsNode) -> None:
    """Locality-based least connection leaves a server of weight 0."""
    web = balanced(node, "lblc", (1, 1, 1))
    found = web.picks(2)[0]
    node.ipvs_change(web.server(found, "-m -w 0", "-e"))
    web.picks([41000, 41001])


@scenario(families=(4, 6))
def lblcr_spreads_over_a_set(node: IpvsNode) -> None:
    """Locality-based with replication: an overloaded server gets company."""
    web = balanced(node, "lblcr", (2, 8, 2))
    for i in range(14):
        web.talk(40000 + i).open()


@scenario()
def lblcr_with_weight_0(node: IpvsNode) -> None:
    """Locality-based with replication passes over members that weigh 0."""
    web = balanced(node, "lblcr", (1, 1, 1))
    found = web.picks(3)[0]
    node.ipvs_change(web.server(found, "-m -w 0", "-e"))
    web.picks([41000, 41001, 41002])


@scenario()
def no_servers_at_all(node: IpvsNode) -> None:
    """A service without servers: the port is unreachable, TCP or not."""
    web = balanced(node, weights=())
    web.client.send(UDP(sport=1, dport=80), to=web.vip)
    assert web.picks(2) == [0, 0]
