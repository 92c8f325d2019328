"""dataplane render"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from dataplane.cli import EXPECTED
from dataplane.cli.options import Cloud, Cni, KubeVersion, Manifests, Mode, Mtu, Nodes, Seed, report, version
from dataplane.emulation import Cluster
from dataplane.errors import InputError
from dataplane.host import HostConfig
from dataplane.host.dump import COMMANDS, texts

# What a format is called: the file of a dump without its suffix, or the program that prints it.
FORMATS = {
    name.removesuffix(".save") + "-save" if name.endswith(".save") else Path(name).stem: name for name in COMMANDS
} | {"ipvsadm-save": "ipvs.save"}
FORMATS.pop("ipvs-save")


def render(
    *,
    cluster: Manifests,
    node: str = "",
    pod: Annotated[str, Parameter(metavar="NAMESPACE/NAME")] = "",
    as_: Annotated[str, Parameter(name="--as", metavar="FORMAT", show_default=False)] = "",
    write: Annotated[Path | None, Parameter(name=["--write", "-w"], metavar="FOLDER")] = None,
    mode: Mode = "",
    kube_version: KubeVersion = "1.30",
    cni: Cni = "flannel",
    nodes: Nodes = 3,
    mtu: Mtu = 1500,
    seed: Seed = 0,
    cloud: Cloud = "none",
) -> int:
    """Print the configuration that a node or a pod of a cluster has, as the real tools would print it there.

    Without --as and --write all texts are printed, each under the command that prints it.

    Parameters
    ----------
    node
        The node.
    pod
        A pod instead of a node: it is a host, too.
    as_
        One text: iptables-save, ip6tables-save, ipset-save, ipvsadm-save, ipvs-timeout, links, addresses, routes, routes6, rules, rules6,
        neighbours, fdb, sysctl.
    write
        A folder for the whole dump. It loads into a network namespace, and `replay --host` takes it.
    """
    if bool(node) == bool(pod):
        raise InputError("render", message="needs --node or --pod, and not both")
    if as_ and as_ not in FORMATS:
        raise InputError("render", field="--as", message=f"{as_!r} is none of {', '.join(FORMATS)}")
    loaded = Cluster.load(
        *cluster, mode=mode, cni=cni, nodes=nodes, seed=seed, mtu=mtu, cloud=cloud, kube_version=version(kube_version)
    )
    config = loaded.host_config(node) if node else _pod(loaded, pod)
    report(loaded.notes)
    if write is not None:
        config.save(write)
    if as_:
        print(_one(config, as_), end="")
    elif write is None:
        parts = [f"# {' '.join(COMMANDS[name])}\n{text}" for name, text in texts(config).items() if text.strip()]
        print("\n".join(parts), end="")
    return EXPECTED


def _pod(loaded: Cluster, name: str) -> HostConfig:
    namespace, slash, own = name.rpartition("/")
    return loaded.agents.pod(namespace if slash else "default", own)


def _one(config: HostConfig, form: str) -> str:
    """One text; rules without their counters, as the program prints them when it is not asked for them."""
    for name, ruleset in (("iptables-save", config.iptables), ("ip6tables-save", config.ip6tables)):
        if form == name:
            return ruleset.text(counters=False) if ruleset is not None else ""
    return texts(config).get(FORMATS[form], "")
