"""The agents of a cluster: each turns its objects into the ordinary Linux configuration of a host."""

from .node import Agents, Options, host_config, pod_config
from .underlay import OUTSIDE, UNDERLAY, Wire

__all__ = ["OUTSIDE", "UNDERLAY", "Agents", "Options", "Wire", "host_config", "pod_config"]
