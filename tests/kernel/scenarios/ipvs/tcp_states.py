"""States of TCP connections and how long they live. Times stay 15 % away from the kernel's: its timers come in steps."""

from judge.balanced import Conversation, balanced, plain
from judge.explore import explore
from judge.ipvs_node import IpvsNode
from judge.scenario import scenario
from scapy.layers.inet import TCP


def opened(node: IpvsNode, **options: str) -> Conversation:
    talk = balanced(node, weights=(1, 1), **options).talk()
    talk.open()
    return talk


@scenario(families=(4, 6))
def client_closes(node: IpvsNode) -> None:
    """SYN_RECV, ESTABLISHED with the client's ACK, CLOSE_WAIT, TIME_WAIT."""
    talk = opened(node)
    talk.client("PA", b"GET / HTTP/1.0\r\n\r\n")
    talk.server("PA", b"HTTP/1.0 200 OK\r\n\r\n")
    talk.close()


@scenario(families=(4, 6))
def server_closes(node: IpvsNode) -> None:
    """FIN_WAIT, and TIME_WAIT with the client's FIN."""
    talk = opened(node)
    talk.server("FA")
    talk.client("A")
    talk.client("FA")
    talk.server("A")


@scenario()
def both_close_at_once(node: IpvsNode) -> None:
    """FINs that cross."""
    talk = opened(node)
    talk.server("FA")
    talk.client("FA", ack=500_001)
    talk.client("A")
    talk.server("A")


@scenario()
def client_resets(node: IpvsNode) -> None:
    """CLOSE, ten seconds."""
    talk = opened(node)
    talk.client("R")
    node.wait(8)
    node.wait(6)


@scenario()
def server_resets(node: IpvsNode) -> None:
    """A server's RST closes too."""
    talk = opened(node)
    talk.server("RA")
    node.wait(14)


@scenario(families=(4, 6))
def server_refuses(node: IpvsNode) -> None:
    """RST in answer to the SYN."""
    talk = balanced(node, weights=(1, 1)).talk()
    talk.client("S")
    talk.server("RA")
    talk.client("S")


@scenario()
def half_open(node: IpvsNode) -> None:
    """SYN_RECV lives for a minute."""
    talk = balanced(node, weights=(1, 1)).talk()
    talk.client("S")
    node.wait(48)
    talk.server("SA")
    node.wait(48)
    node.wait(30)


@scenario()
def established(node: IpvsNode) -> None:
    """ESTABLISHED lives for 900 s after the last packet of either side."""
    talk = opened(node)
    node.wait(750)
    talk.server("PA", b"tick")
    node.wait(750)
    talk.client("A")
    node.wait(750)
    node.wait(350)
    talk.client("PA", b"too late")


@scenario()
def time_wait(node: IpvsNode) -> None:
    """TIME_WAIT lives for two minutes."""
    talk = opened(node)
    talk.close()
    node.wait(100)
    node.wait(40)


@scenario()
def close_wait(node: IpvsNode) -> None:
    """CLOSE_WAIT lives for a minute."""
    talk = opened(node)
    talk.client("FA")
    node.wait(50)
    node.wait(22)


@scenario()
def fin_wait(node: IpvsNode) -> None:
    """FIN_WAIT lives for two minutes."""
    talk = opened(node)
    talk.server("FA")
    node.wait(100)
    node.wait(40)


@scenario(families=(4, 6))
def other_timeouts(node: IpvsNode) -> None:
    """`ipvsadm --set`: ESTABLISHED and FIN_WAIT have other times, TIME_WAIT has not."""
    web = balanced(node, weights=(1, 1))
    node.ipvs_timeouts(300, 40, 0)
    talk = web.talk()
    talk.open()
    node.wait(200)
    talk.client("A")
    talk.server("FA")
    node.wait(30)
    talk.client("FA")


