"""A recording for people; two of them next to each other, with what differs marked."""

import difflib
import shutil
from collections.abc import Iterable

from scapy.packet import Packet

from judge.compare import (
    Difference,
    balanced_connections,
    balanced_services,
    compare,
    connection_rows,
    drop_reasons,
    masked,
    rule_lines,
    set_members,
)
from judge.recording import Frame, Recording, Step, decode
from judge.scenario import Scenario


def kernel_only(asked: Scenario, recording: Recording) -> str:
    """What the kernel did, step by step: frames, drops, and what changed in counters and connections."""
    lines = [f"{asked.name}: {asked.shows}", f"dump: {recording.folder}"]
    before: Step | None = None
    for index, step in enumerate(recording.steps):
        lines.append("")
        lines.append(f"{index:3} {_event(step, recording.steps[0])}")
        lines += [f"      late {frame.interface}: {_line(frame)}" for frame in step.late]
        lines += [f"      out  {frame.interface}: {_line(frame)}" for frame in step.out]
        lines += [f"      drop {reason} in {place}" for reason, place in step.drops]
        if step.refused:
            lines.append(f"      refused: {step.refused}")
        lines += [f"      rule {line}" for line in _changed_rules(before, step)]
        lines += [f"      conn {line}" for line in _connection_lines(step)]
        lines += [f"      set {line}" for line in _set_lines(step)]
        lines += [f"      ipvs {line}" for line in _balancing_lines(before, step)]
        before = step
    lines.append("")
    lines += _interfaces(recording)
    if recording.choices:
        lines.append(f"chosen: {recording.choices}")
    return "\n".join(lines)


def both(asked: Scenario, kernel: Recording, emulator: Recording) -> str:
    """Kernel on the left, emulator on the right; `=` the same, `|` different, `<` `>` on one side only."""
    width = max(100, shutil.get_terminal_size((160, 50)).columns)
    half = (width - 8) // 2
    lines = [f"{asked.name}: {asked.shows}", f"dump: {kernel.folder}", f"{'kernel':<{half + 5}}emulator"]
    before: tuple[Step | None, Step | None] = (None, None)
    for index, (ours, theirs) in enumerate(zip(kernel.steps, emulator.steps, strict=True)):
        lines += ["", f"{index:3} {_event(ours, kernel.steps[0])}"]
        for word, a, b in (("late", ours.late, theirs.late), ("out", ours.out, theirs.out)):
            for interface in dict.fromkeys(frame.interface for frame in [*a, *b]):
                left = [frame for frame in a if frame.interface == interface]
                right = [frame for frame in b if frame.interface == interface]
                lines += _pairs(half, f"{word} {interface}: ", left, right, asked.masks)
        rows = [
            ("drop", _drop_lines(ours), _drop_lines(theirs)),
            ("rule", _changed_rules(before[0], ours), _changed_rules(before[1], theirs)),
            ("conn", _connection_lines(ours), _connection_lines(theirs)),
            ("set", _set_lines(ours), _set_lines(theirs)),
            ("ipvs", _balancing_lines(before[0], ours), _balancing_lines(before[1], theirs)),
        ]
        for word, a_lines, b_lines in rows:
            lines += _aligned(half, word, a_lines, b_lines)
        before = (ours, theirs)
    differences = compare(kernel, emulator, asked.masks)
    lines += ["", f"{len(differences)} differences"]
    lines += [str(difference) for difference in differences]
    return "\n".join(lines)


def _event(step: Step, first: Step) -> str:
    at = (step.time_ns - first.time_ns) / 1e9
    if step.kind == "wait":
        return f"[{at:9.3f} s] wait"
    if step.kind in ("change", "forget", "unplug", "ipvs", "sysctl"):
        return f"[{at:9.3f} s] {step.kind}: {step.interface}{step.data.decode()}"
    place = f"receive at {step.interface}" if step.kind == "receive" else "send"
    return f"[{at:9.3f} s] {place}: {_summary(step.packet)} [{len(step.data)}]"


def _summary(packet: Packet) -> str:
    """A line that tells headers apart: scapy's summary, then the fields that networks change."""
    told = []
    layer = packet
    names = {
        "Ethernet": ("src", "dst"),
        "IP": ("ttl", "id", "tos", "flags", "frag", "chksum"),
        "IPv6": ("hlim", "tc"),
        "TCP": ("seq", "ack", "window"),
    }
    while layer:
        fields = [
            f"{name}={_value(layer, name)}"
            for name in names.get(layer.name, ())
            if _value(layer, name) not in ("", "0")
        ]
        if fields:
            told.append(f"{layer.name}({' '.join(fields)})")
        layer = layer.payload
    return f"{packet.summary()}  {' '.join(told)}"


