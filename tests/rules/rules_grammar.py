"""Random rules and packets for hypothesis: from small pools, so that rules and packets meet."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from functools import cache

from hypothesis import strategies as st
from rules_twin import Connection

# By slot. Interfaces with one prefix do not stand side by side.
INTERFACES = ("lo", "eth0", "veth1", "cni0", "veth2", "eth1")
ADDRESSES = {
    4: ("10.0.0.1", "10.0.0.2", "10.0.0.255", "10.1.2.3", "10.1.2.4", "127.0.0.1", "224.0.0.5", "255.255.255.255"),
    6: ("fd00::1", "fd00::2", "fd00:0:0:1::1", "fd00::1:0:0:2", "::1", "ff02::1", "::"),
}
NETWORKS = {
    4: ("10.0.0.0/8", "10.1.2.0/24", "10.0.0.0/31", "127.0.0.0/8", "10.0.0.1/255.0.0.255", "224.0.0.0/4"),
    6: ("fd00::/8", "fd00::/64", "fd00::/127", "ff00::/8", "fd00::1/ffff::ffff", "::/1"),
}
PORTS = (0, 1, 22, 53, 80, 443, 8080, 30080, 65535)
# What the routing tables say: address, prefix length, RTN_ number, interface.
LOCAL = {
    4: (
        ("10.0.0.1", 32, 2, "eth0"),
        ("10.0.0.255", 32, 3, "eth0"),
        ("127.0.0.0", 8, 2, "lo"),
        ("0.0.0.0", 0, 1, "eth0"),
    ),
    6: (("fd00::1", 128, 2, "eth0"), ("::1", 128, 2, "lo"), ("::", 0, 1, "eth0")),
}


def words(address: str) -> tuple[int, int, int, int]:
    value = ipaddress.ip_address(address)
    if value.version == 4:
        return int(value), 0, 0, 0
    number = int(value)
    return number >> 96, number >> 64 & 0xFFFFFFFF, number >> 32 & 0xFFFFFFFF, number & 0xFFFFFFFF


def local_rows(family: int) -> list[tuple[tuple[int, int, int, int], int, int, int, int]]:
    return [
        (words(address), length, family, kind, INTERFACES.index(device))
        for address, length, kind, device in LOCAL[family]
    ]


def local_type(address: int, family: int, device: str) -> int:
    """What the local table says, for the twin."""
    if family == 4:
        if address >> 24 == 0 or address == 0xFFFFFFFF:
            return 3
        if address >> 28 == 14:
            return 5
    for known, length, kind, where in LOCAL[family]:
        shift = (32 if family == 4 else 128) - length
        if address >> shift == int(ipaddress.ip_address(known)) >> shift:
            return kind if device in ("", where) else 1
    return 1


# ---- rules
# -------------------------------------------------------------------------------------------------------------

INVERT = st.sampled_from(["", "", "! "])
PORT = st.sampled_from(PORTS)
MASK = st.sampled_from(["", "/0x1", "/0xff", "/0x4000", "/0xffffffff", "/0x0"])
MARKS = st.sampled_from(["0x0", "0x1", "0x4000", "0x4001", "0xff"])
# Of all ports the tools print nothing, not even `!`.
PORT_RANGE = st.one_of(PORT.map(str), st.tuples(PORT, PORT).map(lambda pair: f"{min(pair)}:{max(pair)}")).filter(
    lambda text: text != "0:65535"
)


def said(option: str, value: st.SearchStrategy[object]) -> st.SearchStrategy[str]:
    return st.builds(lambda bang, chosen: f"{bang}--{option} {chosen}", INVERT, value)


def some_of(*options: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """At least one of the options."""
    either = st.tuples(*(st.one_of(st.just(""), option) for option in options))
    return either.map(lambda chosen: " ".join(filter(None, chosen))).filter(bool)


def maybe(option: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(st.just(""), option)


@cache
def address(family: int) -> st.SearchStrategy[str]:
    return st.sampled_from((*ADDRESSES[family], *NETWORKS[family]))


def ports() -> tuple[st.SearchStrategy[str], ...]:
    return said("sport", PORT_RANGE), said("dport", PORT_RANGE)


FLAGS = st.sets(st.sampled_from(["FIN", "SYN", "RST", "PSH", "ACK", "URG"]), min_size=1)
CHUNKS = st.sets(st.sampled_from(["DATA", "INIT", "SACK", "ABORT:T", "DATA:Be"]), min_size=1).filter(
    lambda chosen: len({name.split(":")[0] for name in chosen}) == len(chosen)
)


@cache
def by_protocol(family: int) -> dict[str, st.SearchStrategy[str]]:
    """Matches that need a protocol."""
    several = st.lists(
        PORT_RANGE.filter(lambda text: len(set(text.split(":"))) == len(text.split(":"))), min_size=1, max_size=6
    )
    multiport = st.builds(
        lambda bang, option, chosen: f"-m multiport {bang}--{option} {','.join(chosen)}",
        INVERT,
        st.sampled_from(["sports", "dports", "ports"]),
        several,
    )
    flags = st.builds(
        lambda bang, mask, held: f"{bang}--tcp-flags {','.join(mask)} {','.join(held & mask) or 'NONE'}",
        INVERT,
        FLAGS,
        FLAGS,
    )
    option = said("tcp-option", st.sampled_from([2, 3, 4, 8]))
    tcp = some_of(*ports(), flags, option).map(lambda text: f"-m tcp {text}")
    mss = said("mss", st.sampled_from(["1460", "0:1400", "1400:1460"])).map(lambda text: f"-m tcpmss {text}")
    chunks = st.builds(
        lambda bang, way, chosen: f"{bang}--chunk-types {way} {','.join(sorted(chosen))}",
        INVERT,
        st.sampled_from(["any", "all", "only"]),
        CHUNKS,
    )
    kinds = ["8", "0", "3", "3/1", "3/3", "11"] if family == 4 else ["128", "129", "1", "1/4", "3"]
    icmp = said("icmp-type" if family == 4 else "icmpv6-type", st.sampled_from(kinds))
    return {
        "tcp": st.one_of(tcp, multiport, mss, st.just("-m tcp")),
        "udp": st.one_of(some_of(*ports()).map(lambda text: f"-m udp {text}"), multiport, st.just("-m udp")),
        "sctp": st.one_of(some_of(*ports(), chunks).map(lambda text: f"-m sctp {text}"), multiport),
        "icmp" if family == 4 else "ipv6-icmp": icmp.map(lambda text: f"-m icmp{'' if family == 4 else '6'} {text}"),
    }


STATES = st.sets(st.sampled_from(["INVALID", "NEW", "RELATED", "ESTABLISHED", "UNTRACKED", "SNAT", "DNAT"]), min_size=1)


@cache
def conntrack(family: int) -> st.SearchStrategy[str]:
    inverted_states = said("ctstate", STATES.map(",".join))
    where = address(family).filter(lambda text: text.count(".") < 5 and "ffff::ffff" not in text)
    return some_of(
        inverted_states,
        said("ctproto", st.sampled_from(["6", "17", "1"])),
        *(said(option, where) for option in ("ctorigsrc", "ctorigdst", "ctreplsrc", "ctrepldst")),
        *(said(option, PORT_RANGE) for option in ("ctorigsrcport", "ctorigdstport", "ctreplsrcport", "ctrepldstport")),
        said("ctstatus", st.sampled_from(["NONE", "ASSURED", "SEEN_REPLY,CONFIRMED", "EXPECTED"])),
        said("ctexpire", st.sampled_from(["0", "10:60", "100:"])),
        st.sampled_from(["--ctdir ORIGINAL", "--ctdir REPLY"]),
    ).map(lambda text: f"-m conntrack {text}")


@cache
def recent() -> st.SearchStrategy[str]:
    name = st.sampled_from(["A", "B"])
    side = st.sampled_from(["--rsource", "--rdest"])
    quiet = st.builds(lambda bang, verb, name, side: f"-m recent {bang}--{verb} --name {name} {side}", INVERT,
                      st.sampled_from(["set", "remove"]), name, side)  # fmt: skip
    asking = st.builds(
        lambda bang, verb, seconds, hits, ttl, name, side: (
            f"-m recent {bang}--{verb} {seconds} {hits} {ttl} --name {name} {side}"
        ),
        INVERT,
        st.sampled_from(["rcheck", "update"]),
        st.sampled_from(["", "--seconds 1", "--seconds 10", "--seconds 10 --reap"]),
        st.sampled_from(["", "--hitcount 2", "--hitcount 40"]),
        st.sampled_from(["", "--rttl"]),
        name,
        side,
    )
    return st.one_of(quiet, asking)


# Slow enough that no time passes in a test. The settings of a name are the same in all rules, whose order does not
# count then.
HASHLIMITS = (
    "--hashlimit-upto 1/hour --hashlimit-burst 2 --hashlimit-mode srcip --hashlimit-name a",
    "--hashlimit-above 1/hour --hashlimit-burst 2 --hashlimit-mode srcip --hashlimit-name a",
    "--hashlimit-upto 1/hour --hashlimit-burst 1 --hashlimit-mode dstip,dstport --hashlimit-dstmask 24 --hashlimit-name b",
    "--hashlimit-above 1/day --hashlimit-burst 3 --hashlimit-name c --hashlimit-htable-size 16",
    "--hashlimit-upto 1/hour --hashlimit-burst 1 --hashlimit-mode srcport --hashlimit-name d --hashlimit-htable-size 1 "
    "--hashlimit-htable-max 2",
)
U32 = ("0&0xF0000000=0x40000000", "0>>22&0x3C@0>>16=80,443", "6&0xFF=6:17", "0>>22&0x3C@12>>26&0x3C@0=0:1", "2&0xFFFF=0:60",
       "8&0xFF=1&&0&0xFF=0x10:0xFF", "4=0&&100=5", "0<<4>>28=5:6")  # fmt: skip


@cache
def anywhere(family: int) -> st.SearchStrategy[str]:
    """Matches that may stand in any rule."""
    types = ["LOCAL", "UNICAST", "MULTICAST"] + (
        ["BROADCAST", "LOCAL,BROADCAST"] if family == 4 else ["LOCAL,UNREACHABLE"]
    )
    hop = "ttl" if family == 4 else "hl"
    two = st.tuples(st.sampled_from(ADDRESSES[family]), st.sampled_from(ADDRESSES[family]))
    span = two.map(lambda pair: "-".join(sorted(pair, key=lambda text: int(ipaddress.ip_address(text)))))
    statistic = st.one_of(
        said("probability", st.sampled_from(["0.5", "0.1", "0", "1"])).map(lambda text: f"--mode random {text}"),
        st.builds(
            lambda bang, every, packet: f"--mode nth {bang}--every {every} --packet {packet % every}",
            INVERT,
            st.integers(1, 4),
            st.integers(0, 3),
        ),
    )
    port = st.sampled_from(["veth1", "veth+", "eth0", "veth2"])
    physdev = some_of(
        *(st.sampled_from([f"--physdev-{way}", f"! --physdev-{way}"]) for way in ("is-in", "is-bridged")),
        said("physdev-in", port),
    )
    return st.one_of(
        st.sampled_from(["a", "two words", 'a "quote"', "x/y:z"]).map(
            lambda text: '-m comment --comment "{}"'.format(text.replace('"', '\\"'))
        ),
        st.builds("-m mark {}--mark {}{}".format, INVERT, MARKS, MASK),
        st.builds("-m connmark {}--mark {}{}".format, INVERT, MARKS, MASK),
        STATES.map(lambda s: ",".join(s - {"SNAT", "DNAT"})).filter(bool).map(lambda text: f"-m state --state {text}"),
        conntrack(family),
        some_of(said("src-type", st.sampled_from(types)), said("dst-type", st.sampled_from(types))).map(
            "-m addrtype {}".format
        ),
        statistic.map("-m statistic {}".format),
        recent(),
        physdev.map("-m physdev {}".format),
        st.sampled_from(["5/sec", "1/sec", "10/min --limit-burst 2", "3/hour --limit-burst 1"]).map(
            "-m limit --limit {}".format
        ),
        said("length", st.sampled_from(["40", "0:60", "1000:", "28"])).map("-m length {}".format),
        st.one_of(
            said(f"{hop}-eq", st.sampled_from([1, 63, 64])), st.sampled_from([f"--{hop}-lt 64", f"--{hop}-gt 63"])
        ).map(lambda text: f"-m {hop} {text}"),
        said("tos", st.sampled_from(["0x10", "0x10/0x3f", "0/0x03"])).map("-m tos {}".format),
        said("dscp", st.sampled_from(["0", "4", "46"])).map("-m dscp {}".format),
        said("pkt-type", st.sampled_from(["unicast", "broadcast", "multicast"])).map("-m pkttype {}".format),
        some_of(said("src-range", span), said("dst-range", span)).map("-m iprange {}".format),
        st.sampled_from(HASHLIMITS).map("-m hashlimit {}".format),
        st.builds('-m u32 {}--u32 "{}"'.format, INVERT, st.sampled_from(U32)),
    )


# One set of each type, for a family; the counters of some count, and `nomatch` cuts holes.
SETS = """\
create A{f} hash:ip family {inet} counters
create B{f} hash:ip,port family {inet}
create C{f} hash:ip,port,ip family {inet} counters
create D{f} hash:net family {inet} counters
create E{f} hash:net,port family {inet}
create F{f} hash:ip,port,net family {inet}
create P{f} bitmap:port range 0-1023 counters
create L{f} list:set counters
create T{f} hash:ip family {inet} timeout 600
create N{f} hash:ip family {inet} netmask {netmask}
"""
MEMBERS = {
    4: """\
