"""Each compiled module has a stub, and the stub tells the truth."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FAST = ROOT / "src" / "dataplane" / "_fast"
# Cython puts these into modules; they are nobody's interface.
UNWRITTEN = [r"dataplane\._fast\..*\.__(test|pyx_capi|reduce_cython|setstate_cython|pyx_vtable)__"]


def test_every_compiled_module_has_a_stub() -> None:
    compiled = {path.stem for path in FAST.glob("*.pyx")}
    assert compiled
    assert compiled == {path.stem for path in FAST.glob("*.pyi") if path.stem != "__init__"}


def test_stubs_agree_with_the_compiled_modules(tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.write_text("\n".join(UNWRITTEN) + "\n")
    modules = [f"dataplane._fast.{path.stem}" for path in sorted(FAST.glob("*.pyi")) if path.stem != "__init__"]
    assert modules
    command = [
        sys.executable,
        "-m",
        "mypy.stubtest",
        *modules,
        "--allowlist",
        str(allowed),
        "--ignore-unused-allowlist",
    ]
    environment = {**os.environ, "MYPYPATH": str(ROOT / "src"), "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
