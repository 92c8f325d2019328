"""The time to start: importing the package, asking for help, a first answer from a cluster."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SAMPLE = str(Path(__file__).parents[1] / "pcaps" / "boutique.yaml")
PROGRAMS = {
    "python_itself": ("-c", "pass"),
    "import_dataplane": ("-c", "import dataplane"),
    "help": ("-m", "dataplane", "--help"),
    "get_services": ("-m", "dataplane", "get", "services", "-c", SAMPLE),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_start(program: str, per: Callable[..., Any]) -> None:
    command = [sys.executable, *PROGRAMS[program]]
    per(1, lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))
