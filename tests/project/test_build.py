"""Cython says nothing: a performance hint is the only sign of a kernel that takes the GIL back in its loop."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAST = ROOT / "src" / "dataplane" / "_fast"
# As in setup.py: a hint about checks that the release build leaves out would be no hint.
DIRECTIVES = "language_level=3,boundscheck=False,wraparound=False,initializedcheck=False,cdivision=True"


@pytest.mark.parametrize("source", sorted(FAST.glob("*.pyx")), ids=lambda path: path.stem)
def test_cython_has_no_hint(source: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cython", "-3", "-X", DIRECTIVES, "-I", "src", "-o", str(tmp_path / "out.c")]
    done = subprocess.run([*command, str(source.relative_to(ROOT))], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_directives_are_those_of_the_build() -> None:
    text = (ROOT / "setup.py").read_text()
    for directive in ("language_level", "boundscheck", "wraparound", "initializedcheck", "cdivision"):
        assert re.search(rf'"{directive}": ', text), directive
    for name, value in (item.split("=") for item in DIRECTIVES.split(",")):
        expected = {"False": "CHECKED", "True": "True"}.get(value, value)
        assert f'"{name}": {expected}' in text


def test_directives_stand_in_one_place() -> None:
    """A directive in a file would not know of the debug and trace profiles."""
    for path in [*FAST.glob("*.pyx"), *FAST.glob("*.pxd")]:
        assert not re.search(r"^#\s*cython:", path.read_text(), re.MULTILINE), path
