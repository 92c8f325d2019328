"""The rules of every feature of a Service and of every option of kube-proxy, loaded into a real namespace and read back:
the text that is rendered is the one that the kernel prints."""

from collections.abc import Iterator

import pytest
from agent_namespaces import Namespace, namespace, needs_namespaces
from test_proxy_options import RULES
from test_proxy_options import cluster as configured
from test_service_features import FEATURES
from test_service_features import cluster as featured

from dataplane.emulation import Cluster

pytestmark = needs_namespaces


@pytest.fixture(scope="module")
def host() -> Iterator[Namespace]:
    with namespace() as made:
        yield made


def check(host: Namespace, made: Cluster) -> None:
    """iptables-restore replaces what the namespace had before."""
    config = made.host_config("node-1")
    for tool, ruleset in (("iptables-nft", config.iptables), ("ip6tables-nft", config.ip6tables)):
        assert ruleset is not None
        host.run(f"{tool}-restore", text=ruleset.text())
        found = [line for line in host.run(f"{tool}-save").splitlines() if not line.startswith("#")]
        assert found == ruleset.text().splitlines()


@pytest.mark.parametrize("name", FEATURES)
def test_features(host: Namespace, name: str) -> None:
    feature = FEATURES[name]
    check(host, featured(*feature.documents, version=feature.version))


@pytest.mark.parametrize("name", RULES)
def test_options(host: Namespace, name: str) -> None:
    options, _, _ = RULES[name]
    check(host, configured(options))
