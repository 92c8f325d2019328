"""Making a host real: the commands that create a configuration in an empty network namespace.

The namespace is as `ip netns add` makes it: `lo` alone, down. What the kernel makes of links and addresses by itself is
not asked for again; what of that the configuration does not have is deleted. Not created, since it is state and
not configuration: connections, learnt or failing neighbours, timers and counters of devices.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from dataplane.errors import ModelError
from dataplane.host import ipset, ipvs
from dataplane.host.config import TABLE_MAIN, Address, FdbEntry, HostConfig, NextHop, PolicyRule, Route
from dataplane.host.implied import STANDARD_RULES, kernel_fdb, kernel_routes
from dataplane.host.link_commands import leads_away, link_lines, up_lines, word
from dataplane.host.notation import address_text, mac_text, network_text
from dataplane.host.protocols import protocol_name
from dataplane.host.routes import table_text
from dataplane.host.sysctl import settable

__all__ = ["Command", "commands", "script"]


@dataclass(frozen=True, slots=True)
class Command:
    """One program to run inside the namespace: its arguments, and what it reads from standard input."""

    argv: tuple[str, ...]
    input: str = ""

    def __str__(self) -> str:
        """The command as a shell reads it; the input as a here-document."""
        line = shlex.join(self.argv)
        if not self.input:
            return line + "\n"
        end = "END_OF_INPUT"
        while end in self.input:
            end += "_"
        return f"{line} <<'{end}'\n{self.input}{end}\n"


def commands(
    config: HostConfig, far: str = "", far_names: Mapping[str, str] | None = None, iptables: str = ""
) -> list[Command]:
    """The commands, in order, that create this host in an empty network namespace; each must succeed.

    They run inside the namespace (`ip netns exec NAME ...`). The other end of a veth that leads elsewhere, and the
    other end of a veth that stands for a physical device, is put into the existing namespace `far`, under the name
    that `far_names` gives for the interface, else the interface's own; it is brought up where the interface has
    carrier. iptables: the program whose -restore takes the rules, if not that of the rules' own back end
    ("iptables-legacy", "iptables-nft"); for IPv6 the same name with ip6tables. ModelError for what cannot be created so: a link of a kind
    that is not modelled, a proxy neighbour without a device (which a kernel does not delete with its namespace).
    """
    result = [
        Command(("sysctl", "-q", "-e", "-p", "-"), _early_settings(config)),
        Command(("ip", "-batch", "-"), _lines(link_lines(config.links, far, far_names or {}))),
        Command(
            ("ip", "-batch", "-"),
            _lines(
                [
                    *(_address_line(address) for address in config.addresses if address.family == 4),
                    *up_lines(config.links),
                ]
            ),
        ),
    ]
    far_up = [
        f"link set dev {word((far_names or {}).get(link.name, link.name))} up"
        for link in config.links
        if leads_away(link, config.links) and link.carrier
    ]
    if far_up:
        result.append(Command(("ip", "-n", far, "-batch", "-"), _lines(far_up)))
    result.append(Command(("ip", "-batch", "-"), _lines(_address_lines(config))))
    result += [Command(("sh", "-c", _SETTLE, "sh", source)) for source in _sources6(config)]
    result.append(Command(("ip", "-batch", "-"), _lines(_routing_lines(config))))
    for option, family in (("-4", 4), ("-6", 6)):
        # Of a rule that names no address the tool cannot tell the family.
        result.append(Command(("ip", option, "-batch", "-"), _lines(_rule_lines(config.rules, family))))
    result.append(Command(("bridge", "-batch", "-"), _lines(_fdb_lines(config))))
    result.append(Command(("ipset", "restore"), ipset.text(config.ipsets)))
    if config.ipvs:
        times = config.ipvs_timeouts
        result.append(Command(("ipvsadm", "--restore"), ipvs.text(config.ipvs)))
        if times != ipvs.IpvsTimeouts():
            result.append(Command(("ipvsadm", "--set", *map(str, times))))
    for family, rules in ((4, config.iptables), (6, config.ip6tables)):
        if rules is not None:
            program = iptables or f"iptables-{rules.backend}"
            if family == 6:
                program = program.replace("iptables", "ip6tables", 1)
            result.append(Command((f"{program}-restore", "--counters"), rules.text(counters=True)))
    result.append(Command(("sysctl", "-q", "-e", "-p", "-"), _final_settings(config)))
    return [command for command in result if command.input or command.argv[0] == "sh" or "--set" in command.argv]


def script(config: HostConfig, far: str = "far", far_names: Mapping[str, str] | None = None) -> str:
    """The same as a shell script: `ip netns exec NAME sh FILE`."""
    head = (
        "#!/bin/sh\n"
        f"# Creates the host {config.name or 'of this dump'} in an empty network namespace:\n"
        f"#   ip netns add {shlex.quote(far)}; ip netns add NAME; ip netns exec NAME sh THIS_FILE\n"
        f"# The other ends of its cables are put into the namespace {far}.\n"
        "set -e\n"
    )
    return head + "".join(str(command) for command in commands(config, far, far_names))


# Until no duplicate of it was found and its link has a carrier, an IPv6 address is no source of a route.
_SETTLE = 'for i in $(seq 100); do ip -6 address show tentative to "$1" | grep -q . || exit 0; sleep 0.1; done'


def _sources6(config: HostConfig) -> list[str]:
    """The IPv6 sources that routes name."""
    return sorted({str(route.prefsrc) for route in config.routes if route.family == 6 and route.prefsrc is not None})


def _lines(lines: Iterable[str]) -> str:
    return "".join(line + "\n" for line in lines)


# Addresses


def _address_lines(config: HostConfig) -> Iterable[str]:
    """IPv6: last first, for the kernel lists the newest first. The two of `lo` it makes itself."""
    for address in reversed(config.addresses):
        if address.family == 6 and not address.address.ip.is_loopback:
            yield _address_line(address)
    for link in config.links:
        if link.up and not link.loopback and config.settings.addr_gen_mode(link.name) == 0:
            yield f"link set dev {word(link.name)} addrgenmode eui64"
    up = {link.name for link in config.links if link.loopback and link.up}
    for name in up:
        mine = {address.address for address in config.addresses if address.interface == name}
        for own in ("127.0.0.1/8", "::1/128"):
            if own not in map(str, mine) and not (":" in own and config.settings.disable_ipv6(name)):
                yield f"address del {own} dev {word(name)}"


def _address_line(address: Address) -> str:
    command = "add"
    if address.address.ip.is_loopback and str(address.address) == "127.0.0.1/8":
        command = "replace"  # the kernel adds it as soon as lo is up
    local = address.address
    words = [f"address {command}"]
    if address.peer is not None:
        words += [address_text(local.ip), "peer", f"{address_text(address.peer.ip)}/{address.peer.network.prefixlen}"]
    else:
        words.append(f"{address_text(local.ip)}/{local.network.prefixlen}")
    if address.broadcast is not None:
        words += ["broadcast", str(address.broadcast)]
    if address.family == 4:
        words += ["label", word(address.label or address.interface), "scope", word(address.scope)]
    if address.metric:
        words += ["metric", str(address.metric)]
    if address.valid_lifetime != 0xFFFFFFFF:
        words += ["valid_lft", str(address.valid_lifetime), "preferred_lft", str(address.preferred_lifetime)]
    elif address.preferred_lifetime != 0xFFFFFFFF:
        words += ["preferred_lft", str(address.preferred_lifetime)]
    words += [flag for flag in ("nodad", "home", "mngtmpaddr", "noprefixroute", "autojoin") if flag in address.flags]
    return " ".join([*words, "dev", word(address.interface)])


# Routes, rules, neighbours


def _routing_lines(config: HostConfig) -> Iterable[str]:
    own = {_plain(route) for route in kernel_routes(config.links, config.addresses, config.settings)}
    wanted = [_plain(route) for route in config.routes]
    for route in own - set(wanted):
        yield f"route del {_route_words(route)}"
    # A gateway must be reachable by a narrower route when its own is added.
    for route in sorted((route for route in wanted if route not in own), key=_needs):
        yield f"route append {_route_words(route)}" if route.family == 4 else f"route add {_route_words(route)}"
    for neighbour in config.neighbours:
        device = f" dev {word(neighbour.interface)}" if neighbour.interface else ""
        flags = " router" if neighbour.router else ""
        if neighbour.proxy and not neighbour.interface:
            raise ModelError(f"the proxy entry {neighbour.address} without a device would outlive its namespace")
        if neighbour.proxy:
            yield f"neighbour add proxy {address_text(neighbour.address)}{device}{flags}"
        elif neighbour.mac is not None and neighbour.state and not neighbour.managed:
            flags += " extern_learn" if neighbour.extern_learn else ""
            state = neighbour.state[0].lower()
            where = f"{address_text(neighbour.address)} lladdr {mac_text(neighbour.mac)}{device}"
            yield f"neighbour replace {where} nud {state}{flags}"


def _plain(route: Route) -> Route:
    """Without what is state: carrier, and without the object of a next hop, which a dump does not hold."""
    hops = tuple(replace(hop, linkdown=False, dead=False) for hop in route.nexthops)
    return replace(route, nexthops=hops, nexthop_id=0, flags=(), raw=None)


def _needs(route: Route) -> tuple[bool, bool]:
    gateway = any(hop.gateway is not None for hop in route.nexthops)
    return gateway or (route.prefsrc is not None and route.type != "local"), gateway


def _route_words(route: Route) -> str:
    words = [f"{route.type} {network_text(route.destination) if route.destination.prefixlen else _any(route)}"]
    if route.source is not None:
        words.append(f"from {route.source}")
    if route.tos:
        words.append(f"tos {route.tos:#x}")
    if len(route.nexthops) == 1:
        words += _hop_words(route.nexthops[0], route.family, single=True)
    if route.table != TABLE_MAIN:
        words.append(f"table {table_text(route.table)}")
    words.append(f"proto {word(route.protocol)}")
    if route.family == 4:
        words.append(f"scope {word(route.scope)}")
    if route.prefsrc is not None:
        words.append(f"src {address_text(route.prefsrc)}")
    if route.priority:
        words.append(f"metric {route.priority}")
    if route.mtu:
        words.append(f"mtu {route.mtu}")
    if route.advmss:
        words.append(f"advmss {route.advmss}")
    if route.hop_limit:
        words.append(f"hoplimit {route.hop_limit}")
    if route.family == 6 and route.preference != "medium":
        words.append(f"pref {word(route.preference)}")
    if len(route.nexthops) > 1:
        for hop in route.nexthops:
            words += ["nexthop", *_hop_words(hop, route.family, single=False)]
    return " ".join(words)


def _any(route: Route) -> str:
    return "0.0.0.0/0" if route.family == 4 else "::/0"


def _hop_words(hop: NextHop, family: int, single: bool) -> Iterable[str]:
    if hop.gateway is not None:
        other = "inet6 " if hop.gateway.version == 6 and family == 4 else ""
        yield f"via {other}{address_text(hop.gateway)}"
    if hop.device is not None:
        yield f"dev {word(hop.device)}"
    if not single:
        yield f"weight {hop.weight}"
    if hop.onlink:
        yield "onlink"


def _rule_lines(rules: Sequence[PolicyRule], family: int) -> Iterable[str]:
    """A family of which nothing is said keeps the rules that it has in a new namespace."""
    plain = [replace(rule, raw=None) for rule in rules if rule.family == family]
    standard = [PolicyRule(priority, family, table) for priority, table in STANDARD_RULES[family]]
    for rule in plain:
        if rule not in standard:
            yield f"rule add {_rule_words(rule)}"
    for rule in standard:
        if plain and rule not in plain:
            yield f"rule del {_rule_words(rule)}"


def _rule_words(rule: PolicyRule) -> str:
    words = ["not"] if rule.invert else []
    words.append(f"from {rule.source or 'all'}")
    if rule.destination is not None:
        words.append(f"to {rule.destination}")
    if rule.tos:
        words.append(f"tos {rule.tos:#x}")
    if rule.fwmark is not None:
        words.append(f"fwmark {rule.fwmark:#x}/{rule.fwmask:#x}")
    if rule.iif is not None:
        words.append(f"iif {word(rule.iif)}")
    if rule.oif is not None:
        words.append(f"oif {word(rule.oif)}")
    if rule.uid_range is not None:
        words.append("uidrange {}-{}".format(*rule.uid_range))
    if rule.ip_protocol:
        words.append(f"ipproto {protocol_name(rule.ip_protocol)}")
    for name, span in (("sport", rule.source_ports), ("dport", rule.destination_ports)):
        if span is not None:
            words.append(f"{name} {span[0]}" + (f"-{span[1]}" if span[1] != span[0] else ""))
    if rule.tunnel_id:
        words.append(f"tun_id {rule.tunnel_id}")
    words.append(f"priority {rule.priority}")
    if rule.protocol != "kernel":
        words.append(f"protocol {word(rule.protocol)}")
    if rule.suppress_prefix_length is not None:
        words.append(f"suppress_prefixlength {rule.suppress_prefix_length}")
    if rule.suppress_group is not None:
        words.append(f"suppress_ifgroup {word(rule.suppress_group)}")
    if rule.l3mdev:
        words.append("l3mdev")
    elif rule.action == "lookup":
        words.append(f"lookup {table_text(rule.table)}")
    elif rule.action == "goto":
        words.append(f"goto {rule.goto}")
    else:
        words.append(rule.action)
    return " ".join(words)


# Forwarding entries


def _fdb_lines(config: HostConfig) -> Iterable[str]:
    for entry in config.fdb:
        if not kernel_fdb(entry, config.links) and entry.nexthop_id is None and "offload" not in entry.flags:
            yield _fdb_line(entry)


def _fdb_line(entry: FdbEntry) -> str:
    words = [f"fdb append {mac_text(entry.mac)} dev {word(entry.interface)}"]
    if entry.dst is None:
        words = [f"fdb replace {mac_text(entry.mac)} dev {word(entry.interface)}"]
        if entry.self_:
            words = [f"fdb add {mac_text(entry.mac)} dev {word(entry.interface)}"]
    if entry.dst is not None:
        words.append(f"dst {address_text(entry.dst)}")
    if entry.port is not None:
        words.append(f"port {entry.port}")
    if entry.vni is not None:
        words.append(f"vni {entry.vni}")
    if entry.source_vni is not None:
        words.append(f"src_vni {entry.source_vni}")
    if entry.via is not None:
        words.append(f"via {word(entry.via)}")
    if entry.vlan is not None:
        words.append(f"vlan {entry.vlan}")
    # An address of a bridge itself is listed with the bridge as its own master.
    words.append("self" if entry.self_ or entry.master == entry.interface else "master")
    words.append({"permanent": "permanent", "static": "static"}.get(entry.state, "dynamic"))
    words += [flag for flag in ("router", "extern_learn", "sticky") if flag in entry.flags]
    return " ".join(words)


# Settings


def _early_settings(config: HostConfig) -> str:
    """What new interfaces take over, before there are any."""
    early = [name for name in settable(config.settings) if ".conf.all." in name or ".conf.default." in name]
    lines = [f"{name} = {config.sysctl[name]}" for name in early]
    # Duplicate address detection would leave addresses tentative for a second or two.
    return _lines([*lines, "net.ipv6.conf.default.accept_dad = 0", "net.ipv6.conf.all.accept_dad = 0"])


def _final_settings(config: HostConfig) -> str:
    values = {
        "net.ipv6.conf.all.accept_dad": "0",
        "net.ipv6.conf.default.accept_dad": "1",
        **{
            f"net.ipv6.conf.{link.name.replace('.', '/')}.accept_dad": str(
                config.settings.own(6, "accept_dad", link.name)
            )
            for link in config.links
            if not link.loopback
        },
        **{name: config.sysctl[name] for name in settable(config.settings)},
    }
    # As it was left by _address_lines: writing it anew would make the kernel add an address.
    return _lines(f"{name} = {value}" for name, value in values.items() if not name.endswith(".addr_gen_mode"))
