"""Lines of -j LOG against those that a kernel wrote for the same packets (tests/kernel/log_lines.py makes the samples)."""

import json
from pathlib import Path

from dataplane.host.log_line import LineOptions, line

SAMPLES = [json.loads(text) for text in (Path(__file__).parent / "log-lines.json").read_text().splitlines()]


def test_lines_are_the_kernels() -> None:
    differ = []
    for sample in SAMPLES:
        given = {name: sample[name] for name in ("prefix", "interface_in", "interface_out", "mark")}
        found = line(
            bytes.fromhex(sample["packet"]),
            link_header=bytes.fromhex(sample["link_header"]),
            options=LineOptions(**sample["options"]),
            **given,
        )
        if found.rstrip() != sample["line"].rstrip():
            differ.append(f"{sample['line']}\n{found}")
    assert not differ, f"{len(differ)} of {len(SAMPLES)}:\n" + "\n\n".join(differ[:20])