add A4 10.0.0.2
add A4 10.1.2.3
add B4 10.0.0.1,tcp:80
add B4 10.0.0.1,udp:53
add B4 10.0.0.2,icmp:echo-request
add C4 10.0.0.1,tcp:80,10.0.0.2
add D4 10.0.0.0/8
add D4 10.1.2.0/24 nomatch
add D4 224.0.0.0/4
add E4 10.0.0.0/24,tcp:80
add E4 10.0.0.0/31,sctp:22
add F4 10.0.0.1,udp:53,10.0.0.0/8
add F4 10.0.0.1,tcp:443,10.1.0.0/16 nomatch
add P4 80
add P4 53
add L4 A4
add L4 D4
add T4 10.0.0.2 timeout 500
add N4 10.1.2.0
""",
    6: """\
add A6 fd00::2
add A6 fd00:0:0:1::1
add B6 fd00::1,tcp:80
add B6 fd00::1,udp:53
add B6 fd00::2,ipv6-icmp:echo-request
add C6 fd00::1,tcp:80,fd00::2
add D6 fd00::/8
add D6 fd00:0:0:1::/64 nomatch
add E6 fd00::/64,tcp:80
add E6 fd00::/127,sctp:22
add F6 fd00::1,udp:53,fd00::/16
add P6 80
add P6 53
add L6 A6
add L6 D6
add T6 fd00::2 timeout 500
add N6 fd00::
""",
}
DIMENSIONS = {"A": 1, "B": 2, "C": 3, "D": 1, "E": 2, "F": 3, "P": 1, "L": 1, "T": 1, "N": 1}


def sets(family: int) -> str:
    inet, netmask = ("inet", 24) if family == 4 else ("inet6", 64)
    return SETS.format(f=family, inet=inet, netmask=netmask) + MEMBERS[family]


@cache
def of_sets(family: int) -> st.SearchStrategy[str]:
    name = st.sampled_from(sorted(DIMENSIONS))
    directions = st.lists(st.sampled_from(["src", "dst"]), min_size=3, max_size=3)
    return st.builds(
        lambda bang, name, ways, option: (
            f"-m set {bang}--match-set {name}{family} {','.join(ways[: DIMENSIONS[name]])} {option}".rstrip()
        ),
        INVERT,
        name,
        directions,
        st.sampled_from(
            [
                "",
                "",
                "",
                "--return-nomatch",
                "! --update-counters",
                "--packets-gt 1",
                "! --packets-eq 1",
                "--bytes-lt 90",
                "! --update-subcounters",
            ]
        ),
    )


@cache
def into_sets(family: int) -> st.SearchStrategy[str]:
    name = st.sampled_from(sorted(DIMENSIONS))
    directions = st.lists(st.sampled_from(["src", "dst"]), min_size=3, max_size=3)
    return st.builds(
        lambda verb, name, ways: f"-j SET --{verb} {name}{family} {','.join(ways[: DIMENSIONS[name]])}",
        st.sampled_from(["add-set", "del-set"]),
        name,
        directions,
    ).flatmap(lambda text: st.sampled_from([text, f"{text} --exist"] if "add" in text else [text]))


@cache
def of_routes() -> st.SearchStrategy[str]:
    return st.sampled_from(["", "--loose", "--accept-local", "--invert", "--loose --accept-local", "--validmark"]).map(
        lambda text: f"-m rpfilter {text}".rstrip()
    )


@cache
def target(family: int, table: str, chain: str) -> st.SearchStrategy[str]:
    choices: list[st.SearchStrategy[str]] = [
        st.sampled_from(["", "-j ACCEPT", "-j DROP" if table != "nat" else "-j ACCEPT", "-j RETURN"]),
        st.builds("-j MARK --set-xmark {}{}".format, MARKS, MASK),
        st.sampled_from(["--and-mark 0xf0", "--or-mark 0x4000", "--xor-mark 1"]).map("-j MARK {}".format),
        st.sampled_from(
            ["--save-mark", "--restore-mark --nfmask 0xff --ctmask 0xf", "--set-mark 5/0xf --left-shift-mark 2"]
        ).map("-j CONNMARK {}".format),
        st.just("-j LOG --log-prefix x"),
    ]
    if table == "filter" and chain in ("INPUT", "FORWARD", "OUTPUT"):
        choices.append(st.just("-j REJECT"))
    if table == "mangle":
        hop, hops = ("TTL", "ttl") if family == 4 else ("HL", "hl")
        choices.append(
            st.sampled_from([f"-j {hop} --{hops}-set 9", f"-j {hop} --{hops}-dec 70", f"-j {hop} --{hops}-inc 200"])
        )
        choices.append(st.sampled_from(["-j TOS --set-tos 0x10/0x3f", "-j TOS --or-tos 4", "-j DSCP --set-dscp 46"]))
    if table == "raw":
        choices.append(st.just("-j NOTRACK"))
    if table == "nat" and chain in ("PREROUTING", "OUTPUT"):
        choices.append(st.sampled_from(["-j REDIRECT", f"-j DNAT --to-destination {ADDRESSES[family][0]}"]))
    if table == "nat" and chain == "POSTROUTING":
        choices.append(st.sampled_from(["-j MASQUERADE", "-j MASQUERADE --random-fully"]))
    return st.one_of(*choices)


USER_CHAINS = ("U0", "U1", "U2")
BASE_CHAINS = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
}


@cache
def condition(family: int, table: str, chain: str, host: bool) -> st.SearchStrategy[str]:
    """One thing that a rule asks. host: also of sets and routes, which a host must have."""
    names = st.sampled_from(["eth0", "veth+", "eth+", "cni0", "none", "veth2"])
    protocols = by_protocol(family)
    asked: list[st.SearchStrategy[str]] = [
        st.builds("{}-s {}".format, INVERT, address(family)),
        st.builds("{}-d {}".format, INVERT, address(family)),
        st.builds("{}-p {}".format, INVERT, st.sampled_from(sorted(protocols))),
        *(own.map(f"-p {protocol} {{}}".format) for protocol, own in protocols.items()),
        anywhere(family),
        anywhere(family),
    ]
    if chain not in ("OUTPUT", "POSTROUTING", *USER_CHAINS):
        asked.append(st.builds("{}-i {}".format, INVERT, names))
    if chain not in ("PREROUTING", "INPUT", *USER_CHAINS):
        asked.append(st.builds("{}-o {}".format, INVERT, names))
    if family == 4:
        asked.append(st.sampled_from(["-f", "! -f"]))
    if host:
        asked += [of_sets(family), of_sets(family), of_routes()]
    return st.one_of(asked)


@st.composite
def rule(draw: st.DrawFn, family: int, table: str, chain: str, chains: tuple[str, ...], host: bool = False) -> str:
    """One rule as someone may type it, with few conditions, so that some packets pass. chains: where it may go."""
    parts: list[str] = []
    for _ in range(draw(st.integers(0, 2))):
        part = draw(condition(family, table, chain, host))
        # Each of these may stand once.
        if not any(f" {option} " in f" {' '.join(parts)} " and f" {option} " in f" {part} " for option in ONCE):
            parts.append(part)
    if chains and draw(st.integers(0, 2)) == 0:
        parts.append(f"{draw(st.sampled_from(['-j', '-g']))} {draw(st.sampled_from(chains))}")
    elif host and draw(st.integers(0, 3)) == 0:
        parts.append(draw(into_sets(family)))
    else:
        parts.append(draw(target(family, table, chain)))
    return " ".join(filter(None, parts))


ONCE = ("-s", "-d", "-p", "-i", "-o", "-f")


@st.composite
def ruleset(draw: st.DrawFn, family: int, table: str, base: tuple[str, ...], rules: int = 5, host: bool = False) -> str:
    """What iptables-restore takes: a table with some of its chains and some others, up to so many rules in each."""
    policy = st.sampled_from(["ACCEPT", "DROP"]) if table != "nat" else st.just("ACCEPT")
    lines = [f"*{table}", *(f":{chain} {draw(policy)} [0:0]" for chain in base)]
    lines += [f":{chain} - [0:0]" for chain in USER_CHAINS]
    for chain in (*base, *USER_CHAINS):
        # A user chain goes only to those behind it, so that there is no loop.
        ahead = USER_CHAINS[USER_CHAINS.index(chain) + 1 :] if chain in USER_CHAINS else USER_CHAINS
        for text in draw(st.lists(rule(family, table, chain, ahead, host), max_size=rules)):
            lines.append(f"-A {chain} {text}")
    return "\n".join([*lines, "COMMIT", ""])


# ---- packets
# -----------------------------------------------------------------------------------------------------------


@dataclass
class Probe:
    """A packet and where the rules meet it."""

    data: bytes
    table: str
    hook: str
    place: dict[str, object] = field(default_factory=dict)
    connection: Connection | None = None


TCP_OPTIONS = (
    b"",
    b"\x02\x04\x05\xb4",
    b"\x02\x04\x05\x78\x01\x03\x03\x07",
    b"\x01\x01\x08\x0a" + bytes(8),
    b"\x02\x00\x05\xb4",
    b"\x02\x04\x05",
)


@st.composite
def transport(draw: st.DrawFn, family: int) -> tuple[int, bytes]:
    """A protocol number, and bytes that are mostly but not always a good header of it."""
    icmp = 1 if family == 4 else 58
    protocol = draw(st.sampled_from([6, 6, 17, 132, icmp, icmp, 47]))
    sport, dport = draw(PORT), draw(PORT)
    head = sport.to_bytes(2, "big") + dport.to_bytes(2, "big")
    if protocol == 6:
        options = draw(st.sampled_from(TCP_OPTIONS))
        options += bytes(-len(options) % 4)
        size = draw(st.sampled_from([20 + len(options)] * 6 + [16, 24, 60]))
        flags = draw(st.integers(0, 255))
        body = head + bytes(8) + bytes([size // 4 << 4, flags]) + bytes(6) + options
    elif protocol == 17:
        body = head + bytes(4)
    elif protocol == 132:
        chunks = b"".join(
            bytes([kind, draw(st.sampled_from([0, 1, 3])), 0, size]) + bytes(-size % 4 + max(size - 4, 0))
            for kind, size in draw(
                st.lists(st.tuples(st.sampled_from([0, 1, 3, 6]), st.sampled_from([4, 5, 8, 8, 8])), max_size=3)
            )
        )
        body = head + bytes(8) + chunks
    elif protocol == icmp:
        kind = draw(st.sampled_from([8, 0, 3, 11] if family == 4 else [128, 129, 1, 3]))
        body = bytes([kind, draw(st.sampled_from([0, 1, 3, 4]))]) + bytes(6)
    else:
        body = bytes(8)
    if draw(st.integers(0, 5)) == 0:
        body = body[: draw(st.integers(0, len(body)))]
    return protocol, body


@st.composite
def packet(draw: st.DrawFn, family: int) -> bytes:
    protocol, body = draw(transport(family))
    source, destination = (ipaddress.ip_address(draw(st.sampled_from(ADDRESSES[family]))).packed for _ in range(2))
    tos, ttl = draw(st.sampled_from([0, 0x10, 0xB8, 3])), draw(st.sampled_from([1, 63, 64, 255]))
    offset = draw(st.sampled_from([0, 0, 0, 0, 0, 0, 1, 2, 100]))
    if family == 4:
        options = draw(st.sampled_from([b"", b"", b"\x01\x01\x01\x01"]))
        length = 20 + len(options) + len(body)
        head = (
            bytes([0x45 + len(options) // 4, tos]) + length.to_bytes(2, "big") + b"\x12\x34" + offset.to_bytes(2, "big")
        )
        return (
            head
            + bytes([ttl, protocol])
            + draw(st.sampled_from([b"\0\0", b"\xff\xff", b"\x12\x34"]))
            + (source + destination + options + body)
        )
    extra = draw(st.sampled_from([b"", b"", b"hop", b"fragment"]))
    if extra == b"hop":
        body, protocol = bytes([protocol, 0]) + bytes(6) + body, 0
    elif extra == b"fragment":
        body, protocol = bytes([protocol, 0]) + (offset << 3).to_bytes(2, "big") + bytes(4) + body, 44
    first = (6 << 28 | tos << 20).to_bytes(4, "big")
    return first + len(body).to_bytes(2, "big") + bytes([protocol, ttl]) + source + destination + body


@st.composite
def connection(draw: st.DrawFn, family: int) -> Connection:
    known = st.sampled_from(ADDRESSES[family]).map(lambda text: int(ipaddress.ip_address(text)))
    protocol = draw(st.sampled_from([6, 17, 1]))
    tuples = [(draw(known), draw(known), draw(PORT), draw(PORT), protocol) for _ in range(2)]
    status = draw(st.sampled_from([0, 8, 8 | 2, 8 | 2 | 4, 16 | 8, 32 | 8, 48 | 1]))
    carried = [(draw(st.sampled_from([0, 1, 5, 100])), draw(st.sampled_from([0, 60, 5000]))) for _ in range(2)]
    return Connection(
        tuples,
        status,
        draw(st.sampled_from([0, 1, 0x4000, 0xFF])),
        draw(st.sampled_from([0, 5, 30, 120, 432000])) * 1_000_000_000,
        (carried[0][0], carried[1][0]),
        (carried[0][1], carried[1][1]),
    )


@st.composite
def probe(draw: st.DrawFn, family: int, table: str, hook: str) -> Probe:
    name = st.sampled_from(INTERFACES)
    ports = st.sampled_from(["", "", "veth1", "veth2"])
    tracked = draw(st.integers(0, 3)) > 0
    return Probe(
        draw(packet(family)),
        table,
        hook,
        {
            "iif": "" if hook == "OUTPUT" else draw(name),
            "oif": "" if hook in ("PREROUTING", "INPUT") else draw(name),
            "physin": draw(ports),
            "physout": draw(ports),
            "mark": draw(st.sampled_from([0, 1, 0x4000, 0x4001, 0xFFFFFFFF])),
            "ctinfo": draw(st.integers(0, 4)) if tracked else draw(st.sampled_from([0, 7])),
            "packet_type": draw(st.integers(0, 2)),
            "time": draw(st.integers(1, 40)) * 500_000_000,
        },
        draw(connection(family)) if tracked else None,
    )
