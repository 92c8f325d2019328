"""One kernel (a pinned process, a fence, a trace) for the whole run of a worker."""

import warnings
from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("scenarios", "judge.talk")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # scapy's own, at import
    from judge.scenario import Kernel


@pytest.fixture(scope="session")
def kernel() -> Iterator[Kernel]:
    made = Kernel()
    yield made
    made.close()
