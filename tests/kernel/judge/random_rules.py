"""Random rules: few conditions each, from small pools, so that rules and packets meet."""

from __future__ import annotations

from random import Random

from judge.random_hosts import PORTS, VIPS, Drawn

BASE = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
}
USER = ("U0", "U1")
# A rule that drops is rare: packets must reach the rules behind it.
RARE = 0.12


def bang(random: Random) -> str:
    return random.choice(["", "", "", "! "])


class Rules:
    """The rules of one host and one family."""

    def __init__(self, random: Random, drawn: Drawn, family: int) -> None:
        self.random = random
        self.drawn = drawn
        self.family = family
        self.limits = 0

    def draw(self) -> list[str]:
        word = "iptables" if self.family == 4 else "ip6tables"
        found = []
        for table in ("raw", "mangle", "nat", "filter"):
            if self.random.random() < 0.3:
                continue
            for chain in BASE[table]:
                for _ in range(self.random.choice([0, 0, 1, 1, 2, 3])):
                    found.append(f"{word} -t {table} -A {chain} {self.rule(table, chain, USER)}")
            for place, chain in enumerate(USER):
                found.append(f"{word} -t {table} -N {chain}")
                for _ in range(self.random.choice([0, 1, 2])):
                    found.append(f"{word} -t {table} -A {chain} {self.rule(table, chain, USER[place + 1 :])}")
            if table == "filter":
                for chain in BASE[table]:
                    if self.random.random() < 0.05:
                        found.append(f"{word} -t {table} -P {chain} DROP")
        return found

    def rule(self, table: str, chain: str, ahead: tuple[str, ...]) -> str:
        parts: list[str] = []
        protocol = ""
        for _ in range(self.random.choice([0, 1, 1, 2, 2, 3])):
            part = self.condition(chain)
            told = part.removeprefix("! ").split()[0]
            if told == "-p":
                if protocol:
                    continue
                protocol = part.split()[1] if not part.startswith("!") else ""
            if any(f" {self._key(part)} " in f" {other} " for other in parts):
                continue
            parts.append(part)
        if ahead and self.random.random() < 0.25:
            parts.append(f"{self.random.choice(['-j', '-g'])} {self.random.choice(ahead)}")
        else:
            target, needs = self.target(table, chain)
            if needs:
                if any("-p " in part for part in parts):
                    parts = [part for part in parts if "-p " not in part]
                parts.insert(0, needs)
            if target.startswith("-d "):
                parts = [part for part in parts if not part.removeprefix("! ").startswith("-d ")]
            parts.append(target)
        return " ".join(filter(None, parts))

    @staticmethod
    def _key(part: str) -> str:
        words = part.removeprefix("! ").split()
        return f"-m {words[1]}" if words[0] == "-m" else words[0]

    def address(self) -> str:
        random, family = self.random, self.family
        pool = [*self.drawn.targets(family), *self.drawn.networks[family]]
        pool += ["10.0.0.0/8", "10.0.0.2/255.0.0.255"] if family == 4 else ["fd00::/16", "fd00::2/ffff::ffff"]
        return random.choice(pool)

    def ports(self) -> str:
        one, two = sorted(self.random.choices(PORTS, k=2))
        return self.random.choice([str(one), f"{one}:{two}"])

    def protocol(self) -> str:
        random = self.random
        icmp = ("icmp", "-m icmp --icmp-type", ("8", "0", "3", "3/4", "11")) if self.family == 4 else (
            "ipv6-icmp", "-m icmp6 --icmpv6-type", ("128", "129", "1", "2", "3"))  # fmt: skip
        name = random.choice(["tcp", "tcp", "udp", "udp", "sctp", icmp[0]])
        more = ""
        if name == icmp[0]:
            more = f"-m {icmp[1].split()[1]} {bang(random)}{icmp[1].split()[2]} {random.choice(icmp[2])}"
        else:
            side = random.choice(["sport", "dport", "dport"])
            more = f"-m {name} {bang(random)}--{side} {self.ports()}"
            if random.random() < 0.1:
                more = f"-m {name}"  # the nft back end asks the kernel's own match then
            elif random.random() < 0.1:
                more = f"-m {name} {bang(random)}--sport {self.ports()} {bang(random)}--dport {self.ports()}"
            elif random.random() < 0.25:
                several = ",".join(str(port) for port in random.sample(PORTS, k=3))
                more = f"-m multiport {bang(random)}--{random.choice(['sports', 'dports', 'ports'])} {several}"
            elif name == "tcp" and random.random() < 0.4:
                flags = random.choice(["SYN,RST,ACK,FIN SYN", "FIN FIN", "RST RST", "SYN,ACK SYN,ACK", "ALL NONE"])
                more = f"-m tcp {bang(random)}--tcp-flags {flags}"
            elif name == "sctp" and random.random() < 0.4:
                more = f"-m sctp {bang(random)}--chunk-types any INIT,DATA"
        return f"-p {name} {more if random.random() < 0.75 else ''}".strip()

    def condition(self, chain: str) -> str:
        random = self.random
        interface = random.choice([*self.drawn.interfaces, "eth+", "none", "lo"])
        choices = [
            f"{bang(random)}-s {self.address()}",
            f"{bang(random)}-d {self.address()}",
            self.protocol(),
            self.protocol(),
            f"{bang(random)}-p {random.choice(['tcp', 'udp'])}",
            self.anywhere(),
            self.anywhere(),
        ]
        if chain not in ("OUTPUT", "POSTROUTING", *USER):
            choices.append(f"{bang(random)}-i {interface}")
        if chain not in ("PREROUTING", "INPUT", *USER):
            choices.append(f"{bang(random)}-o {interface}")
        return random.choice(choices)

    def anywhere(self) -> str:
        random, family = self.random, self.family
        states = ",".join(random.sample(["INVALID", "NEW", "RELATED", "ESTABLISHED", "UNTRACKED", "SNAT", "DNAT"], k=2))
        hop = "ttl" if family == 4 else "hl"
        types = ["LOCAL", "UNICAST", "MULTICAST", "BROADCAST"] if family == 4 else ["LOCAL", "UNICAST", "UNREACHABLE"]
        mark = random.choice(["0x0", "0x1", "0x4000", "0x4000/0x4000", "0x1/0xff"])
        every = random.randint(1, 4)
        status = random.choice(["NONE", "SEEN_REPLY", "ASSURED", "CONFIRMED", "EXPECTED"])
        wide = random.choice(["0:60", "40", "100:", "1000:1500"])
        side = random.choice(["ctorigsrc", "ctorigdst", "ctreplsrc", "ctrepldst"])
        return random.choice(
            [
                f"-m conntrack {bang(random)}--ctstate {states}",
                f"-m conntrack {bang(random)}--ctstate {states}",
                f"-m conntrack {bang(random)}--ctstatus {status}",
                f"-m conntrack --ctdir {random.choice(['ORIGINAL', 'REPLY'])}",
                f"-m conntrack {bang(random)}--{side} {self.address().replace('/255.0.0.255', '').replace('/ffff::ffff', '')}",
                f"-m conntrack {bang(random)}--ctorigdstport {random.choice(PORTS)}",
                f"-m mark {bang(random)}--mark {mark}",
                f"-m connmark {bang(random)}--mark {mark}",
                f"-m addrtype {bang(random)}--{random.choice(['src', 'dst'])}-type {random.choice(types)}",
                f"-m statistic --mode nth {bang(random)}--every {every} --packet {random.randrange(every)}",
                f"-m length {bang(random)}--length {wide}",
                f"-m {hop} --{hop}-{random.choice(['eq 64', 'lt 64', 'gt 63', 'eq 1'])}",
                f"-m tos {bang(random)}--tos {random.choice(['0x10/0x3f', '0x00', '0/0x03'])}",
                f"-m dscp {bang(random)}--dscp {random.choice(['0', '4', '46'])}",
                f"-m pkttype {bang(random)}--pkt-type {random.choice(['unicast', 'broadcast', 'multicast'])}",
                f"-m physdev {bang(random)}--physdev-{random.choice(['is-in', 'is-bridged'])}",
                f"-m physdev {bang(random)}--physdev-in {random.choice(['veth0', 'veth1', 'veth+'])}",
                f"-m recent {bang(random)}--{random.choice(['set', 'remove'])} --name A --rsource",
                f"-m recent {bang(random)}--{random.choice(['rcheck', 'update'])} --seconds 100 --name A --rsource",
                f"-m recent {bang(random)}--rcheck --hitcount {random.choice([2, 5])} --name A --rsource",
                f"-m connbytes {bang(random)}--connbytes {random.choice(['2:', '1:3', '0:100'])} --connbytes-dir "
                f"{random.choice(['original', 'reply', 'both'])} --connbytes-mode {random.choice(['packets', 'bytes'])}",
                f"-m limit --limit 1/hour --limit-burst {random.choice([1, 3, 10])}",
                f"-m comment --comment c{random.randrange(9)}",
                f"-m rpfilter{random.choice(['', ' --loose', ' --invert', ' --validmark'])}"
                if random.random() < 0
                else f"-m mark --mark {mark}",
            ]
        )

    def far(self, bracket: bool = False) -> str:
        place = self.random.choice(self.drawn.places)
        address = self.random.choice(place.addresses[self.family])
        return f"[{address}]" if bracket and self.family == 6 else address

    def target(self, table: str, chain: str) -> tuple[str, str]:
        """A target, and the protocol that it needs."""
        random, family = self.random, self.family
        mark = random.choice(["0x0", "0x1", "0x4000/0x4000", "0x1/0xff"])
        plain: list[tuple[str, str]] = [
            ("", ""),
            ("-j RETURN", ""),
            ("-j ACCEPT", ""),
            (f"-j MARK --set-xmark {mark}", ""),
        ]
        if table == "nat":
            translated: list[tuple[str, str]] = []
            name = random.choice(["tcp", "udp", "sctp"])
            if chain in ("PREROUTING", "OUTPUT"):
                vip = random.choice(VIPS[family])
                translated = [
                    (f"-d {vip} -j DNAT --to-destination {self.far()}", "-p all"),
                    (f"--dport {random.choice(PORTS)} -j DNAT --to-destination {self.far(True)}:{random.choice(PORTS)}",
                     f"-p {name} -m {name}"),
                    (f"--dport {random.choice(PORTS)} -j REDIRECT --to-ports {random.choice(PORTS)}", f"-p {name} -m {name}"),
                    (f"-d {vip} -j DNAT --to-destination {self.far(True)}:8080", f"-p {name}"),
                ]  # fmt: skip
            elif chain == "POSTROUTING":
                own = random.choice(self.drawn.own[family])
                translated = [
                    ("-j MASQUERADE", ""),
                    ("-j MASQUERADE", ""),
                    (f"-j SNAT --to-source {own}", ""),
                ]
            elif chain == "INPUT":
                translated = [(f"-j SNAT --to-source {self.far()}", "")]
            if translated and random.random() < 0.7:
                return random.choice(translated)
            return random.choice(plain)
        if random.random() < RARE:
            refusals = [("-j DROP", "")]
            if table == "filter" and chain in BASE["filter"]:
                kinds = (
                    ["icmp-net-unreachable", "icmp-port-unreachable", "icmp-admin-prohibited", "icmp-proto-unreachable"]
                    if family == 4
                    else ["icmp6-no-route", "icmp6-adm-prohibited", "icmp6-port-unreachable", "icmp6-policy-fail"]
                )
                refusals += [(f"-j REJECT --reject-with {random.choice(kinds)}", ""), ("-j REJECT", "")]
                refusals.append(("-j REJECT --reject-with tcp-reset", "-p tcp"))
            return random.choice(refusals)
        plain.append(
            (
                random.choice(
                    ["-j CONNMARK --save-mark", "-j CONNMARK --restore-mark", "-j CONNMARK --set-mark 5/0xf"]
                ),
                "",
            )
        )
        if table == "mangle":
            hop, hops = ("TTL", "ttl") if family == 4 else ("HL", "hl")
            plain += [
                (f"-j {hop} --{hops}-{random.choice(['set 9', 'dec 1', 'inc 5', 'set 1', 'dec 70'])}", ""),
                (f"-j TOS --set-tos {random.choice(['0x10/0x3f', '0x04/0xff'])}", ""),
                (f"-j DSCP --set-dscp {random.choice([0, 46])}", ""),
            ]
            if chain in ("FORWARD", "POSTROUTING", "OUTPUT"):
                clamp = random.choice(["--clamp-mss-to-pmtu", "--set-mss 1200"])
                plain.append((f"--tcp-flags SYN,RST SYN -j TCPMSS {clamp}", "-p tcp -m tcp"))
        if table == "raw":
            plain.append((random.choice(["-j NOTRACK", "-j CT --notrack"]), ""))
        return random.choice(plain)


def rules(random: Random, drawn: Drawn) -> list[str]:
    return [line for family in (4, 6) for line in Rules(random, drawn, family).draw()]
