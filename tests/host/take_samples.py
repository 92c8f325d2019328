"""Takes the samples of this folder anew from the kernel and the tools of the machine: run it as root.

    python tests/host/take_samples.py

Each scene is a network namespace (named fmt-...) that is set up with the real tools, dumped with them, and deleted. Its
file in scenes/ names the files to take in the first line, and then the commands; "!" before one lets it fail, where a
kernel may not have the device or the type.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

from dataplane.host.dump import COMMANDS

SAMPLES = Path(__file__).parent / "samples"
SCENES = Path(__file__).parent / "scenes"
NODE, FAR, POD = "fmt-node", "fmt-far", "fmt-pod"


def run(namespace: str, command: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["ip", "netns", "exec", namespace, *shlex.split(command)], capture_output=True, check=False)


def take(scene: Path) -> None:
    first, *lines = scene.read_text().splitlines()
    for namespace in (NODE, FAR, POD):
        subprocess.run(["ip", "netns", "add", namespace], check=True)
    try:
        for line in lines:
            done = run(NODE, line.removeprefix("!"))
            if done.returncode and not line.startswith("!"):
                sys.exit(f"{scene.name}: {line}: {done.stderr.decode()}")
        if lines:
            time.sleep(2.5)  # carriers and duplicate address detection
        folder = SAMPLES / scene.stem
        folder.mkdir(parents=True, exist_ok=True)
        for file in first.removeprefix("#").split():
            command = shlex.join(COMMANDS[file])
            if file == "sysctl.txt":
                command += r" -r ^(net|vm\.m|kernel\.(printk|sem|panic))"  # without what names this machine
            (folder / file).write_bytes(run(NODE, command).stdout)
    finally:
        for namespace in (NODE, FAR, POD):
            subprocess.run(["ip", "netns", "delete", namespace], check=True)


if __name__ == "__main__":
    for path in sorted(SCENES.iterdir()):
        if not sys.argv[1:] or path.stem in sys.argv[1:]:
            take(path)
            print(path.stem)
