"""The node that a scenario sets up, feeds and looks at.

A scenario speaks to the node in three parts: set-up (`port`, `ip`, `sysctl`, `rules`, ...), the dump that the first
step takes by itself, and steps (`Peer.send`, `send`, `wait`). Everything happens at once, so a scenario can build its
next packet from what the kernel has just sent.
"""

import errno
import re
import socket
import struct
import time
from pathlib import Path

from scapy.packet import Packet

from judge import baseline, dump
from judge.drops import DropTrace
from judge.logged import LogListener
from judge.namespace import Fence, Namespace, Tool
from judge.ports import Port
from judge.recording import Frame, Recording, Step
from judge.talk import Frames, Peer

BUILTIN = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}
_RULE = re.compile(r"(?:-t\s+(?P<table>\w+)\s+)?(?P<verb>-[ANP])\s+(?P<chain>\S+)\s*(?P<rest>.*)")
_EPOCH = 1_800_000_000_000_000_000  # ns
_SETTLE = 0.04  # seconds; twice without a frame, and the multicast reports of new IPv6 addresses have left


def now_ns() -> int:
    """A clock that ticks with the kernel's jiffies: the monotonic one, moved by a whole number of them."""
    return _EPOCH + time.monotonic_ns()


class Node:
    """One namespace with ports that the scenario holds the other end of."""

    def __init__(self, name: str, folder: Path, family: int, fence: Fence, trace: DropTrace, backend: str = "") -> None:
        self.family = family
        self._backend = backend or dump.BACKEND
        self.recording = Recording(name, folder, traced=trace.available)
        self.look_at_every_step = True
        self._namespace = Namespace()
        self._fence = fence
        self._trace = trace
        self._ports: dict[str, Port] = {}
        self._macs: dict[str, str] = {}
        self._addresses: dict[str, str] = {}
        self._rules: dict[int, list[str]] = {4: [], 6: []}
        self._texts: list[tuple[int, str]] = []
        self._sets = False
        self._started = False
        self._sockets: list[socket.socket] = []
        self._joined = False
        self._log: LogListener | None = None
        self._before: dict[str, dict[str, int]] = {}
        self.ipv6 = family == 6
        self._baseline_done = False

    # ---- set-up -----------------------------------------------------------------------------------------------------

    def dual(self) -> None:
        """Both families; by default a node has IPv6 only when the scenario runs in IPv6. Before anything else."""
        self.ipv6 = True

    def _begin(self) -> None:
        if self._started:
            raise RuntimeError("set-up after the first step: the dump of the node has been taken")
        if not self._baseline_done:
            self._baseline_done = True
            for name, value in baseline.settings(self.ipv6):
                self._namespace.sysctl(name, value)
            self.ip("link set lo up")

    def port(
        self, name: str, *addresses: str, ethernet: bool = True, mtu: int = 1500, master: str = "", mac: str = ""
    ) -> None:
        """A port that is up, with the given addresses; its MAC address is 02:00:00:00:00:<number of the port>."""
        self._begin()
        with self._namespace:
            self._ports[name] = Port(name, ethernet)
        self.recording.ports.append(name)
        commands = [f"link set {name} mtu {mtu}"]
        if ethernet:
            self._macs[name] = mac or f"02:00:00:00:00:{len(self._ports):02x}"
            commands.append(f"link set {name} address {self._macs[name]}")
        if master:
            commands.append(f"link set {name} master {master}")
        commands.append(f"link set {name} up")
        self.ip("\n".join(commands))
        self.address_add(name, *addresses)

    def address_add(self, interface: str, *addresses: str) -> None:
        """Give an interface addresses; the first is what `address` returns."""
        if addresses:
            self.ip("\n".join(f"addr add {address} dev {interface}" for address in addresses))
            self._addresses.setdefault(interface, addresses[0].split("/")[0])

    def address(self, interface: str) -> str:
        """The node's first address at an interface."""
        return self._addresses[interface]

    def ip(self, commands: str) -> None:
        """Lines of `ip`, without the word ip; `-6` may stand before a line."""
        self._begin()
        batches: dict[bool, list[str]] = {}
        for line in map(str.strip, commands.strip().splitlines()):
            batches.setdefault(line.startswith("-6 "), []).append(line.removeprefix("-6 "))
        for six, lines in batches.items():
            family = ["-6"] if six else []
            for line in lines:
                if six and line.startswith("route") and " src " in line:
                    self._settled(line.split(" src ")[1].split()[0])
            self._namespace.run("ip", *family, "-batch", "-", text="".join(f"{line}\n" for line in lines if line))

    def _settled(self, source: str) -> None:
        """Wait until an IPv6 address may be the source of a route: its link must have a carrier, and say so."""
        route = ("blackhole", "3fff::/128", "src", source)
        for _ in range(100):
            try:
                self._namespace.run("ip", "-6", "route", "add", *route)
            except Tool:
                time.sleep(0.05)
            else:
                self._namespace.run("ip", "-6", "route", "delete", *route[:2])
                return

    @property
    def dash(self) -> str:
        """`-6 ` where the scenario runs in IPv6: put before a line of `ip` that serves both families."""
        return "-6 " if self.family == 6 else ""

    def bridge(self, commands: str) -> None:
        """Lines of `bridge`, without the word bridge."""
        self._begin()
        self._namespace.run(
            "bridge", "-batch", "-", text="\n".join(map(str.strip, commands.strip().splitlines())) + "\n"
        )

    def sysctl(self, settings: str) -> None:
        """Lines of `name = value`. A dot inside an interface name is written as `/`."""
        self._begin()
        for line in settings.strip().splitlines():
            name, _, value = line.partition("=")
            self._namespace.sysctl(name.strip(), value.strip())

    def ipset(self, commands: str) -> None:
        """Lines of `ipset restore`."""
        self._begin()
        self._sets = True
        self._namespace.run("ipset", "restore", text="\n".join(map(str.strip, commands.strip().splitlines())) + "\n")

    def rules(self, commands: str, family: int = 0) -> None:
        """Lines as one would give them to iptables: `[-t TABLE] -A CHAIN ...`, `-N CHAIN`, `-P CHAIN POLICY`.

        All of them are loaded at once, before the first step; a chain that is not built in is made by its first use.
        """
        self._begin()
        self._rules[family or self.family] += [line.strip() for line in commands.strip().splitlines() if line.strip()]

    def restore(self, text: str, family: int = 0) -> None:
        """A whole text of iptables-save, as it stands."""
        self._texts.append((family or self.family, text))

    def router(self, *, mtu: int = 1500, far_mtu: int = 1500) -> tuple[Peer, Peer]:
        """The node between two links: a client on eth0 and a server on eth1, neighbours known."""
        if self.family == 6:
            self.port("eth0", "fd00:1::1/64", mtu=mtu)
            self.port("eth1", "fd00:2::1/64", mtu=far_mtu)
            return self.peer("eth0", "fd00:1::2"), self.peer("eth1", "fd00:2::2")
        self.port("eth0", "10.0.1.1/24", mtu=mtu)
        self.port("eth1", "10.0.2.1/24", mtu=far_mtu)
        return self.peer("eth0", "10.0.1.2"), self.peer("eth1", "10.0.2.2")

    def bridge_device(self, name: str = "cni0", *addresses: str, options: str = "") -> None:
        """A bridge as a CNI plugin makes it: no STP, no snooping, a MAC address of its own, up. Ports come after."""
        self._macs[name] = "02:00:00:00:00:b0"
        lines = [
            f"link add {name} address {self._macs[name]} type bridge stp_state 0 mcast_snooping 0 {options}",
            f"link set {name} up",
        ]
        self.ip("\n".join(lines))
        self.address_add(name, *addresses)

    def peer(self, interface: str, address: str, *, neighbour: bool = True, at: str = "") -> Peer:
        """A far end behind a port. `at` is the device that holds the node's address, if not the port (a bridge).

        The node knows its MAC address (a permanent neighbour) unless `neighbour` is False.
        """
        number = list(self._ports).index(interface) + 1
        last = re.split(r"[.:]", address)[-1]
        mac = f"02:00:00:01:{number:02x}:{int(last, 16 if ':' in address else 10) & 0xFF:02x}"
        device = at or interface
        if neighbour:
            self.ip(f"neigh add {address} lladdr {mac} dev {device} nud permanent")
        return Peer(self, interface, mac, address, self._macs[device])

    def mac(self, interface: str) -> str:
        return self._macs[interface]

    def set_mac(self, interface: str, mac: str) -> None:
        """Tell the address of a device that the scenario made with `ip`."""
        self._macs[interface] = mac

    def listen(self, protocol: str, port: int) -> None:
        """A socket of the node that takes what comes and never answers, so that only delivery shows."""
        family = socket.AF_INET6 if self.ipv6 else socket.AF_INET  # an IPv6 socket takes IPv4 too
        kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
        with self._namespace:
            made = socket.socket(family, kind)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _silence(made)
        made.bind(("", port))
        if protocol == "tcp":
            made.listen(1)
        self._sockets.append(made)
        self.recording.listeners.append((protocol, port))

    def join(self, interface: str, *groups: str) -> None:
        """A socket of the node joins multicast groups at an interface."""
        self._begin()
        self._joined = True
        with self._namespace:
            index = socket.if_nametoindex(interface)
            made = socket.socket(socket.AF_INET6 if ":" in groups[0] else socket.AF_INET, socket.SOCK_DGRAM)
        self._sockets.append(made)
        for group in groups:
            if ":" in group:
                member = socket.inet_pton(socket.AF_INET6, group) + struct.pack("=I", index)
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
            else:
                member = socket.inet_aton(group) + bytes(4) + struct.pack("=I", index)
                made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)

    def listen_to_log(self, *groups: int) -> None:
        """Read what LOG and TRACE (group 0) and NFLOG to these groups write down, after every step."""
        self._begin()
        self._log = LogListener(self._namespace, (0, *groups))

    # ---- steps ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Load the rules, let the node fall silent and take its dump; the first step does it by itself."""
        if self._started:
            return
        self._begin()
        self._started = True
        if self.ipv6 or self._joined:
            quiet = 0
            while quiet < 2:
                time.sleep(_SETTLE)
                quiet = 0 if self._read() else quiet + 1
        for family, lines in self._rules.items():
            if lines:
                self._texts.append((family, _restore_text(lines)))
        for family, text in self._texts:
            self._namespace.run(dump.iptables_tool(family, "restore", self._backend), text=text)
        self._fence.wait()
        self._read()
        self._dump()
        self._before = self._interfaces()
        self._trace.read()

    def _dump(self) -> None:
        dump.take(self._namespace, self.recording.folder, self.ipv6, self._backend)

    def _interfaces(self) -> dict[str, dict[str, int]]:
        return dump.interfaces(self._namespace)

    def begin(self) -> None:
        """Begin here: what has happened is forgotten, and the dump taken anew, with connections and counters as they are."""
        self._fence.wait()
        self.recording.steps.clear()
        self._dump()
        self._before = self._interfaces()
        self._trace.read()

    def receive(self, interface: str, frame: bytes | Packet) -> Frames:
        """Let one frame arrive at a port; what comes out of all ports by then."""
        self.start()
        port = self._ports[interface]
        step = Step("receive", 0, interface, bytes(frame), port.ethernet)
        return self._take(step, lambda: port.write(step.data))

    def send(self, packet: Packet | bytes) -> Frames:
        """Send an IP packet of the node's own making (a raw socket with the header included)."""
        self.start()
        data = bytes(packet)
        step = Step("send", 0, "", data)
        version6 = data[0] >> 4 == 6
        with self._namespace:
            if version6:
                raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
                target: tuple[object, ...] = (socket.inet_ntop(socket.AF_INET6, data[24:40]), 0, 0, 0)
            else:
                raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
                raw.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                target = (socket.inet_ntop(socket.AF_INET, data[16:20]), 0)

        def give() -> None:
            try:
                raw.sendto(data, target)
            except OSError as error:
                step.refused = errno.errorcode[error.errno or 0]

        with raw:
            return self._take(step, give)

    def wait(self, seconds: float) -> Frames:
        """Let real time pass; what timers send in it."""
        self.start()
        step = Step("wait", 0)
        until = time.monotonic() + seconds
        with self._trace:
            while (left := until - time.monotonic()) > 0:
                time.sleep(left)
            self._fence.wait()
        step.time_ns = now_ns()
        step.out = self._read()
        return self._finish(step)

    def change(self, text: str, family: int = 0) -> None:
        """A step: what iptables-restore --noflush takes, as kube-proxy feeds it."""
        self.start()
        step = Step("change", 0, str(family or self.family), text.encode())
        tool = dump.iptables_tool(family or self.family, "restore", self._backend)
        step.late = self._read()
        step.time_ns = now_ns()
        self._namespace.run(tool, "--noflush", "--counters", text=text)
        step.out = self._read()
        self._finish(step)

    def unplug(self, name: str) -> None:
        """A step: a port is deleted, as the end of a veth pair is when the other end's namespace goes."""
        self.start()
        step = Step("unplug", 0, name)
        step.late = self._read()
        step.time_ns = now_ns()
        self._ports.pop(name).close()
        self._fence.wait()
        step.out = self._read()
        self._finish(step)

    def forget(self, *words: str) -> None:
        """A step: `conntrack -D` with these words."""
        self.start()
        step = Step("forget", 0, data=" ".join(words).encode())
        step.late = self._read()
        step.time_ns = now_ns()
        self._namespace.run("conntrack", "-D", *words)
        step.out = self._read()
        self._finish(step)

    def chose(self, kind: str, *values: int) -> None:
        """Write down what the kernel chose at random, for what `choices.py` cannot find by itself."""
        self.recording.choices.setdefault(kind, []).extend(values)

    def finish(self) -> Recording:
        after = self._interfaces()
        self.recording.interfaces = {
            name: {what: count - self._before.get(name, {}).get(what, 0) for what, count in counts.items()}
            for name, counts in after.items()
        }
        return self.recording

    def close(self) -> None:
        for port in self._ports.values():
            port.close()
        for made in self._sockets:
            made.close()
        if self._log is not None:
            self._log.close()
        self._namespace.close()

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _read(self) -> list[Frame]:
        return [Frame(name, data, port.ethernet) for name, port in self._ports.items() for data in port.read()]

    def _take(self, step: Step, give: object) -> Frames:
        step.late = self._read()
        step.time_ns = now_ns()
        with self._trace:
            give()  # type: ignore[operator]
            self._fence.wait()
        step.out = self._read()
        return self._finish(step)

    def _finish(self, step: Step) -> Frames:
        step.drops = self._trace.read()
        if self._log is not None:
            step.logged = self._log.read()
        if self.look_at_every_step:
            self.look(step)
        self.recording.steps.append(step)
        return Frames(step.late + step.out)

    def look(self, step: Step | None = None) -> None:
        """Read rule counters and connections into a step (the last one)."""
        step = step or self.recording.steps[-1]
        step.rules = {4: dump.rules(self._namespace, 4, self._backend)}
        if self.ipv6:
            step.rules[6] = dump.rules(self._namespace, 6, self._backend)
        step.connections = dump.connections(self._namespace)
        if self._sets:
            step.sets = self._namespace.run("ipset", "save")
        step.looked_ns = now_ns()