def _value(layer: Packet, name: str) -> str:
    value = layer.fields.get(name, "")
    return hex(value) if name in ("id", "chksum", "tos", "tc") and value else str(value)


def _line(frame: Frame) -> str:
    return f"{_summary(frame.packet)} [{len(frame.data)}]"


def _drop_lines(step: Step) -> list[str]:
    return [f"{reason} x{count}" for reason, count in sorted(drop_reasons(step).items())]


def _changed_rules(before: Step | None, step: Step) -> list[str]:
    found = []
    for family, text in step.rules.items():
        old = before.rules.get(family, "") if before else ""
        known = {(table, line) for table, lines in rule_lines(old).items() for line in lines}
        for table, lines in rule_lines(text).items():
            for line in lines:
                idle = line.startswith("[0:0]") or line.endswith("[0:0]")
                if (table, line) not in known and not idle:
                    found.append(f"{table}{' v6' if family == 6 else ''} {line}")
    return found


def _connection_lines(step: Step) -> list[str]:
    rows = connection_rows(step.connections or "").items()
    return sorted(f"{row} ({timeout} s)" for row, (timeout, _) in rows)


def _set_lines(step: Step) -> list[str]:
    return sorted(f"{member} ({left} s)" for member, left in set_members(step.sets).items())


def _balancing_lines(before: Step | None, step: Step) -> list[str]:
    """Connections of IPVS, and the servers of which something has changed."""
    lines = [f"{row} ({left} s)" for row, left in balanced_connections(step.ipvs.get("-Lnc", "")).items()]
    for words, text in step.ipvs.items():
        if words != "-Lnc":
            old = balanced_services(before.ipvs.get(words, "")) if before else {}
            lines += [
                f"{words}: {row} {value}" for row, value in balanced_services(text).items() if old.get(row) != value
            ]
    return sorted(lines)


def _interfaces(recording: Recording) -> list[str]:
    lines = []
    for name, counts in recording.interfaces.items():
        moved = " ".join(f"{what}={count}" for what, count in counts.items() if count)
        if moved:
            lines.append(f"interface {name}: {moved}")
    return lines


def _pairs(half: int, label: str, left: list[Frame], right: list[Frame], masks: tuple[str, ...]) -> list[str]:
    lines = []
    for i in range(max(len(left), len(right))):
        a = left[i] if i < len(left) else None
        b = right[i] if i < len(right) else None
        same = a is not None and b is not None and masked(a, masks) == masked(b, masks)
        lines += _columns(half, label, _line(a) if a else "", _line(b) if b else "", "=" if same else _mark(a, b))
        if a and b and not same:
            lines += _fields(a, b)
    return lines


def _mark(a: object, b: object) -> str:
    return "<" if not b else ">" if not a else "|"


def _fields(a: Frame, b: Frame) -> list[str]:
    """The decoded fields that differ, and where the bytes part."""
    one = decode(a.data, a.ethernet).show(dump=True).splitlines()
    two = decode(b.data, b.ethernet).show(dump=True).splitlines()
    lines = [f"        {line}" for line in difflib.unified_diff(one, two, "kernel", "emulator", n=0, lineterm="")]
    length = min(len(a.data), len(b.data))
    first = next((i for i in range(length) if a.data[i] != b.data[i]), length)
    return [
        f"        bytes part at {first}: {a.data[first : first + 8].hex()} / {b.data[first : first + 8].hex()}",
        *lines[2:],
    ]


def _aligned(half: int, word: str, left: list[str], right: list[str]) -> Iterable[str]:
    lines = []
    for line in dict.fromkeys([*left, *right]):
        a, b = line in left, line in right
        lines += _columns(half, f"{word} ", line if a else "", line if b else "", "=" if a and b else _mark(a, b))
    return lines


def _columns(half: int, label: str, left: str, right: str, mark: str) -> list[str]:
    """Two texts side by side, wrapped; where they are the same, once over the whole width."""
    if mark == "=":
        return [f"  =   {label}{left}"]
    one, two = _wrap(label + left if left else "", half), _wrap(label + right if right else "", half)
    lines = []
    for i in range(max(len(one), len(two))):
        a = one[i] if i < len(one) else ""
        b = two[i] if i < len(two) else ""
        lines.append(f"  {a:<{half}} {mark if i == 0 else ' '} {b}")
    return lines


def _wrap(text: str, width: int) -> list[str]:
    return [text[i : i + width] for i in range(0, len(text), width)]


def differences(found: list[Difference]) -> str:
    return "\n".join(str(difference) for difference in found)
