"""Small seeds that no sample has: every kind of capture file and block, every link type, texts of rarer tools."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from ipaddress import ip_address

from dataplane.host.config import (
    Address,
    Bridge,
    BridgePort,
    HostConfig,
    Link,
    Neighbour,
    PolicyRule,
    Route,
    Vxlan,
)
from dataplane.host.ipset import parse
from dataplane.host.iptables import Ruleset
from dataplane.testing import cut, packet, vxlan
from dataplane.testing.wire import ICMP, SCTP, TCP, UDP

MACS = bytes.fromhex("02000000000102000000aa02")
# LINKTYPE_ numbers, and what comes before an IPv4 packet there: null, Ethernet, raw (three), SLL, loop, SLL2, IPv4, and
# some that the reader does not know.
LINKS = {
    0: b"\x02\0\0\0",
    1: MACS + b"\x08\0",
    12: b"",
    101: b"",
    108: b"\0\0\0\x02",
    113: b"\0\0\0\x01\0\x06" + MACS[:6] + b"\0\0\x08\0",
    228: b"",
    276: b"\x08\0\0\0\0\0\0\x01\0\x01\0\x06" + MACS[:6] + b"\0\0",
    105: bytes(24),
    127: bytes(8),
}


@cache
def ip_packets() -> list[bytes]:
    """Each protocol in both families, fragments, a tunnel."""
    made = []
    for source, target in (("10.244.1.2", "10.96.0.10"), ("fd00:244:1::2", "fd00:10:96::a")):
        ends, six = (ip_address(source), ip_address(target)), ":" in source
        made += [packet(*ends, protocol, (40000, 53), b"payload") for protocol in (UDP, TCP, SCTP)]
        made.append(packet(*ends, TCP, (40001, 80), flags=2, tcp_options=b"\x02\x04\x05\xb4\x01\x03\x03\x07"))
        made.append(packet(*ends, ICMP, (7, 7), b"ping", icmp_type=128 if six else 8))
        made.append(packet(*ends, ICMP, (0, 1400), made[0], icmp_type=2 if six else 3))
        made += cut(packet(*ends, UDP, (1, 2), bytes(120)), 96)
        kind = b"\x86\xdd" if six else b"\x08\0"
        made.append(vxlan(MACS + kind + made[0], *ends))
    return made


def ethernet(packet: bytes) -> bytes:
    return MACS + (b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\0") + packet


ARP = MACS + bytes.fromhex("08060001080006040001") + MACS[6:] + bytes([10, 0, 0, 5]) + bytes(6) + bytes([10, 0, 0, 1])


def frames() -> list[bytes]:
    vlan = MACS + b"\x81\0\0\x05\x08\0" + ip_packets()[0]
    return [
        *map(ethernet, ip_packets()),
        ARP,
        vlan,
        b"\x01\x80\xc2\0\0\0" + MACS[6:] + b"\0\x26\x42\x42\x03" + bytes(35),
    ]


def pcap_files() -> Iterator[bytes]:
    for order in "<>":
        for magic in (0xA1B2C3D4, 0xA1B23C4D):
            for link, before in LINKS.items():
                frame = before + ip_packets()[0]
                head = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262144, link)
                record = struct.pack(order + "IIII", 1, 2, len(frame), len(frame) + 1) + frame
                yield head + record * 2


def _block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + size + body + size


def _option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def pcapng_files() -> Iterator[bytes]:
    """Sections of both byte orders with every kind of block: interface, packet (obsolete, simple, enhanced), names,
    statistics, secrets, custom, journal, and one that nobody knows."""
    for order in "<>":
        end = _option(order, 0, b"")
        options = b"".join(
            _option(order, code, value) for code, value in ((1, b"comment"), (2, b"hardware"), (4, b"app"))
        )
        section = _block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1) + options + end)
        interfaces = b"".join(
            _block(
                order,
                1,
                struct.pack(order + "HHI", link, 0, 0)
                + _option(order, 2, b"eth0")
                + _option(order, 9, bytes([resolution]))
                + _option(order, 14, struct.pack(order + "q", 5))
                + end,
            )
            for link, resolution in ((1, 9), (101, 6), (113, 0x94), (0, 3))
        )
        frame = ethernet(ip_packets()[0])
        time = struct.pack(order + "II", 0x61234, 0x12345678)
        sizes = struct.pack(order + "II", len(frame), len(frame))
        flags = _option(order, 2, struct.pack(order + "I", 1)) + _option(order, 3, b"\x02" + bytes(16)) + end
        enhanced = _block(order, 6, struct.pack(order + "I", 0) + time + sizes + frame + bytes(-len(frame) % 4) + flags)
        obsolete = _block(order, 2, struct.pack(order + "HH", 0, 65535) + time + sizes + frame)
        simple = _block(order, 3, struct.pack(order + "I", len(frame)) + frame)
        names = (
            struct.pack(order + "HH", 1, 9)
            + bytes([10, 0, 0, 1])
            + b"name\0"
            + bytes(3)
            + struct.pack(order + "HH", 0, 0)
        )
        others = [
            _block(order, 4, names + end),
            _block(order, 5, struct.pack(order + "I", 0) + time + _option(order, 4, bytes(8)) + end),
            _block(order, 10, struct.pack(order + "II", 0x544C534B, 4) + b"key\n"),
            _block(order, 0xBAD, struct.pack(order + "I", 32473) + b"custom"),
            _block(order, 0x40000BAD, struct.pack(order + "I", 32473) + b"custom"),
            _block(order, 9, b"__REALTIME_TIMESTAMP=1\n"),
            _block(order, 0x77, b"unknown"),
        ]
        yield section + interfaces + enhanced + simple + obsolete + b"".join(others) + section + interfaces + enhanced
        yield section + interfaces[: len(interfaces) // 4 // 4 * 4] + enhanced


# What `ipvsadm -L --timeout` prints.
IPVS_TIMEOUTS = [b"Timeout (tcp tcpfin udp): 900 120 300\n"]
# The input of iptables-restore --noflush, as a program that shares the kernel writes it.
RESTORES = [
    b"*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-X - [0:0]\n:KUBE-SEP-OLD - [0:0]\n"
    b'-A KUBE-SERVICES -m comment --comment "a/b:c cluster IP" -m tcp -p tcp -d 10.96.0.10/32 --dport 80 -j KUBE-SVC-X\n'
    b"-A KUBE-SVC-X -m statistic --mode random --probability 0.5 -j DNAT --to-destination 10.244.1.2:80\n"
    b"-X KUBE-SEP-OLD\nCOMMIT\n",
    b"*filter\n:X - [0:0]\n-A X -m conntrack --ctstate INVALID -j DROP\nCOMMIT\n",
]
# --map, --sync-delay, times of events and sizes of generated traffic: one to a line, as an argument each.
ARGUMENTS = [
    b"map 10.20.30.0/24=pods:default/*", b"map 93.184.216.34:80=svc:default/web:80", b"map 192.0.2.1=node:node-1",
    b"map 2001:db8::/64=pods:*/*", b"map 10.0.0.1=pod:default/web-0", b"map 10.0.0.1=lb:default/web", b"map 10.0.0.1=outside",
    b"delay 5s", b"delay node-1=1s+500ms", b"time 1m30s", b"time 2024-05-01T12:00:10.5Z", b"time 2.5",
]  # fmt: skip


CLUSTER = b"""
apiVersion: v1
kind: Node
metadata: {name: node-1}
spec: {podCIDR: 10.244.1.0/24, podCIDRs: [10.244.1.0/24, "fd00:244:1::/64"]}
status: {addresses: [{type: InternalIP, address: 192.168.1.11}, {type: InternalIP, address: "fd00:192::11"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: default, labels: {app: web}}
spec: {nodeName: node-1, containers: [{name: main, image: nginx, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  type: LoadBalancer
  clusterIPs: [10.96.0.10, "fd00:10:96::a"]
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  sessionAffinity: ClientIP
  externalIPs: [198.51.100.9]
  loadBalancerSourceRanges: [203.0.113.0/24]
  ports:
  - {name: a, port: 80, targetPort: 8080, nodePort: 30080}
  - {name: b, port: 53, protocol: UDP, nodePort: 30053}
  - {name: c, port: 9999, protocol: SCTP}
status: {loadBalancer: {ingress: [{ip: 198.51.100.1}]}}
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
ipvs: {scheduler: wrr, strictARP: true, tcpTimeout: 5m}
nodePortAddresses: [192.168.1.0/24]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: kube-flannel-cfg, namespace: kube-flannel}
data: {net-conf.json: '{"Network": "10.244.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:244::/56", "Backend": {"Type": "vxlan"}}'}
"""

# Every match that has a memory, and targets that write, log, count or make packets.
RULES = """*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -p udp -m udp --dport 54 -j NOTRACK
-A PREROUTING -s 10.9.0.0/16 -j CT --zone 5
COMMIT
*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -m connbytes --connbytes 2:9 --connbytes-mode packets --connbytes-dir both -j MARK --set-xmark 0x7/0xffffffff
-A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
-A FORWARD -j TOS --set-tos 0x10/0x3f
-A POSTROUTING -m ttl --ttl-gt 9 -j TTL --ttl-dec 1
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -p udp -m udp --dport 53 -j DNAT --to-destination 10.0.1.2:5353 --random
-A PREROUTING -p tcp -m tcp --dport 81 -j REDIRECT --to-ports 8081
-A PREROUTING -d 10.7.0.0/24 -j NETMAP --to 10.0.1.0/24
-A POSTROUTING -o eth1 -j MASQUERADE --random-fully
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -m recent --set --name seen --mask 255.255.255.255 --rsource
-A INPUT -m recent --update --seconds 60 --hitcount 3 --name seen --mask 255.255.255.255 --rsource -j DROP
-A FORWARD -m hashlimit --hashlimit-upto 5/sec --hashlimit-burst 5 --hashlimit-mode srcip,dstport --hashlimit-name h -j LOG
-A FORWARD -p tcp -m connlimit --connlimit-above 3 --connlimit-mask 32 --connlimit-saddr -j REJECT --reject-with tcp-reset
-A FORWARD -m u32 --u32 "0x0>>0x16&0x3c@0xc>>0x1a&0x3c@0x0=0x0" -j DROP
-A FORWARD -m set --match-set clients src -j SET --add-set clients dst --exist
-A FORWARD -p sctp -m sctp --chunk-types any INIT -j ACCEPT
-A FORWARD -p udp -m udp --dport 9 -j REJECT --reject-with icmp-port-unreachable
-A FORWARD -m statistic --mode random --probability 0.5 -j NFLOG --nflog-group 1
COMMIT
"""


@cache
def router() -> HostConfig:
    """A host with a bridge, tunnels, policy routing, sets and rules that remember."""
    bridge = 0x0200000000B0
    links = (
        Link.lo(),
        Link("eth0", index=2, mac=0x020000000001),
        Link("eth1", index=3, mac=0x020000000002, mtu=1280),
        Link("br0", "bridge", index=4, mac=bridge, bridge=Bridge()),
        Link("port0", "veth", index=5, mac=bridge, master="br0", port=BridgePort(hairpin=True)),
        Link("port1", "veth", index=6, mac=bridge + 1, master="br0", port=BridgePort()),
        Link(
            "vxlan1",
            "vxlan",
            index=7,
            mac=0x020000000007,
            mtu=1450,
            vxlan=Vxlan(1, local=ip_address("10.0.0.1"), device="eth0"),
        ),
    )
    owned = ("eth0", "10.0.0.1/24"), ("eth1", "10.0.1.1/24"), ("br0", "10.244.1.1/24"), ("vxlan1", "10.245.0.1/24")
    owned6 = ("eth0", "fd00::1/64"), ("eth1", "fd00:1::1/64"), ("br0", "fd00:244:1::1/64")
    sysctl = {
        "net.ipv4.ip_forward": "1",
        "net.ipv6.conf.all.forwarding": "1",
        "net.bridge.bridge-nf-call-iptables": "1",
        "net.ipv4.conf.eth0.proxy_arp": "1",
    }
    config = HostConfig(
        "router",
        links,
        tuple(Address.of(*pair) for pair in (*owned, *owned6)),
        (Route.of("0.0.0.0/0", "eth1", "10.0.1.2"), Route.of("::/0", "eth1", "fd00:1::2")),
        neighbours=(Neighbour.of("eth1", "10.0.1.2", 0x020000000102), Neighbour.of("eth0", "10.0.0.5", 0x020000000105)),
        ipsets=parse(
            "create clients hash:ip family inet hashsize 1024 maxelem 100 timeout 60 bucketsize 12 initval 0x5\n"
        ),
        sysctl=sysctl,
    ).completed()
    return config.with_(iptables=Ruleset.parse(RULES, 4), rules=(*config.rules, PolicyRule(1000, table=254, fwmark=7)))
