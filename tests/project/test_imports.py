"""Imports go down only, and starting costs little."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dataplane

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "dataplane"

# Each room, and the rooms whose names it may use. What is missing here is an arrow that points up.
ARROWS: dict[str, set[str]] = {
    "_fast": {"_fast"},
    "errors": set(),
    "capture": {"_fast", "errors"},
    "cluster": {"errors"},
    "host": {"_fast", "errors"},
    "agents": {"cluster", "host", "errors"},
    "datapath": {"host", "_fast", "errors"},
    "generate": {"capture", "cluster", "_fast", "errors"},
    "bench": {"generate", "cluster", "agents", "datapath", "capture", "host", "emulation", "_fast", "errors"},
    "mapping": {"cluster", "errors"},
    "balancing": {"timeline", "agents", "cluster", "datapath", "errors"},
    "result": {"balancing", "effects", "timeline", "agents", "cluster", "datapath", "capture", "_fast", "errors"},
    "sync_delay": {"cluster", "errors"},
    "differences": {"cluster"},
    "timeline": {"sync_delay", "differences", "cluster", "agents", "datapath", "host", "errors"},
    "effects": {"timeline", "cluster", "_fast", "errors"},
    "emulation": {
        "mapping",
        "result",
        "sync_delay",
        "timeline",
        "effects",
        "cluster",
        "agents",
        "datapath",
        "capture",
        "host",
        "_fast",
        "errors",
    },
    "testing": {"result", "cluster", "agents", "datapath", "capture", "host", "emulation", "_fast", "errors"},
    "cli": {
        "cluster",
        "agents",
        "datapath",
        "capture",
        "host",
        "emulation",
        "generate",
        "bench",
        "balancing",
        "result",
        "effects",
        "errors",
        "__init__",
    },
    "__main__": {"cli"},
    # The public names, and nothing else.
    "__init__": {"result", "cluster", "agents", "datapath", "capture", "host", "emulation", "errors", "_fast"},
}

COMPILED_IMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+c?import|c?import\s+([\w.]+))", re.MULTILINE)


def room(module: str) -> str:
    """The room of a dotted name: "dataplane.host.config" -> "host"; the package itself is "__init__"."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def python_imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of each import in the file, wherever it stands: a late import is an arrow too."""
    module = name_of(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            if base == "dataplane":
                # `from dataplane import errors` names a room; `from dataplane import Cluster` the package.
                for alias in node.names:
                    is_room = (PACKAGE / alias.name).is_dir() or (PACKAGE / f"{alias.name}.py").is_file()
                    yield node.lineno, f"dataplane.{alias.name}" if is_room else "dataplane"
            else:
                yield node.lineno, base


def compiled_imports(path: Path) -> Iterator[tuple[int, str]]:
    text = path.read_text()
    for match in COMPILED_IMPORT.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, match[1] or match[2]


def sources() -> list[Path]:
    found = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyi"), *PACKAGE.rglob("*.pyx"), *PACKAGE.rglob("*.pxd")]
    return sorted(found)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    return python_imports(path) if path.suffix in (".py", ".pyi") else compiled_imports(path)


def test_every_room_is_in_the_table() -> None:
    assert {room(name_of(path)) for path in sources()} <= ARROWS.keys()


def test_imports_go_down_only() -> None:
    up = []
    seen = 0
    for path in sources():
        here = room(name_of(path))
        for line, module in imports(path):
            if module.split(".")[0] != "dataplane":
                continue
            seen += 1
            there = room(module)
            if there != here and there not in ARROWS[here]:
                up.append(f"{path.relative_to(ROOT)}:{line}: {here} may not import {module}")
    assert seen, "no import was found: the walk is broken"
    assert not up, "\n".join(up)


def test_compiled_leaves_use_no_numpy_headers() -> None:
    """Typed views suffice; without the headers a build needs a C compiler only."""
    for path in [*PACKAGE.rglob("*.pyx"), *PACKAGE.rglob("*.pxd")]:
        assert not re.search(r"^\s*(cimport numpy|from numpy cimport)", path.read_text(), re.MULTILINE), path


@pytest.mark.parametrize("module", ["scapy", "matplotlib"])
def test_test_tools_stay_out_of_the_package(module: str) -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.is_relative_to(PACKAGE / "testing") or (module, path.name) == ("matplotlib", "plot.py"):
            continue
        for line, name in python_imports(path):
            assert name.split(".")[0] != module, f"{path}:{line}"


HEAVY = {"numpy", "yaml", "scapy", "matplotlib", "pyarrow", "lightkube"}


def loaded_by(code: str) -> set[str]:
    """Top-level modules in sys.modules after `code` has run in a fresh interpreter."""
    script = f"import sys\ntry:\n {code}\nexcept SystemExit: pass\nprint(*sys.modules, sep='\\n', file=sys.stderr)"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    return {name.split(".")[0] for name in done.stderr.split()}


def test_import_loads_nothing_heavy() -> None:
    loaded = loaded_by("import dataplane")
    assert "dataplane" in loaded
    assert not loaded & HEAVY


def test_help_loads_nothing_heavy() -> None:
    loaded = loaded_by("from dataplane.cli import main; main(['--help'])")
    assert "dataplane" in loaded
    assert not loaded & HEAVY


def test_every_public_name_is_there() -> None:
    for name in dataplane.__all__:
        assert getattr(dataplane, name).__name__ == name
    assert set(dataplane.__all__) <= set(dir(dataplane))
    with pytest.raises(AttributeError, match="nothing"):
        _ = dataplane.nothing


def test_test_files_have_names_of_their_own() -> None:
    """Test folders are not packages: of two files with one name, pytest would refuse the second."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) > 20
    assert sorted(names) == sorted(set(names))
