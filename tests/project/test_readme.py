"""What README shows is what the commands print.

Blocks of kind `console` hold commands (behind `$ `) and their output. To write the output anew after a change that is
meant: python tests/project/test_readme.py
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[tuple[str, str]]:
    """(command, output) of a block; a command that ends with a backslash goes on in the next line."""
    found: list[tuple[str, str]] = []
    lines = block.splitlines(keepends=True)
    while lines:
        line = lines.pop(0)
        if line.startswith("$ "):
            command = line[2:]
            while command.endswith("\\\n"):
                command += lines.pop(0)
            found.append((command, ""))
        else:
            command, output = found.pop()
            found.append((command, output + line))
    return found


def stage(folder: Path) -> dict[str, str]:
    """A place as README's reader has it: the samples, a folder out, and the command. Returns the environment."""
    (folder / "out").mkdir()
    (folder / "pcaps").symlink_to(ROOT / "pcaps")
    (folder / "bin").mkdir()
    program = folder / "bin" / "dataplane"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m dataplane "$@"\n')
    program.chmod(0o755)
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "110"}


def printed(command: str, folder: Path, environment: dict[str, str]) -> str:
    """Both outputs together, as a terminal shows them."""
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    return done.stdout


def test_output_in_readme_is_what_is_printed(tmp_path: Path) -> None:
    environment = stage(tmp_path)
    seen = 0
    for block in BLOCK.findall(README.read_text()):
        for command, output in commands(block):
            if "tshark" in command and shutil.which("tshark") is None:
                continue
            seen += 1
            assert printed(command, tmp_path, environment) == output, command
    assert seen > 5


def test_no_placeholder_is_left() -> None:
    left = [line for line in README.read_text().splitlines() if re.fullmatch(r"[A-Z]{3,}", line)]
    if left:
        pytest.fail(f"README still says {', '.join(left)}")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = stage(folder)

        def again(match: re.Match[str]) -> str:
            parts = [f"$ {command}{printed(command, folder, environment)}" for command, _ in commands(match[1])]
            return "```console\n" + "".join(parts) + "```"

        README.write_text(BLOCK.sub(again, README.read_text()))


if __name__ == "__main__":
    main()
