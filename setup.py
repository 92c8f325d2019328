"""The extension modules: their list, their directives, and the build profiles.

DATAPLANE_BUILD chooses the profile:
  release  (default) optimised, no checks
  debug    bounds and wraparound checks, assertions, symbols
  trace    line tracing for coverage; the C files lie beside the .pyx, where the coverage plugin looks
  asan     address and undefined-behaviour sanitizers
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

PROFILE = os.environ.get("DATAPLANE_BUILD", "release")
COMPILE = {
    "release": ["-O3"],
    "debug": ["-O0", "-g"],
    "trace": ["-O0", "-g", "-DCYTHON_TRACE=1", "-DCYTHON_TRACE_NOGIL=1", "-DCYTHON_USE_SYS_MONITORING=0"],
    "asan": ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined"],
}
if PROFILE not in COMPILE:
    raise SystemExit(f"DATAPLANE_BUILD={PROFILE}: not one of {', '.join(COMPILE)}")
CHECKED = PROFILE in ("debug", "trace")

# -Wno-unused-function: a .pxd of inline functions is compiled into every module that takes one of them.
ARGUMENTS = [*COMPILE[PROFILE], "-std=c11", "-Wno-unused-function"]
LINK = ["-fsanitize=address,undefined"] if PROFILE == "asan" else []

extensions = [
    Extension(
        f"dataplane._fast.{source.stem}",
        [str(source)],
        extra_compile_args=ARGUMENTS,
        extra_link_args=LINK,
    )
    for source in sorted(Path("src/dataplane/_fast").glob("*.pyx"))
]

setup(
    ext_modules=cythonize(
        extensions,
        build_dir=None if PROFILE == "trace" else f"build/cython-{PROFILE}",
        include_path=["src"],
        nthreads=int(os.environ.get("DATAPLANE_JOBS", os.cpu_count() or 1)),
        annotate=bool(os.environ.get("DATAPLANE_ANNOTATE")),
        compiler_directives={
            "language_level": 3,
            "boundscheck": CHECKED,
            "wraparound": CHECKED,
            "initializedcheck": CHECKED,
            "cdivision": True,
            "embedsignature": True,
            "freethreading_compatible": True,
            "linetrace": PROFILE == "trace",
        },
    ),
)
