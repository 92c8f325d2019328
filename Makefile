# Everything a developer runs. A fresh machine needs Python 3.11 or newer, a C compiler and make.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$p; break; }; done)
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check -qq
APT := $(shell test "$$(id -u)" = 0 && command -v apt-get)
# Tests beside each other, one per processor; a test file stays in one process.
WORKERS ?= $(shell nproc 2>/dev/null || echo 1)
PYTEST ?= $(PY) -m pytest -q -rs -n $(WORKERS) --dist loadfile

SOURCES := setup.py pyproject.toml $(wildcard src/dataplane/_fast/*.pyx src/dataplane/_fast/*.pxd src/dataplane/_fast/*.h)
BUILT := build/.release
MINUTES ?= 30

.PHONY: help demo test lint build annotate bench bench-compare sanitize fuzz kernel-diff kernel-soak install-check tools clean

help:
	@echo 'make demo                     replay the sample capture through the sample cluster; writes out/demo.pcapng'
	@echo 'make test                     everything that CI runs: lint, then all tests'
	@echo 'make lint                     ruff, mypy --strict, cython-lint, import directions'
	@echo 'make build                    compile what changed in src/dataplane/_fast'
	@echo 'make annotate                 Cython'"'"'s annotated HTML, in build/cython-release'
	@echo 'make bench                    packets per second, changes of a cluster, the time to start'
	@echo 'make bench-compare BASE=x     the same here and at commit x, run in turn; their ratios'
	@echo 'make sanitize                 the tests on a build with address and undefined-behaviour sanitizers'
	@echo 'make fuzz MINUTES=30          search the readers of all inputs for what they neither read nor refuse'
	@echo 'make install-check            sdist, wheel, and an installation into an empty environment'
	@echo 'make kernel-diff SCENARIO=x   one scenario, the kernel and the model next to each other (root)'
ifneq ($(wildcard tests/kernel/soak.py),)
	@echo 'make kernel-soak MINUTES=30   random hosts and packets, kernel against model (root)'
endif

# -- set-up: each step leaves a stamp, so that a second run starts at once --------------------------------------

$(PY):
	@test -n '$(PYTHON)' || { echo 'dataplane needs Python 3.11 or newer; none was found (make PYTHON=/path/to/python)' >&2; exit 2; }
	@command -v "$${CC:-cc}" >/dev/null || command -v gcc >/dev/null || { echo 'dataplane needs a C compiler (gcc or clang)' >&2; exit 2; }
	@missing=''; \
	$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || missing='python3-venv'; \
	$(PYTHON) -c 'import os, sysconfig as s, sys; sys.exit(not os.path.isfile(s.get_path("include") + "/Python.h"))' || missing="$$missing python3-dev"; \
	if [ -n "$$missing" ]; then \
		if [ -n '$(APT)' ]; then apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$missing; \
		else echo "Python's own parts are missing: install $$missing" >&2; exit 2; fi; fi
	@$(PYTHON) -m venv $(VENV)

# Build requirements first, so that the build runs in this environment and its compiled files stay beside the source.
$(VENV)/.run: pyproject.toml setup.py | $(PY)
	@echo 'installing what dataplane needs into $(VENV)'
	@$(PIP) install 'setuptools>=77' 'Cython>=3.2.1,<4'
	@DATAPLANE_BUILD=release $(PIP) install --no-build-isolation -e .
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/.run
	@echo 'installing what the tests need into $(VENV)'
	@$(PIP) install --no-build-isolation -e '.[test]'
	@touch $@

$(BUILT): $(SOURCES) | $(VENV)/.run
	@mkdir -p build
	@DATAPLANE_BUILD=release $(PY) setup.py --quiet build_ext --inplace
	@touch $@

build: $(BUILT)

# The kernel is the judge of a part of the tests; without its tools (or without root) they are skipped, and say so.
TOOLS := iptables:iptables nft:nftables conntrack:conntrack ipset:ipset ip:iproute2 ethtool:ethtool tshark:tshark \
	linux.uml:user-mode-linux ipvsadm:ipvsadm
tools:
	@missing=''; for t in $(TOOLS); do PATH="$$PATH:/usr/sbin:/sbin" command -v $${t%%:*} >/dev/null || missing="$$missing $${t##*:}"; done; \
	if [ -n "$$missing" ]; then \
		if [ -n '$(APT)' ]; then \
			echo "installing$$missing"; \
			apt-get -qq update; for p in $$missing; do \
				DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$p >/dev/null \
				|| echo "apt-get failed: tests that need $$p will be skipped" >&2; done; \
		else echo "not installed:$$missing: tests that need them will be skipped" >&2; fi; fi

# -- what people run -------------------------------------------------------------------------------------------

demo: $(BUILT)
	@mkdir -p out
	$(VENV)/bin/dataplane get nodes -c pcaps/boutique.yaml -o wide
	@echo
	$(VENV)/bin/dataplane get services -A -c pcaps/boutique.yaml
	@echo
	@# Status 1: the sample holds a Service without endpoints and a damaged packet, and those do not arrive.
	$(VENV)/bin/dataplane replay pcaps/boutique.pcap -c pcaps/boutique.yaml --mode iptables -w out/demo.pcapng || test $$? = 1
	@echo
	@echo 'Open out/demo.pcapng in Wireshark: one interface per host and device, the same packet at each place of its path.'

test: $(VENV)/.test $(BUILT) tools lint
	$(PYTEST)

lint: $(VENV)/.test $(BUILT)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cython-lint src
	$(PY) -m pytest -q tests/project/test_imports.py

annotate: $(VENV)/.run
	DATAPLANE_ANNOTATE=1 $(PY) setup.py --quiet build_ext --inplace --force
	@mkdir -p build && touch $(BUILT)
	@ls build/cython-release/src/dataplane/_fast/*.html

# Figures of other commits may be kept and compared by pytest-benchmark itself: make bench BENCH='--benchmark-autosave'.
bench: $(VENV)/.test $(BUILT)
	$(PY) -m pytest -q -p no:cacheprovider --benchmark-disable-gc --benchmark-columns=median,iqr,rounds $(BENCH) bench

bench-compare: $(VENV)/.test $(BUILT)
	@test -n '$(BASE)' || { echo 'usage: make bench-compare BASE=commit' >&2; exit 2; }
	$(PY) bench/compare.py '$(BASE)' $(BENCH)

# A stock Python loads the sanitizers first; its own allocator would hide what numpy's arrays are worth checking for.
SANITIZED ?= $(addprefix tests/,agents capture cli cluster conntrack fragments fuzz generate host ipvs limits replay \
	rules testing)
# tests/cloud and tests/events are left out for time: make sanitize SANITIZED=tests/cloud runs them.
# These start a Python of their own or measure memory, which the sanitizers change.
UNSUITED := standard_output or standard_input or gives_packets_before or grows_with_time
SANITIZERS := $(shell for l in libasan.so libubsan.so; do p=$$(gcc -print-file-name=$$l 2>/dev/null); test -e "$$p" && echo "$$p"; done)
sanitize: $(VENV)/.test
ifeq ($(words $(SANITIZERS)),2)
	DATAPLANE_BUILD=asan $(PY) setup.py --quiet build --build-lib build/asan --build-temp build/asan-temp
	PYTHONPATH=build/asan LD_PRELOAD="$(SANITIZERS)" \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 PYTHONMALLOC=malloc \
	$(PY) -m pytest -q -n $(WORKERS) --dist loadfile -p no:cacheprovider -k 'not ($(UNSUITED))' $(SANITIZED)
else
	@echo 'gcc has no libasan and libubsan here: not sanitized' >&2
endif

# Inputs that crash a reader, hang it or make it greedy; what is found becomes a test. Half of the time on a build that has
# the sanitizers and tells of its branches, half on the usual one, where memory is limited.
HALF = $(shell echo '$(MINUTES)' | awk '{ print $$1 / 2 }')
fuzz: $(VENV)/.test $(BUILT)
ifeq ($(words $(SANITIZERS)),2)
	DATAPLANE_BUILD=fuzz $(PY) setup.py --quiet build --build-lib build/fuzz --build-temp build/fuzz-temp
	PYTHONPATH=build/fuzz LD_PRELOAD="$(SANITIZERS)" ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc \
	UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 $(PY) tests/fuzz/fuzz_run.py --minutes $(HALF)
endif
	$(PY) tests/fuzz/fuzz_run.py --minutes $(HALF)

install-check: $(VENV)/.test
	$(PY) tests/project/install_check.py

kernel-diff: $(VENV)/.test $(BUILT) tools
	@test -n '$(SCENARIO)' || { echo 'usage: make kernel-diff SCENARIO=name' >&2; exit 2; }
	$(PY) tests/kernel/diff.py '$(SCENARIO)'

ifneq ($(wildcard tests/kernel/soak.py),)
kernel-soak: $(VENV)/.test $(BUILT) tools
	$(PY) tests/kernel/soak.py --minutes $(MINUTES)
endif

clean:
	rm -rf build dist out src/*.egg-info
	find src -name '*.so' -delete