@scenario(families=(4, 6))
def ack_without_connection(node: IpvsNode) -> None:
    """An ACK without connection goes to the node itself, which resets."""
    talk = balanced(node, weights=(1, 1)).talk()
    talk.client("A", ack=77)
    talk.client("PA", b"x", ack=77)
    talk.client("SA", ack=77)
    talk.client("FA", ack=77)
    talk.client("R")


@scenario(families=(4, 6))
def sloppy(node: IpvsNode) -> None:
    """sloppy_tcp: an ACK makes a connection; a RST does not."""
    web = balanced(node, weights=(1, 1))
    node.sysctl("net.ipv4.vs.sloppy_tcp = 1")
    talk = web.talk()
    talk.client("R")
    talk.client("PA", b"x", ack=77)
    talk.server("A")
    web.talk(41000).client("FA", ack=77)


@scenario()
def flags_that_mean_nothing(node: IpvsNode) -> None:
    """No flags, SYN with FIN, everything at once: the first of RST, SYN, FIN, ACK counts."""
    talk = opened(node)
    talk.client("")
    talk.client("SF")
    talk.client("FPU")
    talk.client("FSRPAU")


@scenario()
def first_packets_with_odd_flags(node: IpvsNode) -> None:
    """Which flags make a connection: SYN without ACK, FIN and RST?"""
    web = balanced(node, weights=(1, 1))
    for i, flags in enumerate(("S", "SF", "SR", "SA", "SP", "SU", "SE", "", "F")):
        web.talk(41000 + i).client(flags)


@scenario()
def syn_again(node: IpvsNode) -> None:
    """A SYN in each state."""
    talk = balanced(node, weights=(1, 1)).talk()
    talk.client("S")
    talk.client("S", seq=1000)
    talk.server("SA")
    talk.client("A")
    talk.client("S", seq=1000)
    talk.client("FA")
    talk.client("S", seq=1000)


@scenario()
def from_the_server(node: IpvsNode) -> None:
    """The server's SYN and FIN in odd places."""
    talk = opened(node)
    talk.server("S")
    talk.server("FA")
    talk.server("S")
    talk.server("R")
    talk.server("S")


@scenario()
def bad_checksum(node: IpvsNode) -> None:
    """A TCP checksum that is wrong: nothing is sent on."""
    talk = opened(node)
    talk.client("PA", b"spoilt", chksum=0x1234)
    talk.server("PA", b"spoilt", chksum=0x1234)


FLAGS = ("S", "SA", "A", "FA", "R", "RA", "")


@scenario(masks=("time left",))
def every_flag_in_every_state(node: IpvsNode) -> None:
    """Segments of both sides, whatever they are and whenever they come; conn_reuse_mode 0, where a SYN begins nothing."""
    web = balanced(node, weights=(1,))
    node.sysctl("net.ipv4.vs.conn_reuse_mode = 0")

    def send(sport: int, side: int, kind: int) -> None:
        if side:
            segment = TCP(sport=8080, dport=sport, flags=FLAGS[kind], seq=5000, ack=1001)
            web.servers[2].send(segment, to=web.client)
        else:
            segment = TCP(sport=sport, dport=80, flags=FLAGS[kind], seq=1000, ack=5001)
            web.client.send(segment, to=web.vip)

    explore(node, send, 2, len(FLAGS), 0)


@scenario(masks=("time left",))
def every_flag_of_a_client(node: IpvsNode) -> None:
    """Direct routing, where the balancer sees the client alone; sloppy_tcp, where any segment but RST may come first."""
    web = plain(node, "tcp", 2)
    lines = [f"-A {web.service} -s rr"]
    node.ipvs("\n".join(lines + [web.server(number, "-g", port=80) for number in web.servers]))
    node.sysctl("net.ipv4.vs.sloppy_tcp = 1")

    def send(sport: int, side: int, kind: int) -> None:
        web.client.send(TCP(sport=sport, dport=80, flags=FLAGS[kind], seq=1000, ack=5001), to=web.vip)

    for kind in range(len(FLAGS)):
        send(41000 + kind, 0, kind)
    explore(node, send, 1, len(FLAGS), 0)
