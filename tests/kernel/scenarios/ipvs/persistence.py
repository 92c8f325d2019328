"""Persistence: a client stays with its server."""

from judge.balanced import VIP, address, balanced, plain
from judge.ipvs_node import IpvsNode
from judge.scenario import scenario
from scapy.layers.inet import TCP, UDP


@scenario(families=(4, 6))
def one_client_one_server(node: IpvsNode) -> None:
    """Connections of a client go to the server of its template; another client has another."""
    web = balanced(node, service="-p 360")
    other = node.peer("eth0", address(node.family, 1, 3))
    assert len(set(web.picks(4))) == 1
    web.picks([40000, 40001], other)


@scenario(families=(4, 6))
def clients_of_one_network(node: IpvsNode) -> None:
    """With a netmask all clients of a network share a server."""
    mask = "-M 255.255.255.0" if node.family == 4 else "-M 64"
    web = balanced(node, service=f"-p 360 {mask}")
    node.sysctl("net.ipv4.ip_forward = 1")
    others = [node.peer("eth0", address(node.family, 1, last)) for last in (20, 30)]
    far = node.peer("eth0", "10.0.9.2" if node.family == 4 else "fd00:9::2")
    assert len({web.number(web.first(40000, client)) for client in (web.client, *others)}) == 1
    web.first(40000, far)


@scenario(families=(4, 6))
def template_runs_out(node: IpvsNode) -> None:
    """The template's time begins anew with each new connection; after it the client is scheduled again."""
    web = balanced(node, protocol="udp", service="-p 600")
    first = web.picks(1)[0]
    node.wait(450)
    assert web.picks([40001])[0] == first
    node.wait(450)
    assert web.picks([40002])[0] == first
    node.wait(1500)
    assert web.picks([40003])[0] != first


@scenario(masks=("time left",))
def template_outlives_its_time_with_connections(node: IpvsNode) -> None:
    """A template whose time is over stays a minute at a time while connections live."""
    web = balanced(node, service="-p 10")
    talk = web.talk()
    talk.open()
    for _ in range(3):
        node.wait(200)
    assert web.picks([41000])[0] == talk.number


@scenario(families=(4, 6))
def quiesced_server_keeps_its_clients(node: IpvsNode) -> None:
    """Weight 0 without expire_quiescent_template: the template still leads there."""
    web = balanced(node, service="-p 360")
    first = web.picks(1)[0]
    node.ipvs_change(web.server(first, "-m -w 0", "-e"))
    assert web.picks([41000])[0] == first


@scenario(families=(4, 6))
def quiesced_server_and_expire_quiescent_template(node: IpvsNode) -> None:
    """Weight 0 with expire_quiescent_template, as kube-proxy sets it: the client is scheduled anew."""
    web = balanced(node, service="-p 360")
    node.sysctl("net.ipv4.vs.expire_quiescent_template = 1")
    first = web.picks(1)[0]
    node.ipvs_change(web.server(first, "-m -w 0", "-e"))
    assert web.picks([41000])[0] != first
    web.picks([41001])


@scenario()
def removed_server_and_its_clients(node: IpvsNode) -> None:
    """The server of a template is removed: the client is scheduled anew."""
    web = balanced(node, service="-p 360")
    first = web.picks(1)[0]
    node.ipvs_change(web.server(first, verb="-d"))
    assert web.picks([41000])[0] != first
    web.picks([41001])


@scenario()
def of_udp(node: IpvsNode) -> None:
    """Persistence of UDP."""
    balanced(node, protocol="udp", service="-p").picks(3)


@scenario()
def of_sctp(node: IpvsNode) -> None:
    """Persistence of SCTP."""
    balanced(node, protocol="sctp", service="-p 100").picks(3)


@scenario(families=(4, 6))
def all_ports(node: IpvsNode) -> None:
    """A service of port 0: every port of the address; a client has one server for all of them."""
    web = plain(node)
    vip = web.vip if node.family == 4 else f"[{web.vip}]"
    lines = [f"-A -t {vip}:0 -s rr -p 360"]
    for server in web.servers.values():
        ip = server.ip if node.family == 4 else f"[{server.ip}]"
        lines.append(f"-a -t {vip}:0 -r {ip}:0 -m")
    node.ipvs("\n".join(lines))
    for i, port in enumerate((80, 443, 8080)):
        web.first(40000 + i, dport=port)
    web.client.send(UDP(sport=40000, dport=80) / b"no service of UDP", to=web.vip)


@scenario(families=(4, 6))
def of_a_mark(node: IpvsNode) -> None:
    """A persistent service of a mark: one template for protocols and ports alike."""
    web = plain(node)
    node.rules(f"-t mangle -A PREROUTING -d {web.vip} -j MARK --set-mark 5")
    six = "-6" if node.family == 6 else ""
    lines = [f"-A -f 5 {six} -s rr -p 360"]
    for server in web.servers.values():
        ip = server.ip if node.family == 4 else f"[{server.ip}]"
        lines.append(f"-a -f 5 {six} -r {ip}:0 -m")
    node.ipvs("\n".join(lines))
    web.client.send(TCP(sport=40000, dport=80, flags="S", seq=1), to=VIP[node.family])
    web.client.send(TCP(sport=40001, dport=443, flags="S", seq=1), to=VIP[node.family])
    web.client.send(UDP(sport=40000, dport=53) / b"query", to=VIP[node.family])


@scenario()
def with_wrr(node: IpvsNode) -> None:
    """Persistence over weighted round robin: each new client takes one turn."""
    web = balanced(node, "wrr", (1, 2, 1), service="-p 100")
    clients = [node.peer("eth0", f"10.0.1.{last}") for last in range(10, 18)]
    for client in clients:
        web.picks([40000, 40001], client)


@scenario()
def of_a_mark_with_a_port(node: IpvsNode) -> None:
    """A server's own port in a persistent service of a mark, and in one that is not: which keeps the packet's?"""
    web = plain(node)
    node.rules(f"-t mangle -A PREROUTING -p tcp -d {web.vip} -j MARK --set-mark 5")
    node.rules(f"-t mangle -A PREROUTING -p udp -d {web.vip} -j MARK --set-mark 6")
    node.ipvs(
        "\n".join(
            f"-A -f {mark} -s rr {persistent}\n-a -f {mark} -r {web.servers[2].ip}:8080 -m"
            for mark, persistent in ((5, "-p 360"), (6, ""))
        )
    )
    for port in (80, 443):
        web.client.send(TCP(sport=40000, dport=port, flags="S", seq=1), to=web.vip)
        web.client.send(UDP(sport=40000, dport=port) / b"query", to=web.vip)
