"""What all tests share: hypothesis draws the same examples each time in CI, and new ones at a desk."""

import os

import pytest
from hypothesis import settings

SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")

settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("desk", deadline=None)
settings.register_profile("sanitized", derandomize=True, deadline=None, max_examples=15)
settings.load_profile("sanitized" if SANITIZED else "ci" if os.environ.get("CI") else "desk")


def pytest_configure(config: pytest.Config) -> None:
    """The tools that tests call are not the subject of the sanitizers: ip and iptables have findings of their own. Who
    only hands out the work needs them for the others."""
    if SANITIZED and (hasattr(config, "workerinput") or not config.getoption("numprocesses", None)):
        del os.environ["LD_PRELOAD"]