def _silence(made: socket.socket) -> None:
    """A filter that takes nothing in: a listening TCP socket stays silent, a UDP socket never fills up."""
    program = struct.pack("HBBI", 0x06, 0, 0, 0)  # ret 0
    import ctypes

    buffer = ctypes.create_string_buffer(program)
    made.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HxxxxxxQ", 1, ctypes.addressof(buffer)))


def _restore_text(lines: list[str]) -> str:
    tables: dict[str, dict[str, str]] = {}
    bodies: dict[str, list[str]] = {}
    for line in lines:
        match = _RULE.fullmatch(line)
        if match is None:
            raise Tool(f"not a rule: {line}")
        table, chain, rest = match["table"] or "filter", match["chain"], match["rest"]
        chains = tables.setdefault(table, dict.fromkeys(BUILTIN[table], "ACCEPT"))
        body = bodies.setdefault(table, [])
        if match["verb"] == "-P":
            chains[chain] = rest
            continue
        chains.setdefault(chain, "-")
        if match["verb"] == "-A":
            body.append(f"-A {chain} {rest}")
    text = []
    for table, chains in tables.items():
        text.append(f"*{table}")
        text += [f":{chain} {policy} [0:0]" for chain, policy in chains.items()]
        text += [*bodies[table], "COMMIT"]
    return "\n".join(text) + "\n"
