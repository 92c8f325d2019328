"""Services and servers that come, go and change while connections live."""

from judge.balanced import TARGET, balanced
from judge.ipvs_node import IpvsNode
from judge.scenario import scenario
from judge.talk import reply
from scapy.layers.inet import UDP


@scenario(families=(4, 6))
def rr_with_a_new_server(node: IpvsNode) -> None:
    """Round robin goes on where it was; the new server stands first in the list."""
    web = balanced(node, weights=(1, 1, 1, 1))
    node.ipvs_change(web.server(5, verb="-d"))
    web.picks(2)
    node.ipvs_change(web.server(5))
    web.picks(list(range(41000, 41006)))


@scenario()
def rr_without_the_last_server_taken(node: IpvsNode) -> None:
    """Round robin steps back when the server that it took last goes."""
    web = balanced(node, weights=(1, 1, 1, 1))
    last = web.picks(2)[-1]
    node.ipvs_change(web.server(last, verb="-d"))
    web.picks(list(range(41000, 41005)))


@scenario()
def wrr_with_a_new_weight(node: IpvsNode) -> None:
    """Weighted round robin begins its list anew when weights change."""
    web = balanced(node, "wrr", (1, 2, 3))
    web.picks(2)
    node.ipvs_change(web.server(2, "-m -w 4", "-e"))
    web.picks(list(range(41000, 41012)))
    node.ipvs_change(web.server(2, "-m -w 0", "-e"))
    web.picks(list(range(42000, 42006)))


@scenario()
def wrr_with_a_new_server(node: IpvsNode) -> None:
    """Weighted round robin with a server added and one removed in mid-round."""
    web = balanced(node, "wrr", (4, 2, 2))
    node.ipvs_change(web.server(4, verb="-d"))
    web.picks(2)
    node.ipvs_change(web.server(4, "-m -w 6"))
    web.picks(list(range(41000, 41008)))
    node.ipvs_change(web.server(2, verb="-d"))
    web.picks(list(range(42000, 42008)))


@scenario()
def wlc_with_a_new_server(node: IpvsNode) -> None:
    """Weighted least connection floods the new server until it has caught up."""
    web = balanced(node, "wlc", (1, 1, 1))
    node.ipvs_change(web.server(3, verb="-d"))
    web.picks(4)
    node.ipvs_change(web.server(3))
    web.picks(list(range(41000, 41005)))


@scenario()
def sh_with_a_new_server(node: IpvsNode) -> None:
    """Source hashing deals its slots anew."""
    web = balanced(node, "sh", (1, 1, 1), service="-b sh-port")
    node.ipvs_change(web.server(4, verb="-d"))
    web.picks(6)
    node.ipvs_change(web.server(4))
    web.picks(list(range(41000, 41006)))


@scenario()
def mh_moves_little(node: IpvsNode) -> None:
    """Maglev hashing: of the same ports few move when a server goes."""
    web = balanced(node, "mh", (1, 1, 1, 1), service="-b mh-port", protocol="udp")
    before = web.picks(16)
    node.ipvs_change(web.server(3, verb="-d"))
    node.sysctl_change("net.ipv4.vs.expire_nodest_conn", 1)
    after = web.picks(16)
    assert all(a == b for a, b in zip(before, after, strict=True) if a != 3)


@scenario()
def another_scheduler(node: IpvsNode) -> None:
    """A service changes its scheduler; connections stay."""
    web = balanced(node, "rr", (1, 2, 3))
    web.picks(2)
    node.ipvs_change(f"-E {web.service} -s wrr")
    web.picks(list(range(41000, 41006)))
    node.ipvs_change(f"-E {web.service} -s fo")
    web.picks([42000, 42001])


@scenario(families=(4, 6))
def quiesced(node: IpvsNode) -> None:
    """Weight 0: connections go on, new ones avoid the server."""
    web = balanced(node)
    talk = web.talk()
    talk.open()
    node.ipvs_change(web.server(talk.number, "-m -w 0", "-e"))
    talk.client("PA", b"still here")
    talk.server("PA", b"so am I")
    assert talk.number not in web.picks([41000, 41001, 41002])


