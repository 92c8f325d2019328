"""The lines that this machine's kernel writes for -j LOG, kept as samples: python tests/kernel/log_lines.py > FILE

Each line of the output is a JSON object: the arguments of dataplane.host.log_line.line, and the kernel's line. It turns
net.netfilter.nf_log_all_netns on while it runs, for the namespaces of the whole machine, so no test does this.
"""

import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from judge import namespace
from judge.drops import DropTrace
from judge.node import Node
from judge.talk import Peer, echo, icmp_error
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_Router_Alert
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, PadN
from scapy.layers.ipsec import AH, ESP
from scapy.packet import Packet, Raw

SWITCH = Path("/proc/sys/net/netfilter/nf_log_all_netns")
OPTIONS = ("", "--log-tcp-sequence", "--log-tcp-options", "--log-ip-options", "--log-macdecode")


def packets(family: int, client: Peer, server: Peer) -> list[Packet]:
    base = IP(src=client.ip, dst=server.ip, id=0x1234) if family == 4 else IPv6(src=client.ip, dst=server.ip, fl=77)
    quoted = base / UDP(sport=9, dport=8) / b"what was sent"
    again = base / TCP(sport=9, dport=8, flags="S")
    payloads = [
        UDP(sport=4000, dport=53) / b"query",
        TCP(sport=4000, dport=80, flags="S", seq=1 << 31, options=[("MSS", 1460), ("SAckOK", b""), ("WScale", 7)]),
        TCP(sport=4000, dport=80, flags="FSRPAUEC", reserved=5, urgptr=3, window=0) / b"x",
        echo(family, 7, 300),
        Raw(b"\0" * 7),
        icmp_error("port unreachable", quoted),
        icmp_error("time exceeded", again),
        icmp_error("too big", quoted, 1280),
        icmp_error("parameter problem", quoted),
    ]
    found = [base / payload for payload in payloads]
    for proto in (6, 17, 136, 132, 50, 51, 47, 89):
        found.append(_with(base, proto) / Raw(bytes(range(1, 40))))
        found.append(_with(base, proto) / Raw(b"\1\2\3"))
    found += [base / AH(spi=77, seq=1) / UDP(), base / ESP(spi=0xABCDEF, seq=2)]
    if family == 4:
        found += [
            base / ICMP(type=5, code=1, gw="10.0.9.9") / Raw(bytes(quoted)[:28]),
            base / ICMP(type=13),
            base / ICMP(type=3, code=1) / Raw(b"\0" * 8),
            base / ICMP(type=3, code=1) / Raw(bytes(base / icmp_error("port unreachable", quoted))[:60]),
            base / ICMP(type=8),
            IP(src=client.ip, dst=server.ip, id=3, tos=0xFF, flags="DF+MF+evil", ttl=9) / UDP(sport=1, dport=2) / b"y",
            IP(src=client.ip, dst=server.ip, id=3, frag=20) / (b"z" * 16),
            IP(src=client.ip, dst=server.ip, id=4, frag=20, flags="MF", proto=1) / (b"z" * 16),
            IP(src=client.ip, dst=server.ip, options=[IPOption_NOP(), IPOption_Router_Alert()]) / UDP(),
        ]
    else:
        found += [
            base / IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)]) / UDP(sport=1, dport=2),
            base / IPv6ExtHdrDestOpt() / TCP(sport=1, dport=2),
            base / IPv6ExtHdrFragment(id=99, offset=0, m=1) / UDP(sport=1, dport=2) / (b"z" * 16),
            base / IPv6ExtHdrFragment(id=99, offset=20, m=0) / Raw(b"z" * 16),
            base / IPv6ExtHdrFragment(id=99, offset=20, m=1, nh=6) / Raw(b"z" * 16),
            base / IPv6ExtHdrFragment(id=99, offset=20, nh=58) / Raw(b"z" * 16),
            IPv6(src=client.ip, dst=server.ip, nh=59),
            base / IPv6ExtHdrDestOpt() / AH(spi=3) / UDP(sport=5, dport=6),
        ]
    return found


def _with(base: Packet, proto: int) -> Packet:
    made = base.copy()
    setattr(made, "proto" if isinstance(made, IP) else "nh", proto)
    return made


def main() -> None:
    before = SWITCH.read_text()
    namespace.pin()
    fence, trace = namespace.Fence(), DropTrace()
    log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    os.lseek(log, 0, os.SEEK_END)
    SWITCH.write_text("1")
    try:
        for family in (4, 6):
            sample(family, log, Node("", Path(tempfile.mkdtemp()), family, fence, trace, "legacy"))
    finally:
        SWITCH.write_text(before)


def sample(family: int, log: int, node: Node) -> None:
    from dataplane import Host, HostConfig
    from dataplane.host.log_line import LineOptions

    client, server = node.router()
    node.rules("-t mangle -A PREROUTING -p udp -j MARK --set-mark 0x4000")
    for number, options in enumerate(OPTIONS):
        node.rules(f"""
            -t mangle -A PREROUTING -j LOG --log-prefix "jdg pre {number}: " {options}
            -t mangle -A FORWARD -j LOG --log-prefix "jdg forward {number}: " {options}
            -t mangle -A OUTPUT -j LOG --log-prefix "jdg out {number}: " {options}
        """)
    node.start()
    host = Host(HostConfig.load(node.recording.folder))
    for packet in packets(family, client, server):
        node.receive("eth0", _frame(client, packet))
        step = node.recording.steps[-1]
        host.receive(step.data, "eth0", step.time_ns)
        ours = [one for one in host.logged() if "jdg out" not in one.prefix]
        theirs = [line for line in _lines(log) if "jdg out" not in line]
        if len(ours) != len(theirs):
            raise SystemExit(f"{packet.summary()}: {len(theirs)} lines, {len(ours)} events")
        for one, line in zip(ours, theirs, strict=True):
            if one.interface_out and asdict(one.options) != asdict(LineOptions()):
                continue  # options do not depend on the chain
            print(
                json.dumps(
                    {
                        "packet": one.packet.hex(),
                        "prefix": one.prefix,
                        "interface_in": one.interface_in,
                        "interface_out": one.interface_out,
                        "mark": one.mark,
                        "link_header": one.link_header.hex(),
                        "options": {name: value for name, value in asdict(one.options).items() if value},
                        "line": line,
                    }
                )
            )
    node.close()


def _frame(client: Peer, packet: Packet) -> bytes:
    from scapy.layers.l2 import Ether

    return bytes(Ether(src=client.mac, dst=client.gateway) / packet)


def _lines(log: int) -> list[str]:
    found = []
    while True:
        try:
            record = os.read(log, 8192).decode(errors="replace")
        except BlockingIOError:
            return found
        text = record.partition(";")[2].split("\n")[0]
        if text.startswith("jdg "):
            found.append(text)


if __name__ == "__main__":
    main()
