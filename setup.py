"""The extension modules: their list, their directives, and the build profiles.

DATAPLANE_BUILD chooses the profile:
  release  (default) optimised, no checks
  debug    bounds and wraparound checks, assertions, symbols
  trace    line tracing for coverage; the C files lie beside the .pyx, where the coverage plugin looks
  asan     address and undefined-behaviour sanitizers
  fuzz     the same, and every branch tells that it was taken (tests/fuzz/fuzz_coverage.c)
DATAPLANE_JOBS     compilers at a time (default: the processors that this process may use)
DATAPLANE_ANNOTATE if set, Cython's annotated HTML is written beside the C files
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

PROFILE = os.environ.get("DATAPLANE_BUILD", "release")
SANITIZE = ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined"]
COMPILE = {
    "release": ["-O3"],
    "debug": ["-O0", "-g"],
    "trace": ["-O0", "-g", "-DCYTHON_TRACE=1", "-DCYTHON_TRACE_NOGIL=1", "-DCYTHON_USE_SYS_MONITORING=0"],
    "asan": SANITIZE,
    "fuzz": [*SANITIZE, "-fsanitize-coverage=trace-pc"],
}
if PROFILE not in COMPILE:
    raise SystemExit(f"DATAPLANE_BUILD={PROFILE}: not one of {', '.join(COMPILE)}")
CHECKED = PROFILE in ("debug", "trace")
PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
JOBS = int(os.environ.get("DATAPLANE_JOBS") or PROCESSORS)

# -Wno-unused-function: a .pxd of inline functions is compiled into every module that takes one of them.
# -Wno-sign-compare: Cython holds an enum's members in temporaries of type int.
ARGUMENTS = [*COMPILE[PROFILE], "-std=c11", "-Wno-unused-function", "-Wno-sign-compare"]
LINK = ["-fsanitize=address,undefined"] if PROFILE in ("asan", "fuzz") else []

FAST = Path("src/dataplane/_fast")

extensions = [
    Extension(f"dataplane._fast.{source.stem}", [str(source)], extra_compile_args=ARGUMENTS, extra_link_args=LINK)
    for source in sorted(FAST.glob("*.pyx"))
]
# What every Cython module would otherwise carry for itself (memoryviews, enums): a fifth of the size, half the compile.
SHARED = "dataplane._fast._cyutility"
extensions.append(Extension(SHARED, [str(FAST / "_cyutility.c")], extra_compile_args=ARGUMENTS, extra_link_args=LINK))

setup(
    ext_modules=cythonize(
        extensions,
        build_dir=None if PROFILE == "trace" else f"build/cython-{PROFILE}",
        include_path=["src"],
        shared_utility_qualified_name=SHARED,
        nthreads=JOBS if JOBS > 1 else 0,
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
    options={"build_ext": {"parallel": JOBS}},
)