@scenario(families=(4, 6))
def removed_server(node: IpvsNode) -> None:
    """A removed server: packets of its connections are dropped without a word."""
    web = balanced(node)
    talk = web.talk()
    talk.open()
    node.ipvs_change(web.server(talk.number, verb="-d"))
    assert not talk.client("PA", b"hello?")
    talk.server("PA", b"hello!")


@scenario(families=(4, 6))
def removed_server_and_expire_nodest_conn(node: IpvsNode) -> None:
    """With expire_nodest_conn the connection goes with the first packet that finds no server."""
    web = balanced(node)
    node.sysctl("net.ipv4.vs.expire_nodest_conn = 1")
    talk = web.talk()
    talk.open()
    node.ipvs_change(web.server(talk.number, verb="-d"))
    talk.client("PA", b"hello?")
    talk.client("PA", b"hello?")
    talk.client("S", seq=90000)


@scenario(families=(4, 6))
def removed_udp_server(node: IpvsNode) -> None:
    """UDP with expire_nodest_conn: what becomes of the first datagram after the removal, and of the second."""
    web = balanced(node, protocol="udp")
    node.sysctl("net.ipv4.vs.expire_nodest_conn = 1")
    taken = web.picks(1)[0]
    node.ipvs_change(web.server(taken, verb="-d"))
    web.picks([40000, 40000])


@scenario()
def removed_udp_server_black_hole(node: IpvsNode) -> None:
    """UDP without expire_nodest_conn: nothing until the connection's time is over."""
    web = balanced(node, protocol="udp")
    taken = web.picks(1)[0]
    node.ipvs_change(web.server(taken, verb="-d"))
    assert web.picks([40000]) == [0]
    node.wait(200)
    assert web.picks([40000]) == [0]
    node.wait(400)
    assert web.picks([40000]) != [0]


@scenario()
def server_comes_back(node: IpvsNode) -> None:
    """A server removed and added again has its connections back."""
    web = balanced(node)
    talk = web.talk()
    talk.open()
    node.ipvs_change(web.server(talk.number, verb="-d"))
    talk.client("PA", b"hello?")
    node.ipvs_change(web.server(talk.number))
    talk.client("PA", b"hello again")
    talk.server("PA", b"welcome back")


@scenario()
def removed_service(node: IpvsNode) -> None:
    """A removed service: its connections lose their server."""
    web = balanced(node)
    talk = web.talk()
    talk.open()
    node.ipvs_change(f"-D {web.service}")
    talk.client("PA", b"hello?")
    web.picks([41000])


@scenario()
def cleared(node: IpvsNode) -> None:
    """Everything is removed, and another service made of the same servers."""
    web = balanced(node)
    talk = web.talk()
    talk.open()
    node.ipvs_change(f"-D {web.service}\n-A {web.service} -s rr\n{web.server(3)}\n{web.server(talk.number)}")
    talk.client("PA", b"hello?")
    web.picks([41000, 41001])


@scenario()
def new_service(node: IpvsNode) -> None:
    """A service made while the client asks: first the node's own answer, then the server."""
    web = balanced(node, protocol="udp")
    web.client.send(UDP(sport=40000, dport=53) / b"query", to=web.vip)
    node.ipvs_change(f"-A -u {web.vip}:53 -s rr\n-a -u {web.vip}:53 -r {web.servers[2].ip}:{TARGET} -m")
    web.client.send(UDP(sport=40000, dport=53) / b"query", to=web.vip)


@scenario()
def last_service_of_a_family(node: IpvsNode) -> None:
    """The last IPv4 service goes while one of IPv6 stays: IPVS leaves the hooks of IPv4, and comes back with the next."""
    web = balanced(node, protocol="udp")
    node.ipvs("-A -t [fd00:96::1]:80 -s rr")
    request = web.first(40000).only("eth1")
    node.ipvs_change(f"-D {web.service}")
    web.servers[4].send(reply(request, b"answer"))
    web.first(40000)
    node.ipvs_change(f"-A {web.service} -s rr\n{web.server(4)}")
    web.servers[4].send(reply(request, b"answer"))
    web.first(40000)
    web.first(40001)
