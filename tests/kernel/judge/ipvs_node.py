"""A node with IPVS, inside the kernel that has it: virtual services, and what can be seen of them."""

import json
import time
from pathlib import Path

from judge import dump, ipvs_state
from judge.drops import DropTrace
from judge.namespace import Fence
from judge.node import Node, now_ns
from judge.recording import Recording, Step
from judge.talk import Frames

_IPVS = "net.ipv4.vs."
_SETTINGS: dict[tuple[bool, str], dict[str, str]] = {}  # by IPv6 or not, and the links: of the first such namespace
_TICKS = 0.03  # seconds; the kernel's clock ticks every 0.01
_SUMMED = 2.5  # seconds after which the kernel has added up its statistics


class IpvsNode(Node):
    """What `Node` is, with virtual services. Tools are slow here: a step shows what /proc says, the end all the rest."""

    def __init__(self, name: str, folder: Path, family: int, fence: Fence, trace: DropTrace, backend: str = "") -> None:
        super().__init__(name, folder, family, fence, trace, backend or "legacy")
        self._waiting: list[str] = []
        self._has_sets = False
        self._has_thresholds = False
        self._timeouts = ""
        self._set: dict[str, str] = {}

    # ---- set-up: each tool takes a while here, so lines of `ip` are collected and given at once --------------------------

    def ip(self, commands: str) -> None:
        self._begin()
        self._waiting += commands.strip().splitlines()

    def _flush(self) -> None:
        lines, self._waiting = self._waiting, []
        if lines:
            super().ip("\n".join(lines))

    def sysctl(self, settings: str) -> None:
        self._begin()
        self._flush()
        for line in settings.strip().splitlines():
            name, _, value = line.partition("=")
            self._set[name.strip()] = value.strip()
        super().sysctl(settings)

    def ipset(self, commands: str) -> None:
        self._has_sets = True
        super().ipset(commands)

    def start(self) -> None:
        if not self._started:
            self._begin()
            self._flush()
        super().start()

    def ipvs(self, commands: str) -> None:
        """Lines of `ipvsadm`, without its name, of the kind that `ipvsadm --restore` takes."""
        self._begin()
        self._flush()
        self._has_thresholds = self._has_thresholds or " -x " in commands or " -y " in commands
        self._namespace.run("ipvsadm", "--restore", text=_lines(commands))

    def ipvs_timeouts(self, tcp: int, tcp_fin: int, udp: int) -> None:
        """`ipvsadm --set`, in seconds; 0 leaves a time as it is."""
        self._begin()
        self._flush()
        self._namespace.run("ipvsadm", "--set", str(tcp), str(tcp_fin), str(udp))
        self._timeouts = self._namespace.run("ipvsadm", "-L", "--timeout")

    # ---- steps ------------------------------------------------------------------------------------------------------

    def ipvs_change(self, commands: str) -> None:
        """A step: lines of `ipvsadm` while connections live."""
        self.start()
        step = Step("ipvs", 0, data=_lines(commands).encode())
        step.late = self._read()
        step.time_ns = now_ns()
        self._namespace.run("ipvsadm", "--restore", text=step.data.decode())
        step.out = self._read()
        self._finish(step)

    def sysctl_change(self, name: str, value: str | int) -> None:
        """A step: one setting is written."""
        self.start()
        step = Step("sysctl", 0, data=f"{name} = {value}".encode())
        step.late = self._read()
        step.time_ns = now_ns()
        self._namespace.sysctl(name, value)
        step.out = self._read()
        self._finish(step)

    # ---- what can be seen -------------------------------------------------------------------------------------------

    def _dump(self) -> None:
        self._has_rules = {family: any(f == family for f, _ in self._texts) for family in (4, 6)}
        files = dump.network(self._namespace, self.ipv6)
        files["sysctl.txt"] = self._settings(files["links.json"])
        if self._has_sets:
            files["ipset.save"] = self._namespace.run("ipset", "save")
        files |= self._saved()
        files |= ipvs_state.take(self._namespace, self._has_thresholds)
        if self._timeouts:
            files["ipvs-timeout.txt"] = self._timeouts
        self.recording.folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (self.recording.folder / name).write_text(text)

    def _settings(self, links: str) -> str:
        """sysctl.txt. Fifteen hundred files take a while here, and are the same in every namespace with such links."""
        alike = str([(link["ifname"], link["mtu"]) for link in json.loads(links)])
        own = {name: value for name, value in self._set.items() if name.startswith(_IPVS)}
        if len(own) < len(self._set):
            found = ipvs_state.sysctls(self._namespace)
        else:
            if (self.ipv6, alike) not in _SETTINGS:
                _SETTINGS[self.ipv6, alike] = ipvs_state.sysctls(self._namespace)
            found = dict(_SETTINGS[self.ipv6, alike])
            for name in found:
                if name.startswith(_IPVS):
                    found[name] = self._namespace.sysctl(name)
        return "".join(f"{name} = {value}\n" for name, value in sorted(found.items()))

    def _interfaces(self) -> dict[str, dict[str, int]]:
        return ipvs_state.interfaces(self._namespace)

    def _saved(self) -> dict[str, str]:
        names = {4: "iptables.save", 6: "ip6tables.save"}
        return {
            names[family]: dump.rules(self._namespace, family, self._backend)
            for family, any_rules in self._has_rules.items()
            if any_rules
        }

    def _finish(self, step: Step) -> Frames:
        """A connection that is given up goes with the next tick of the clock: let it, so that nobody looks in between."""
        time.sleep(_TICKS)
        return super()._finish(step)

    def look(self, step: Step | None = None) -> None:
        step = step or self.recording.steps[-1]
        step.connections = ipvs_state.netfilter_connections(self._namespace)
        step.ipvs = ipvs_state.glance(self._namespace)
        step.looked_ns = now_ns()

    def finish(self) -> Recording:
        """The last step: statistics are added up, and the tools are asked for everything."""
        self.wait(_SUMMED)
        step = self.recording.steps[-1]
        step.rules = {6 if "6" in name else 4: text for name, text in self._saved().items()}
        # The tools take a while; their last text and the connections tell times, so these are read together.
        step.ipvs |= ipvs_state.tools(self._namespace)
        step.connections = ipvs_state.netfilter_connections(self._namespace)
        step.looked_ns = now_ns()
        return super().finish()


def _lines(commands: str) -> str:
    return "".join(f"{line.strip()}\n" for line in commands.strip().splitlines())
