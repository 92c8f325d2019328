"""What a kernel measures a subject with."""

from __future__ import annotations

import os
import shutil

from dataplane.bench.kernel import BACKENDS, kernel_row
from dataplane.bench.modes import Kernel
from dataplane.bench.nftables import nftables_row
from dataplane.errors import ModelError


def kernels() -> list[Kernel]:
    """What this machine's kernel offers: iptables by back end, and nftables. ModelError saying what is missing where it is."""
    if os.geteuid() != 0:
        raise ModelError("--kernel needs root: it makes network namespaces")
    if not os.path.exists("/dev/net/tun"):
        raise ModelError("--kernel needs /dev/net/tun")
    tools = ["ip", "conntrack", "nft", *(f"iptables-{backend}-restore" for backend in BACKENDS)]
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        raise ModelError(f"--kernel needs the tools {', '.join(missing)}")

    def engine(backend: str) -> Kernel:
        return lambda subject, plan, changes: kernel_row(subject, plan, changes, backend)

    return [*(engine(backend) for backend in BACKENDS), lambda subject, plan, _: nftables_row(subject, plan)]
