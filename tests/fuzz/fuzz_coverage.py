"""Coverage as the search's guide: the branches of the compiled modules, the lines of the Python ones.

    guide = Guide.start()     # before dataplane is imported; None where there is no compiler
    guide.begin(); target(); new = guide.new()

The branches need a build that tells of them (DATAPLANE_BUILD=fuzz); without it the lines alone guide. No package is
needed: gcc's -fsanitize-coverage=trace-pc and the fifty lines of fuzz_coverage.c do what a library of a fuzzer would.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Self

HERE = Path(__file__).parent
LIBRARY = HERE.parents[1] / "build" / "libcoverage.so"


class Guide:
    """The maps are shared with the processes that fork from this one."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._places: dict[CodeType, int] = {}

    @classmethod
    def start(cls) -> Self | None:
        LIBRARY.parent.mkdir(exist_ok=True)
        command = ["gcc", "-O2", "-shared", "-fPIC", "-o", str(LIBRARY), str(HERE / "fuzz_coverage.c")]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        library = ctypes.CDLL(str(LIBRARY), mode=ctypes.RTLD_GLOBAL)
        return cls(library) if library.coverage_start() == 0 else None

    def begin(self) -> None:
        self._library.coverage_begin()
        sys.settrace(self._call)

    def new(self) -> int:
        """How many places the input since `begin` was the first to take, or to take so often."""
        sys.settrace(None)
        found: int = self._library.coverage_new()
        return found

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        place = self._places.get(code)
        if place is None:
            mine = "dataplane" in code.co_filename and code.co_filename.endswith(".py")
            # The same in every process: hash() of a text is not.
            place = sum(map(ord, code.co_filename + code.co_qualname)) * 2654435761 if mine else -1
            self._places[code] = place
        if place < 0:
            return None
        line = self._library.coverage_line

        def lines(frame: FrameType, event: str, argument: Any) -> Any:
            if event == "line":
                line((place + frame.f_lineno * 97) & 0xFFFFFFFF)
            return lines

        return lines
