"""Host.logged: what LOG, NFLOG and TRACE wrote down."""

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from dataplane import Host, HostConfig
from dataplane.host import Address, Link
from dataplane.host.config import Neighbour
from dataplane.host.iptables import Ruleset

RULES = """*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:USER - [0:0]
-A FORWARD -p udp -m udp --dport 53 -j LOG --log-prefix "dns " --log-level 6
-A FORWARD -p udp -j NFLOG --nflog-group 5 --nflog-prefix seen
-A FORWARD -j USER
-A USER -p udp -m udp --dport 54 -j DROP
COMMIT
*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -p udp -m udp --dport 54 -j TRACE
COMMIT
"""


def router(rules: str = RULES) -> Host:
    config = HostConfig(
        links=(
            Link.lo(),
            Link("eth0", mac=0x020000000001),
            Link("eth1", mac=0x020000000002),
        ),
        addresses=(Address.of("eth0", "10.0.1.1/24"), Address.of("eth1", "10.0.2.1/24")),
        neighbours=(Neighbour.of("eth1", "10.0.2.2", "02:00:00:00:02:02"),),
        sysctl={"net.ipv4.ip_forward": "1"},
        iptables=Ruleset.parse(rules, 4),
    ).completed()
    return Host(config)


def datagram(port: int) -> bytes:
    ether = Ether(src="02:00:00:00:01:02", dst="02:00:00:00:00:01")
    return bytes(ether / IP(src="10.0.1.2", dst="10.0.2.2", id=7) / UDP(sport=4000, dport=port) / b"query")


def test_log_and_nflog_are_events_with_the_packet() -> None:
    host = router()
    host.receive(datagram(53), "eth0", 5)
    line, copy = host.logged()
    assert (line.kind, line.table, line.chain, line.rule, line.prefix, line.level) == (
        "LOG", "filter", "FORWARD", 1, "dns ", 6,
    )  # fmt: skip
    assert (copy.kind, copy.rule, copy.prefix, copy.group) == ("NFLOG", 2, "seen", 5)
    assert line.time_ns == 5
    assert (line.interface_in, line.interface_out) == ("eth0", "eth1")
    assert line.packet[12:] == datagram(53)[26:]
    assert IP(line.packet).ttl == 63
    assert line.line() == (
        "dns IN=eth0 OUT=eth1 MAC=02:00:00:00:00:01:02:00:00:00:01:02:08:00 SRC=10.0.1.2 DST=10.0.2.2 LEN=33 TOS=0x00 "
        "PREC=0x00 TTL=63 ID=7 PROTO=UDP SPT=4000 DPT=53 LEN=13 "
    )
    assert host.logged() == (), "they are given once"


def test_trace_follows_the_packet_from_its_rule_on() -> None:
    host = router()
    host.receive(datagram(54), "eth0")
    assert [one.prefix for one in host.logged()] == [
        "TRACE: raw:PREROUTING:policy:2 ",
        "TRACE: filter:FORWARD:rule:2 ",
        "seen",
        "TRACE: filter:FORWARD:rule:3 ",
        "TRACE: filter:USER:rule:1 ",
    ]
    host.receive(datagram(55), "eth0")
    assert [one.kind for one in host.logged()] == ["NFLOG"], "another packet is not traced"


def test_rows_name_the_rules_of_their_time() -> None:
    host = router()
    host.receive(datagram(53), "eth0")
    host.restore('*filter\n:USER - [0:0]\n-A USER -p tcp\n-A USER -j LOG --log-prefix "old "\nCOMMIT\n')
    assert [one.prefix for one in host.logged()] == ["dns ", "seen"]
    host.receive(datagram(53), "eth0")
    host.restore('*filter\n:USER - [0:0]\n-A USER -j LOG --log-prefix "new "\nCOMMIT\n')
    assert [(one.prefix, one.chain, one.rule) for one in host.logged()][2:] == [("old ", "USER", 2)]
    host.receive(datagram(53), "eth0")
    assert [(one.prefix, one.rule) for one in host.logged()] == [("dns ", 1), ("seen", 2), ("new ", 1)]


def test_a_log_that_nobody_reads_is_bounded() -> None:
    host = router(
        "*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n" + "-A PREROUTING -j LOG\n" * 700 + "COMMIT\n"
    )
    for _ in range(100):
        host.receive(datagram(53), "eth0")
    rows = host.logged()
    assert len(rows) == 65536
    assert host.log_lost == 70000 - 65536
    assert rows[-1].packet, "the packets of these are small enough to be kept"
