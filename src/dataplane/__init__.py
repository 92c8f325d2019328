"""The packet path of a Kubernetes cluster: captures in, captures out, every verdict explained.

    from dataplane import Cluster

    cluster = Cluster.load("boutique.yaml", mode="iptables", cni="flannel", seed=0)
    result = cluster.replay("in.pcap", write="out.pcapng")

Names are looked up when they are first used: ``import dataplane`` itself imports neither numpy nor yaml.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataplane._fast.batch import PacketBatch as PacketBatch
    from dataplane.capture import CaptureWriter as CaptureWriter
    from dataplane.capture import open_capture as open_capture
    from dataplane.datapath.host import Host as Host
    from dataplane.emulation import Cluster as Cluster
    from dataplane.errors import DataplaneError as DataplaneError
    from dataplane.errors import InputError as InputError
    from dataplane.errors import ModelError as ModelError
    from dataplane.host import HostConfig as HostConfig
    from dataplane.result import Result as Result

_HOME = {
    "CaptureWriter": "dataplane.capture",
    "Cluster": "dataplane.emulation",
    "DataplaneError": "dataplane.errors",
    "Host": "dataplane.datapath.host",
    "HostConfig": "dataplane.host",
    "InputError": "dataplane.errors",
    "ModelError": "dataplane.errors",
    "PacketBatch": "dataplane._fast.batch",
    "Result": "dataplane.result",
    "open_capture": "dataplane.capture",
}

__version__ = "0.1.0"
__all__ = [
    "CaptureWriter",
    "Cluster",
    "DataplaneError",
    "Host",
    "HostConfig",
    "InputError",
    "ModelError",
    "PacketBatch",
    "Result",
    "open_capture",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'dataplane' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
