"""A client that takes a port again: the old connection, or a new choice."""

from judge.balanced import Conversation, balanced
from judge.ipvs_node import IpvsNode
from judge.scenario import scenario


def closed(node: IpvsNode, mode: int, settings: str = "", service: str = "") -> Conversation:
    web = balanced(node, service=service)
    node.sysctl(f"net.ipv4.vs.conn_reuse_mode = {mode}\n{settings}")
    talk = web.talk()
    talk.open()
    talk.close()
    return talk


@scenario(families=(4, 6))
def in_time_wait(node: IpvsNode) -> None:
    """Mode 1: a SYN in TIME_WAIT is scheduled anew."""
    talk = closed(node, 1)
    first = talk.number
    talk.client("S", seq=70000)
    assert talk.number != first


@scenario()
def in_time_wait_mode_0(node: IpvsNode) -> None:
    """Mode 0: a SYN in TIME_WAIT goes to the old server."""
    talk = closed(node, 0)
    first = talk.number
    talk.client("S", seq=70000)
    assert talk.number == first


@scenario()
def in_time_wait_mode_2(node: IpvsNode) -> None:
    """Mode 2: a SYN in TIME_WAIT."""
    talk = closed(node, 2)
    talk.client("S", seq=70000)


@scenario()
def in_time_wait_with_conntrack(node: IpvsNode) -> None:
    """Mode 1 with conntrack=1: what becomes of the SYN while netfilter still knows the old connection."""
    web = balanced(node)
    node.sysctl("net.ipv4.vs.conntrack = 1\nnet.ipv4.vs.conn_reuse_mode = 1")
    node.rules("-A FORWARD -m conntrack --ctstate INVALID -j DROP")
    talk = web.talk()
    talk.open()
    talk.close()
    talk.client("S", seq=70000)
    talk.client("S", seq=70000)


@scenario()
def in_time_wait_of_a_persistent_service(node: IpvsNode) -> None:
    """A connection that a template controls is not scheduled anew."""
    talk = closed(node, 1, service="-p 300")
    first = talk.number
    talk.client("S", seq=70000)
    assert talk.number == first


@scenario()
def after_a_reset(node: IpvsNode) -> None:
    """A SYN in CLOSE."""
    web = balanced(node)
    talk = web.talk()
    talk.open()
    talk.client("R")
    talk.client("S", seq=70000)


@scenario()
def in_established(node: IpvsNode) -> None:
    """A SYN in ESTABLISHED goes to the old server."""
    web = balanced(node)
    talk = web.talk()
    talk.open()
    first = talk.number
    talk.client("S", seq=70000)
    assert talk.number == first


@scenario()
def in_established_of_a_quiesced_server(node: IpvsNode) -> None:
    """A SYN in ESTABLISHED whose server weighs 0, with expire_nodest_conn: a new choice."""
    web = balanced(node)
    node.sysctl("net.ipv4.vs.expire_nodest_conn = 1")
    talk = web.talk()
    talk.open()
    node.ipvs_change(web.server(talk.number, "-m -w 0", "-e"))
    talk.client("S", seq=70000)


@scenario()
def in_established_of_a_quiesced_server_mode_0(node: IpvsNode) -> None:
    """The same in mode 0: expire_nodest_conn decides, not the mode."""
    web = balanced(node)
    node.sysctl("net.ipv4.vs.expire_nodest_conn = 1\nnet.ipv4.vs.conn_reuse_mode = 0")
    talk = web.talk()
    talk.open()
    node.ipvs_change(web.server(talk.number, "-m -w 0", "-e"))
    talk.client("S", seq=70000)


@scenario()
def of_udp_with_a_quiesced_server(node: IpvsNode) -> None:
    """UDP goes on with a server that weighs 0."""
    web = balanced(node, protocol="udp")
    node.sysctl("net.ipv4.vs.expire_nodest_conn = 1")
    first = web.picks(1)[0]
    node.ipvs_change(web.server(first, "-m -w 0", "-e"))
    web.picks([40000, 40000])
