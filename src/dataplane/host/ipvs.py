"""IPVS: virtual services and their real servers, as `ipvsadm --save --numeric` writes them.

The order of a service's servers is the order in which they were added, which is what `ipvsadm --restore` makes of the
text again. It matters: a scheduler walks the kernel's list, and there the server that was added last is the first. The
real `--save` sorts them by address; whoever needs the true order takes it from /proc/net/ip_vs, newest first.

`--save` forgets thresholds (`-x`, `-y`), which `--restore` takes; here they are written where they are set. Timeouts,
which `--save` does not write either, are a text of their own: `ipvsadm -L --timeout`.

Source: ipvsadm 1.31; include/uapi/linux/ip_vs.h.
"""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

from dataplane.errors import DumpError
from dataplane.host.notation import address_text
from dataplane.host.notes import Notes

__all__ = [
    "SCHEDULERS",
    "IpvsTimeouts",
    "RealServer",
    "VirtualService",
    "commands",
    "parse",
    "parse_timeouts",
    "text",
    "timeouts_text",
]

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
SCHEDULERS = ("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "dh", "sed", "nq", "mh", "fo", "ovf", "twos")
PROTOCOLS = {"tcp": "-t", "udp": "-u", "sctp": "--sctp-service"}
FORWARDS = {"masq": "-m", "route": "-g", "tunnel": "-i"}
PERSISTENT = 360  # seconds, where `-p` names none
# Bits of `-b`: what they are called of any scheduler, and of those that have words of their own.
_FLAGS = {"flag-1": 1, "flag-2": 2, "flag-3": 4}
_OWN_FLAGS = {
    "sh": {"sh-fallback": 1, "sh-port": 2},
    "mh": {"mh-fallback": 1, "mh-port": 2},
}
_SHORT = {
    "--add-service": "-A",
    "--add-server": "-a",
    "--tcp-service": "-t",
    "--udp-service": "-u",
    "--fwmark-service": "-f",
    "--scheduler": "-s",
    "--sched-flags": "-b",
    "--persistent": "-p",
    "--netmask": "-M",
    "--ops": "-o",
    "--ipv6": "-6",
    "--real-server": "-r",
    "--masquerading": "-m",
    "--gatewaying": "-g",
    "--ipip": "-i",
    "--weight": "-w",
    "--u-threshold": "-x",
    "--l-threshold": "-y",
}


class IpvsTimeouts(NamedTuple):
    """What `ipvsadm --set` sets, in seconds."""

    tcp: int = 900
    tcp_fin: int = 120
    udp: int = 300


@dataclass(frozen=True, slots=True)
class RealServer:
    """One server behind a virtual service."""

    address: IPAddress
    port: int = 0
    forward: str = "masq"  # masq, route (direct routing; ipvsadm's own default), tunnel
    weight: int = 1
    upper: int = 0  # connections from which on it gets no new ones; 0: no limit
    lower: int = 0  # ... until it has fewer than these; 0: three quarters of `upper`
    tunnel: str = "ipip"  # ipip, gue, gre
    tunnel_port: int = 0  # of gue
    tunnel_checksum: str = "nocsum"  # of gue and gre: nocsum, csum, remcsum

    @classmethod
    def of(cls, endpoint: str, **more: Any) -> Self:
        """`RealServer.of("10.244.1.2:8080", weight=3)`. ValueError where it is no address."""
        address, port = endpoint_of(endpoint)
        return cls(address, port, **more)

    @property
    def endpoint(self) -> str:
        return endpoint_text(self.address, self.port)


@dataclass(frozen=True, slots=True)
class VirtualService:
    """One virtual service: a protocol, an address and a port; or, with protocol "", a firewall mark of a family.

    servers are in the order in which they were added.
    """

    protocol: str  # tcp, udp, sctp; "": fwmark
    address: IPAddress | None = None
    port: int = 0
    fwmark: int = 0
    family: int = 4
    scheduler: str = "wlc"
    flags: int = 0  # the scheduler's: 1 flag-1 (sh-fallback, mh-fallback), 2 flag-2 (sh-port, mh-port), 4 flag-3
    persistent: int = 0  # seconds; 0: not
    netmask: int | None = None  # prefix length by which clients are taken together; None: each alone
    one_packet: bool = False
    engine: str = ""  # persistence engine: sip
    servers: tuple[RealServer, ...] = field(default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "servers", tuple(self.servers))
        if self.address is not None:
            object.__setattr__(self, "family", self.address.version)
        if self.netmask == (32 if self.family == 4 else 128):
            object.__setattr__(self, "netmask", None)

    @classmethod
    def of(cls, protocol: str, endpoint: str, **more: Any) -> Self:
        """`VirtualService.of("tcp", "10.96.0.1:443", scheduler="rr")`. ValueError where it is no address."""
        address, port = endpoint_of(endpoint)
        return cls(protocol, address, port, **more)

    @property
    def key(self) -> tuple[str, IPAddress | None, int, int, int]:
        """What makes it another service."""
        return self.protocol, self.address, self.port, self.fwmark, self.family

    @property
    def name(self) -> str:
        """As `ipvsadm` is told of it: `-t 10.96.0.1:443`, `-f 7 -6`."""
        if self.address is None:
            return f"-f {self.fwmark}" + (" -6" if self.family == 6 else "")
        return f"{PROTOCOLS[self.protocol]} {endpoint_text(self.address, self.port)}"

    @property
    def flag_words(self) -> str:
        """`sh-fallback,sh-port`, or "" without flags."""
        words = {**{bit: word for word, bit in _FLAGS.items()}}
        words.update({bit: word for word, bit in _OWN_FLAGS.get(self.scheduler, {}).items()})
        return ",".join(word for bit, word in sorted(words.items()) if self.flags & bit)

    @property
    def netmask_text(self) -> str:
        """`255.255.255.0`, or a prefix length of IPv6; "" where each client is alone."""
        if self.netmask is None:
            return ""
        return str(ipaddress.ip_network((0, self.netmask)).netmask) if self.family == 4 else str(self.netmask)

    def with_(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return replace(self, **changes)


def endpoint_of(text: str) -> tuple[IPAddress, int]:
    """`10.0.0.1:80`, `[fd00::1]:80`, either without a port. ValueError where it is neither."""
    host, port = text, "0"
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise ValueError(f"{text!r} is not [address]:port")
        port = port[1:] or "0"
    elif ":" in text:
        host, _, port = text.partition(":")
    return ipaddress.ip_address(host), _number(port, 65535)


def endpoint_text(address: IPAddress, port: int) -> str:
    return f"{address}:{port}" if address.version == 4 else f"[{address_text(address)}]:{port}"


def _number(word: str, highest: int, lowest: int = 0) -> int:
    if not (word.isascii() and word.isdigit() and lowest <= int(word) <= highest):
        raise ValueError(f"{word!r} is not a number from {lowest} to {highest}")
    return int(word)


def parse(text: str, file: str = "ipvs.save", notes: Notes | None = None) -> tuple[VirtualService, ...]:
    """The services of an `ipvsadm --save --numeric`, in the order of the file.

    DumpError names the line and the option.
    """
    services: dict[object, VirtualService] = {}
    for where, line in _commands(text):
        _apply(services, _Options(line, file, where, ("-A", "-a")), notes)
    return tuple(services.values())


def changed(services: Iterable[VirtualService], text: str, file: str = "-") -> Iterator[tuple[VirtualService, ...]]:
    """What `ipvsadm --restore` makes of services, one command a line (-A -E -D -C -a -e -d): all services after each.

    DumpError names the line and the option.
    """
    found: dict[object, VirtualService] = {service.key: service for service in services}
    for where, line in _commands(text):
        _apply(found, _Options(line, file, where, ("-A", "-E", "-D", "-C", "-a", "-e", "-d")), None)
        yield tuple(found.values())


def _commands(text: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            yield f"line {number}", line


def _apply(services: dict[object, VirtualService], options: _Options, notes: Notes | None) -> None:
    """One command upon services."""
    verb = options.verb
    if verb == "-C":
        services.clear()
        return
    service = options.service()
    if verb == "-A":
        if service.key in services:
            raise options.error(service.name, "is there already")
        services[service.key] = options.described(service, notes)
        return
    if service.key not in services:
        raise options.error(service.name, "is no virtual service of the lines before")
    known = services[service.key]
    if verb == "-D":
        del services[service.key]
    elif verb == "-E":
        services[service.key] = options.described(service, notes).with_(servers=known.servers)
    else:
        services[service.key] = known.with_(servers=_served(known, options))


def _served(known: VirtualService, options: _Options) -> tuple[RealServer, ...]:
    """The servers of a service after -a, -e or -d."""
    server = options.server()
    at = [i for i, old in enumerate(known.servers) if (old.address, old.port) == (server.address, server.port)]
    if options.verb == "-a" and at:
        raise options.error("-r", f"{server.endpoint} is there already")
    if options.verb != "-a" and not at:
        raise options.error("-r", f"{server.endpoint} is no server of {known.name}")
    if options.verb == "-d":
        return (*known.servers[: at[0]], *known.servers[at[0] + 1 :])
    if server.forward != "tunnel" and server.address.version != known.family:
        raise options.error("-r", f"{server.endpoint} is of another family, which only a tunnel can be")
    if known.address is not None and server.forward != "masq" and server.port != known.port:
        # The kernel takes the service's port without a word (ip_vs_add_dest leaves it, the packet keeps it).
        raise options.error("-r", f"only masquerading changes the port, {known.port} to {server.port}")
    if options.verb == "-e":
        return (*known.servers[: at[0]], server, *known.servers[at[0] + 1 :])
    return (*known.servers, server)


class _Options:
    """The words of one line."""

    def __init__(self, line: str, file: str, where: str, verbs: tuple[str, ...]) -> None:
        self._file, self._where = file, where
        self._values: dict[str, str] = {}
        try:
            words = [_SHORT.get(word, word) for word in shlex.split(line)]
        except ValueError as error:
            raise self.error("", str(error)) from None
        self.verb = words.pop(0) if words else ""
        if self.verb not in verbs:
            raise self.error(self.verb, f"is none of {' '.join(verbs)}")
        alone = {"-m", "-g", "-i", "-o", "-6", "--tun-nocsum", "--tun-csum", "--tun-remcsum"}
        valued = {"-t", "-u", "-f", "--sctp-service", "-s", "-b", "-p", "-M", "--pe", "-r", "-w", "-x", "-y"}
        valued |= {"--tun-type", "--tun-port"}
        while words:
            word = words.pop(0)
            if word not in alone | valued:
                raise self.error(word, "is not an option that is known")
            if word in self._values:
                raise self.error(word, "is there twice")
            if word in alone:
                self._values[word] = ""
            elif words and not words[0].startswith("-"):
                self._values[word] = words.pop(0)
            elif word == "-p":
                self._values[word] = str(PERSISTENT)
            else:
                raise self.error(word, "has no value")

    def error(self, field: str, message: str) -> DumpError:
        return DumpError(self._file, self._where, field, message)

    def number(self, option: str, default: int, highest: int) -> int:
        if option not in self._values:
            return default
        try:
            return _number(self._values[option], highest)
        except ValueError as error:
            raise self.error(option, str(error)) from None

    def endpoint(self, option: str) -> tuple[IPAddress, int]:
        try:
            return endpoint_of(self._values[option])
        except ValueError as error:
            raise self.error(option, str(error)) from None

    def service(self) -> VirtualService:
        named = [option for option in ("-t", "-u", "--sctp-service", "-f") if option in self._values]
        if len(named) != 1:
            raise self.error("", "names no virtual service (-t, -u, --sctp-service, -f), or two")
        family = 6 if "-6" in self._values else 4
        if named[0] == "-f":
            mark = self.number("-f", 0, 0xFFFFFFFF)
            if not mark:
                raise self.error("-f", "a mark of 0 is no mark")
            return VirtualService("", fwmark=mark, family=family)
        address, port = self.endpoint(named[0])
        protocol = next(name for name, option in PROTOCOLS.items() if option == named[0])
        return VirtualService(protocol, address, port)

    def described(self, service: VirtualService, notes: Notes | None) -> VirtualService:
        scheduler = self._values.get("-s", "wlc")
        if scheduler not in SCHEDULERS:
            raise self.error("-s", f"{scheduler!r} is not a scheduler that is known: {', '.join(SCHEDULERS)}")
        flags = 0
        known = {**_FLAGS, **_OWN_FLAGS.get(scheduler, {})}
        for word in filter(None, self._values.get("-b", "").split(",")):
            if word not in known:
                raise self.error("-b", f"{word!r} is not a flag of {scheduler}: {', '.join(known)}")
            flags |= known[word]
        netmask: int | None = None
        if "-M" in self._values:
            word = self._values["-M"]
            try:
                four = service.family == 4
                netmask = ipaddress.ip_network(f"0.0.0.0/{word}").prefixlen if four else _number(word, 128, 1)
            except ValueError:
                raise self.error("-M", f"{word!r} is not a netmask") from None
        persistent = self.number("-p", 0, 31 * 24 * 3600)
        if not persistent and service.address is not None and not service.port:
            raise self.error("-p", "a service of port 0 has to be persistent")
        if "--pe" in self._values and notes is not None:
            notes.unmodelled(f"{self._file}: --pe", self._values["--pe"])
        return service.with_(
            scheduler=scheduler,
            flags=flags,
            persistent=persistent,
            netmask=netmask,
            one_packet="-o" in self._values,
            engine=self._values.get("--pe", ""),
        )

    def server(self) -> RealServer:
        if "-r" not in self._values:
            raise self.error("-r", "is missing")
        address, port = self.endpoint("-r")
        ways = [name for name, option in FORWARDS.items() if option in self._values]
        if len(ways) > 1:
            raise self.error("", f"{' and '.join(FORWARDS[way] for way in ways)} exclude each other")
        tunnel = self._values.get("--tun-type", "ipip")
        if tunnel not in ("ipip", "gue", "gre"):
            raise self.error("--tun-type", f"{tunnel!r} is not ipip, gue or gre")
        sums = [name for name in ("nocsum", "csum", "remcsum") if f"--tun-{name}" in self._values]
        return RealServer(
            address,
            port,
            forward=ways[0] if ways else "route",
            weight=self.number("-w", 1, 65535),
            upper=self.number("-x", 0, 0xFFFFFFFF),
            lower=self.number("-y", 0, 0xFFFFFFFF),
            tunnel=tunnel,
            tunnel_port=self.number("--tun-port", 0, 65535),
            tunnel_checksum=sums[0] if sums else "nocsum",
        )


def text(services: Iterable[VirtualService]) -> str:
    """What `ipvsadm --save --numeric` prints, in the order given; thresholds besides, where there are any."""
    return "".join(f"{line}\n" for service in services for line in _lines(service))


def commands(before: Iterable[VirtualService], after: Iterable[VirtualService]) -> str:
    """What to give to `ipvsadm --restore` to come from one to the other: what goes first, then what changes and comes."""
    old = {service.key: service for service in before}
    new = {service.key: service for service in after}
    lines = [f"-D {service.name}" for key, service in old.items() if key not in new]
    for key, service in new.items():
        known = old.get(key)
        head, *servers = _lines(service)
        if known is None:
            lines += [head, *servers]
            continue
        if known.with_(servers=()) != service.with_(servers=()):
            lines.append(f"-E{head[2:]}")
        had = {(server.address, server.port): server for server in known.servers}
        has = {(server.address, server.port) for server in service.servers}
        lines += [f"-d {service.name} -r {server.endpoint}" for end, server in had.items() if end not in has]
        for server, line in zip(service.servers, servers, strict=True):
            was = had.get((server.address, server.port))
            if was != server:
                lines.append(line if was is None else f"-e{line[2:]}")
    return "".join(f"{line}\n" for line in lines)


def _lines(service: VirtualService) -> Iterator[str]:
    words = [f"-A {service.name} -s {service.scheduler}"]
    if service.persistent:
        words.append(f"-p {service.persistent}")
        if service.netmask is not None:
            words.append(f"-M {service.netmask_text}")
    if service.engine:
        words.append(f"--pe {service.engine}")
    if service.one_packet:
        words.append("-o")
    if service.flags:
        words.append(f"-b {service.flag_words}")
    yield " ".join(words)
    for server in service.servers:
        words = [f"-a {service.name} -r {server.endpoint} {FORWARDS[server.forward]} -w {server.weight}"]
        if server.upper or server.lower:
            words.append(f"-x {server.upper} -y {server.lower}")
        if server.forward == "tunnel":
            words.append(f"--tun-type {server.tunnel}")
            if server.tunnel == "gue":
                words.append(f"--tun-port {server.tunnel_port}")
            if server.tunnel != "ipip":
                words.append(f"--tun-{server.tunnel_checksum}")
        yield " ".join(words)


_TIMEOUTS = "Timeout (tcp tcpfin udp): "


def parse_timeouts(text: str, file: str = "ipvs-timeout.txt") -> IpvsTimeouts:
    """What `ipvsadm -L --timeout` prints; the kernel's defaults for an empty text. DumpError where it is neither."""
    if not text.strip():
        return IpvsTimeouts()
    line = text.strip()
    words = line.removeprefix(_TIMEOUTS).split()
    if not line.startswith(_TIMEOUTS) or len(words) != 3:
        raise DumpError(file, "line 1", "", f"is not {_TIMEOUTS}and three numbers")
    try:
        return IpvsTimeouts(*(_number(word, 2**31 // 1000) for word in words))
    except ValueError as error:
        raise DumpError(file, "line 1", "", str(error)) from None


def timeouts_text(timeouts: IpvsTimeouts) -> str:
    return f"{_TIMEOUTS}{timeouts.tcp} {timeouts.tcp_fin} {timeouts.udp}\n"
