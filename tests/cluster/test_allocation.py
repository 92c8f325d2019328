"""The allocators: node CIDRs, pod addresses, ClusterIPs, node ports."""

from ipaddress import ip_address, ip_network

import pytest

from dataplane.cluster.addresses import Band, HostLocal, NodeCidrs, cluster_ip_band, node_port_band
from dataplane.errors import ModelError


def node_cidrs(cluster, mask, taken=(), count=3):
    allocator = NodeCidrs(ip_network(cluster), mask, [ip_network(text) for text in taken])
    return [str(allocator.allocate(f"n{number}")) for number in range(count)]


def test_node_cidrs_follow_one_another():
    assert node_cidrs("10.244.0.0/16", 24) == ["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24"]
    assert node_cidrs("fd00:10:244::/56", 64) == ["fd00:10:244::/64", "fd00:10:244:1::/64", "fd00:10:244:2::/64"]


def test_node_cidrs_pass_over_what_is_taken():
    taken = ["10.244.0.0/24", "10.244.2.0/23", "10.244.5.128/25", "10.245.0.0/24", "fd00::/64"]
    assert node_cidrs("10.244.0.0/16", 24, taken) == ["10.244.1.0/24", "10.244.4.0/24", "10.244.6.0/24"]
    # The service network lies inside the cluster's.
    assert node_cidrs("10.0.0.0/8", 24, ["10.0.0.0/12"], 1) == ["10.16.0.0/24"]


def test_node_cidrs_run_out():
    with pytest.raises(ModelError, match=r"no /24 is left for Node n2 in the cluster CIDR 10.244.0.0/23, which has 2"):
        node_cidrs("10.244.0.0/23", 24)
    with pytest.raises(ModelError, match="no /24 is left"):
        node_cidrs("10.244.0.0/23", 24, ["10.244.0.0/16"], 1)
    with pytest.raises(ModelError, match="is smaller than the /24"):
        node_cidrs("10.244.0.0/25", 24)
    with pytest.raises(ModelError, match="more than 65536"):
        node_cidrs("fd00::/32", 64)


def pod_addresses(network, count, taken=(), last=None):
    store = HostLocal(
        ip_network(network), {int(ip_address(text)) for text in taken}, ip_address(last) if last is not None else None
    )
    return [None if (address := store.allocate()) is None else str(address) for _ in range(count)]


def test_host_local_starts_behind_the_gateway_and_skips_what_is_taken():
    assert pod_addresses("10.244.1.0/24", 3) == ["10.244.1.2", "10.244.1.3", "10.244.1.4"]
    assert pod_addresses("fd00::/64", 2) == ["fd00::2", "fd00::3"]
    taken = ["10.244.1.2", "10.244.1.4", "10.244.2.3"]
    assert pod_addresses("10.244.1.0/24", 2, taken) == ["10.244.1.3", "10.244.1.5"]


def test_host_local_goes_round():
    assert pod_addresses("10.244.1.0/24", 2, last="10.244.1.9") == ["10.244.1.10", "10.244.1.11"]
    assert pod_addresses("10.244.1.0/24", 2, ["10.244.1.2"], "10.244.1.253") == ["10.244.1.254", "10.244.1.3"]
    # .0 the network, .1 the gateway, .7 the broadcast address
    assert pod_addresses("10.0.0.0/29", 6) == [f"10.0.0.{number}" for number in range(2, 7)] + [None]
    assert pod_addresses("10.0.0.0/31", 1) == [None]
    # IPv6 has no broadcast address.
    assert pod_addresses("fd00::/126", 3) == ["fd00::2", "fd00::3", None]


@pytest.mark.parametrize(
    ("network", "static", "dynamic"),
    [
        ("10.96.0.0/12", ("10.96.0.1", "10.96.1.0"), ("10.96.1.1", "10.111.255.254")),
        ("10.96.0.0/16", ("10.96.0.1", "10.96.1.0"), ("10.96.1.1", "10.96.255.254")),
        ("10.96.0.0/20", ("10.96.0.1", "10.96.1.0"), ("10.96.1.1", "10.96.15.254")),
        ("10.96.0.0/22", ("10.96.0.1", "10.96.0.64"), ("10.96.0.65", "10.96.3.254")),
        ("10.96.0.0/24", ("10.96.0.1", "10.96.0.16"), ("10.96.0.17", "10.96.0.254")),
        ("10.96.0.0/26", ("10.96.0.1", "10.96.0.16"), ("10.96.0.17", "10.96.0.62")),
        ("10.96.0.0/27", ("10.96.0.1", "10.96.0.16"), ("10.96.0.17", "10.96.0.30")),
        ("10.96.0.0/28", None, ("10.96.0.1", "10.96.0.14")),
        ("fd00::/112", ("fd00::1", "fd00::100"), ("fd00::101", "fd00::ffff")),
    ],
)
def test_bands_of_cluster_ips(network, static, dynamic):
    """The table of KEP-3070 with the code's offset from the first usable address."""
    band = cluster_ip_band(ip_network(network))
    make = type(ip_address(network.partition("/")[0]))
    ends = [(str(make(part[0])), str(make(part[-1]))) if part else None for part in (band.static, band.dynamic)]
    assert ends == [static, dynamic]


def test_bands_of_node_ports():
    band = node_port_band()
    assert (band.static, band.dynamic) == (range(30000, 30086), range(30086, 32768))


def test_a_full_dynamic_band_falls_back_on_the_static_one():
    band = Band(range(1, 3), range(3, 6))
    assert [band.allocate(start) for start in (1, 1, 1, 7, 7, 7)] == [4, 5, 3, 2, 1, None]
