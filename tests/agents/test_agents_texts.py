"""The texts of whole nodes: golden ones, and what the kernel makes of them."""

import os
from pathlib import Path

import pytest
from agent_namespaces import namespace, needs_namespaces

from dataplane.agents import Agents
from dataplane.cluster import complete, load_manifests

HERE = Path(__file__).parent
FILES = {4: "iptables.save", 6: "ip6tables.save"}


@pytest.fixture(scope="module")
def agents():
    return Agents(complete(load_manifests(HERE / "sample.yaml")))


def text(agents, node, family):
    return agents.firewall(node, family).ruleset().text()


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("node", ["node-1", "node-2"])
def test_golden(agents, node, family):
    """DATAPLANE_REWRITE_GOLDEN=1 writes them anew; look at what changed before it is committed."""
    path = HERE / "golden" / node / FILES[family]
    found = text(agents, node, family)
    if os.environ.get("DATAPLANE_REWRITE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(found)
    assert found == path.read_text()


def bare(saved):
    """Per table, in the order of the names: legacy iptables lists tables in the order in which they were loaded."""
    tables, lines = {}, []
    for line in saved.splitlines():
        if line.startswith("*"):
            lines = tables[line] = []
        elif not line.startswith("#"):
            lines.append(line)
    return tables


@needs_namespaces
@pytest.mark.parametrize("backend", ["nft", "legacy"])
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("node", ["node-1", "node-2"])
def test_the_kernel_gives_the_text_back(agents, node, family, backend):
    ours = text(agents, node, family)
    tool = f"ip{'' if family == 4 else '6'}tables-{backend}"
    with namespace() as host:
        host.run(f"{tool}-restore", text=ours)
        assert bare(host.run(f"{tool}-save")) == bare(ours)
