"""The property kit: every law holds on generated examples, and is broken by an example that breaks it."""

from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataplane import Host
from dataplane._fast.reason import Verdict
from dataplane.cluster import complete, read_manifests
from dataplane.emulation import Cluster
from dataplane.host.config import HostConfig
from dataplane.testing import (
    Conversation,
    Passage,
    Run,
    Sighting,
    Violation,
    accounting_adds_up,
    arrived,
    batch_size_does_not_matter,
    cached_and_uncached_agree,
    check,
    checksums_kept,
    client_address_kept,
    clusters,
    conversations,
    counters_add_up,
    encapsulation_is_inverse,
    hosts,
    manifests,
    one_endpoint,
    only_chosen_endpoints,
    order_does_not_matter,
    packet,
    packets,
    parse,
    payload_untouched,
    replies_are_inverse,
    reply_tuples_are_unique,
    same_outcome,
    save,
    service_has_its_endpoints,
    ttl_falls_by_hops,
)
from dataplane.testing.wire import ICMP, SCTP, TCP, UDP, tunnelled


def often(count: int) -> int:
    """Fewer examples where the profile has fewer than usual: under the sanitizers."""
    return max(5, count * settings().max_examples // 100)


SLOW = settings(max_examples=often(60), suppress_health_check=list(HealthCheck))
SHOP = [
    *(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": f"node-{n}"},
            "spec": {"podCIDR": f"10.244.{n}.0/24"},
            "status": {"addresses": [{"type": "InternalIP", "address": f"192.168.1.1{n}"}]},
        }
        for n in (1, 2)
    ),
    *(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "labels": {"app": name[:3]}},
            "spec": {"nodeName": node, "containers": [{"name": "main", "image": "nginx"}]},
        }
        for name, node in (("client", "node-1"), ("web-0", "node-2"), ("web-1", "node-2"))
    ),
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "type": "NodePort",
            "clusterIP": "10.96.0.10",
            "selector": {"app": "web"},
            "ports": [{"port": 80, "nodePort": 30080, "targetPort": 8080}],
        },
    },
]


def shop() -> Cluster:
    return Cluster(complete(read_manifests(SHOP), 2))


@pytest.fixture
def run() -> Run:
    return Run(shop())


TALK = Conversation("default/client", "10.96.0.10", TCP, 40000, 80, ((b"get", b"here"), (b"more", b"there")))


def touched(passage: Passage, at: int, value: int, place: int = -1) -> Passage:
    """The passage with one byte of the frame at one place changed."""
    seen = list(passage.sightings)
    frame = bytearray(seen[place].frame)
    frame[at] = value
    seen[place] = replace(seen[place], frame=bytes(frame))
    return replace(passage, sightings=tuple(seen))


# ---- the laws hold -----------------------------------------------------------------------------------------------------


def test_every_law_holds_for_conversations_in_drawn_clusters() -> None:
    complete_ones = 0

    @SLOW
    @given(st.data())
    def holds(data: st.DataObject) -> None:
        nonlocal complete_ones
        cluster = data.draw(clusters())
        run = Run(cluster)
        for _ in range(2):
            played = run.play(data.draw(conversations(cluster)))
            check(run, played)
            complete_ones += played.complete
        counters_add_up(run)
        for node in cluster.nodes:
            reply_tuples_are_unique(run.connections(node.name))

    holds()
    assert complete_ones > often(60), "hardly anything arrives"


@SLOW
@given(st.data())
def test_services_use_their_endpoints_alone(data: st.DataObject) -> None:
    cluster = data.draw(clusters(max_nodes=2))
    run = Run(cluster)
    wanted = data.draw(conversations(cluster, protocols=(UDP, TCP)))
    played = run.play(wanted)
    for service in cluster.services:
        if ip_address(wanted.target) in service.cluster_ips:
            slices = cluster.state.endpoints[service.namespace, service.name]
            endpoints = [endpoint.address for piece in slices for endpoint in piece.endpoints if endpoint.ready]
            for passage in played.requests:
                only_chosen_endpoints(service, passage, endpoints)


@SLOW
@given(st.data())
def test_direct_flows_do_not_depend_on_each_other(data: st.DataObject) -> None:
    """In any order, and on hosts that have seen traffic before."""
    cluster = data.draw(clusters(max_services=1))
    pods = [pod for pod in cluster.pods if pod.ips]
    flows = data.draw(
        st.lists(st.tuples(*[st.sampled_from(pods)] * 2, st.integers(1024, 2000)), min_size=2, max_size=6)
    )
    sent = {}
    for client, server, port in flows:
        family = client.ips[0].version
        target = server.ip(family)
        if target is not None and client is not server:
            made = data.draw(packets(str(client.ips[0]), str(target)))
            sent[str(client), port, made] = (str(client), made)
    unique = {made: pair for (_, _, made), pair in sent.items()}
    pairs = list(unique.values())
    order_does_not_matter(cluster, pairs, data.draw(st.permutations(range(len(pairs)))))


@settings(max_examples=often(30), suppress_health_check=list(HealthCheck))
@given(st.data())
def test_an_index_of_rules_changes_nothing(data: st.DataObject) -> None:
    """Both modes: rules are looked up, or one after the other."""
    cluster = data.draw(clusters(max_nodes=2))
    cached_and_uncached_agree(cluster, data.draw(st.lists(conversations(cluster), min_size=1, max_size=3)))


@SLOW
@given(hosts(), st.data())
def test_routers_keep_what_they_forward(config: HostConfig, data: st.DataObject) -> None:
    host = Host(config)
    links = [link for link in config.links if not link.loopback]
    for number in range(3):
        entry = data.draw(st.sampled_from(links))
        six = data.draw(st.booleans())
        index, other = entry.index - 2, data.draw(st.integers(0, len(links) - 1))
        source, target = (f"fd00:{index}::2", f"fd00:{other}::2") if six else (f"10.{index}.0.2", f"10.{other}.0.2")
        sent = data.draw(packets(source, target))
        frame = (
            entry.mac.to_bytes(6) + (0x020000010000 + index).to_bytes(6) + (b"\x86\xdd" if six else b"\x08\0") + sent
        )
        for _, out in host.receive(frame, entry.name, time_ns=number + 1):
            if out[12:14] in (b"\x86\xdd", b"\x08\0"):
                seen, ours = parse(out[14:]), parse(sent)
                assert all(right is not False for right in seen.checksums)
                if seen.protocol == ours.protocol and seen.id == ours.id and seen.protocol in (TCP, UDP):
                    assert (seen.payload, seen.options) == (ours.payload, ours.options)
                    assert seen.ttl in (ours.ttl - 1, 64)


@settings(max_examples=often(200), deadline=None)
@given(packets(damaged=True))
def test_damaged_packets_never_raise(run_packet: bytes) -> None:
    cluster = shop()
    passage = Run(cluster).send("default/client", run_packet)
    assert passage.verdict.name


def test_batches_of_any_size(run: Run, tmp_path: Path) -> None:
    run.play(TALK)
    folder = save(run, tmp_path)
    batch_size_does_not_matter(run.cluster, folder / "failing.pcap", (1, 2, 4096))


def test_a_saved_cluster_is_the_same_cluster(run: Run, tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(manifests(run.cluster))
    again = Cluster.load(tmp_path / "cluster.yaml")
    assert again.state.services == run.cluster.state.services
    assert [pod.ips for pod in again.pods] == [pod.ips for pod in run.cluster.pods]


@pytest.mark.skipif(often(100) < 100, reason="the profile has too few examples to reach everything")
@pytest.mark.parametrize("mode", ["iptables", "ipvs"])
def test_what_the_strategies_reach(mode: str) -> None:
    """Both families, all protocols, fragments, tunnels, Services from outside, endpoints on nodes; nothing is all refused."""
    seen: set[str] = set()

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.data())
    def look(data: st.DataObject) -> None:
        cluster = data.draw(clusters(modes=[mode]))
        assert cluster.agents.mode == mode
        wanted = data.draw(conversations(cluster))
        played = Run(cluster).play(wanted)
        if not played.complete:
            return
        first = played.requests[0]
        fragments = any(len(passage.whole) != len(passage.sightings) for passage in played.requests)
        seen.update({f"IPv{parse(first.sent).family}", f"protocol {wanted.protocol}"})
        seen.update(service_kinds(cluster, wanted.target))
        seen.add("from outside" if wanted.client == "outside" else "from inside")
        seen.update(["fragments"] if fragments else [])
        seen.update(["tunnel"] if any(tunnelled(sighting.packet) is not None for sighting in first.sightings) else [])
        seen.update(["closed"] if wanted.closes else [])
        seen.update(["endpoint on a node"] if any("/" not in reached for reached in played.endpoints) else [])

    look()
    wanted = {"IPv4", "IPv6", "from outside", "from inside", "fragments", "tunnel", "closed", "endpoint on a node"}
    wanted |= {f"protocol {number}" for number in (TCP, UDP, ICMP, SCTP)}
    wanted |= {"cluster IP", "external", "load balancer", "node", "pod"}
    assert wanted <= seen, f"never seen: {wanted - seen}"


def service_kinds(cluster: Cluster, target: str) -> set[str]:
    """What an address is."""
    address = ip_address(target)
    ingress = {entry.ip for service in cluster.services for entry in service.ingress}
    external = {ip for service in cluster.services for ip in service.external_ips}
    pods = {ip for pod in cluster.pods for ip in pod.ips if not pod.host_network}
    nodes = {ip for node in cluster.nodes for ip in node.addresses}
    names = {"load balancer": ingress, "external": external, "pod": pods, "node": nodes}
    return {name for name, known in names.items() if address in known} or {"cluster IP"}


# ---- and broken things break them ------------------------------------------------------------------------------------


def test_a_touched_payload(run: Run) -> None:
    passage = run.play(TALK).requests[1]
    payload_untouched(passage)
    with pytest.raises(Violation, match="the payload of a packet is not touched"):
        payload_untouched(touched(passage, -1, 0))
    with pytest.raises(Violation, match="the id of a packet"):
        payload_untouched(touched(passage, 14 + 5, 0xEE))


def test_a_broken_checksum(run: Run) -> None:
    passage = run.play(TALK).requests[0]
    checksums_kept(passage)
    with pytest.raises(Violation, match="as broken as they came"):
        checksums_kept(touched(passage, 14 + 20 + 16, 0))


def test_a_ttl_that_does_not_fall(run: Run) -> None:
    passage = run.play(TALK).requests[0]
    ttl_falls_by_hops(run, passage)
    assert arrived(passage).ttl == 62
    with pytest.raises(Violation, match="the TTL falls by the number of hosts"):
        ttl_falls_by_hops(run, touched(passage, 14 + 8, 63))


def test_a_tunnel_that_changes_what_it_carries(run: Run) -> None:
    passage = run.play(TALK).requests[1]
    encapsulation_is_inverse(passage)
    inside = [i for i, sighting in enumerate(passage.sightings) if tunnelled(sighting.packet) is not None]
    assert inside
    with pytest.raises(Violation, match="a tunnel carries the frame as it is"):
        encapsulation_is_inverse(touched(passage, -1, 0, inside[-1]))
    with pytest.raises(Violation, match="what leaves a tunnel"):
        encapsulation_is_inverse(touched(passage, -1, 0, inside[-1] + 1))


def test_a_ttl_that_falls_at_its_sender() -> None:
    """IPVS on the client's own node takes one, too; iptables' DNAT does not."""
    for mode, left in (("iptables", 63), ("ipvs", 62)):
        run = Run(Cluster(complete(read_manifests(SHOP), 2), mode=mode))
        passage = run.play(replace(TALK, client="node-1")).requests[0]
        assert arrived(passage).ttl == left
        ttl_falls_by_hops(run, passage)
        with pytest.raises(Violation, match=f"fell by: {64 - left + 1}"):
            ttl_falls_by_hops(run, touched(passage, 14 + 8, left - 1))


def test_fragments_are_put_together_where_they_are_seen(run: Run) -> None:
    client = next(pod.ips[0] for pod in run.cluster.pods if pod.name == "client")
    target = next(pod.ips[0] for pod in run.cluster.pods if pod.name == "web-0")
    passage = run.send("default/client", packet(client, target, UDP, (4000, 53), bytes(range(250)) * 20, id=7))
    assert passage.delivered
    assert passage.arrived[8:20] != b"", passage
    assert parse(passage.arrived).payload == bytes(range(250)) * 20
    places = {sighting.place for sighting in passage.sightings}
    assert {sighting.place for sighting in passage.whole} == places
    assert len(passage.sightings) > 3 * len(passage.whole)
    for law in (payload_untouched, checksums_kept, encapsulation_is_inverse):
        law(passage)
    ttl_falls_by_hops(run, passage)
    with pytest.raises(Violation, match=r"the payload of a packet.*\n.*\n.*\n.*\n  first difference at byte: 4999"):
        payload_untouched(touched(passage, -1, 0xFF))
    inside = [i for i, sighting in enumerate(passage.sightings) if tunnelled(sighting.packet) is not None]
    with pytest.raises(Violation, match="a tunnel carries the frame as it is"):
        encapsulation_is_inverse(touched(passage, -1, 0xFF, inside[-1]))


def test_a_source_that_is_masqueraded_too_often(run: Run) -> None:
    """One rule has matched once, and two connections have another source."""
    played = run.play(Conversation("outside", "192.168.1.11", TCP, 41000, 30080))
    rows = run.connections("node-1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "connections", lambda host: [*rows, *rows])
        with pytest.raises(Violation, match="connections: 2\n  told by rules: 1"):
            client_address_kept(run, played.requests[0])


def test_a_source_that_nobody_masqueraded(run: Run) -> None:
    passage = run.play(TALK).requests[0]
    client_address_kept(run, passage)
    forged = replace(passage, end=(ip_address("10.244.1.1"), *passage.end[1:]))
    with pytest.raises(Violation, match="unless a masquerade rule says otherwise"):
        client_address_kept(run, forged)


def test_a_masqueraded_source_is_explained(run: Run) -> None:
    played = run.play(Conversation("outside", "192.168.1.11", TCP, 41000, 30080))
    assert played.complete
    assert arrived(played.requests[0]).source != parse(played.requests[0].sent).source
    check(run, played)


def test_a_reply_from_elsewhere(run: Run) -> None:
    played = run.play(TALK)
    replies_are_inverse(played)
    wrong = replace(played.replies[0], end=(ip_address("10.244.2.3"), *played.replies[0].end[1:]))
    with pytest.raises(Violation, match="a reply is the inverse of its request"):
        replies_are_inverse(replace(played, replies=(wrong,)))


def test_a_connection_that_moves(run: Run) -> None:
    played = run.play(TALK)
    one_endpoint(played.requests)
    moved = replace(played.requests[1], receiver="default/web-9")
    with pytest.raises(Violation, match="keeps its endpoint"):
        one_endpoint([played.requests[0], moved])


def test_a_foreign_endpoint(run: Run) -> None:
    passage = run.play(TALK).requests[0]
    (service,) = [service for service in run.cluster.services if service.name == "web"]
    only_chosen_endpoints(service, passage, ["10.244.2.2", "10.244.2.3:8080"])
    with pytest.raises(Violation, match="only endpoints of Service default/web"):
        only_chosen_endpoints(service, passage, ["10.244.2.9:8080"])


def test_a_service_that_reaches_what_is_not_its_own(run: Run) -> None:
    played = run.play(TALK)
    service_has_its_endpoints(run, played)
    first = played.requests[0]
    for end in ((ip_address("10.244.2.9"), 8080), (first.end[2], 8081)):
        astray = replace(played, requests=(replace(first, end=(*first.end[:2], *end)),))
        with pytest.raises(Violation, match="only endpoints of Service default/web get its traffic"):
            service_has_its_endpoints(run, astray)


def test_an_endpoint_that_is_not_ready(run: Run) -> None:
    """Judged by the cluster as it is now."""
    played = run.play(TALK)
    pod = played.endpoints[0].partition("/")[2]
    run.change({"endpoint": f"pod/{pod}", "ready": False})
    run.wait(1_000_000_000)
    with pytest.raises(Violation, match="only endpoints"):
        service_has_its_endpoints(run, played)
    service_has_its_endpoints(run, run.play(replace(TALK, sport=40001)))


def test_a_reply_that_is_lost(run: Run) -> None:
    played = run.play(TALK)
    with pytest.raises(Violation, match="the reply to a request that arrived arrives"):
        replies_are_inverse(replace(played, replies=(replace(played.replies[0], verdict=Verdict.DROPPED),)))
    with pytest.raises(Violation, match="a reply reaches the client"):
        replies_are_inverse(replace(played, replies=(replace(played.replies[0], receiver="node-2"),)))


def test_packets_that_are_not_accounted_for(run: Run, tmp_path: Path) -> None:
    run.play(TALK)
    result = run.cluster.replay(save(run, tmp_path) / "failing.pcap")
    accounting_adds_up(result)
    result.accounting.delivered -= 1
    with pytest.raises(Violation, match="packets injected are delivered, dropped"):
        accounting_adds_up(result)
    result.accounting.read += 1
    with pytest.raises(Violation, match="packets read are left out or injected"):
        accounting_adds_up(result)


def test_batches_that_differ(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run.play(TALK)
    capture, replay = save(run, tmp_path) / "failing.pcap", Cluster.replay
    empty = save(Run(run.cluster), tmp_path, "empty") / "empty.pcap"
    monkeypatch.setattr(
        Cluster, "replay", lambda self, path, rows: replay(self, path if rows == 1 else empty, rows=rows)
    )
    with pytest.raises(Violation, match="batches of 7 packets give what batches of 1 give"):
        batch_size_does_not_matter(run.cluster, capture)


def test_an_order_that_matters() -> None:
    """Two packets of one connection: the second finds what the first has left."""
    cluster = shop()
    client, target = (next(pod.ips[0] for pod in cluster.pods if pod.name == name) for name in ("client", "web-0"))
    reset = ("default/client", packet(client, target, TCP, (4000, 80), flags=0x04))
    opening = ("default/client", packet(client, target, TCP, (4000, 80), flags=0x02))
    order_does_not_matter(cluster, [opening, reset], [0, 1])
    with pytest.raises(Violation, match=r"the (verdict|reason|receiver) of a packet does not depend on others"):
        order_does_not_matter(cluster, [opening, reset], [1, 0])


def test_an_index_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules without an index are taken from a cluster without the Service's endpoints."""
    import dataplane.testing.run as running

    cached_and_uncached_agree(shop(), [TALK])
    empty = Run(Cluster(complete(read_manifests([d for d in SHOP if d["metadata"]["name"][:3] != "web"]), 2)))
    other = empty.fabric.compiled("node-1").rules4
    monkeypatch.setattr(running, "rule_by_rule", lambda rules: other)
    with pytest.raises(Violation, match=r"with an index of rules (and|as) without"):
        cached_and_uncached_agree(shop(), [TALK])


def test_two_connections_with_one_reply(run: Run) -> None:
    run.play(TALK)
    rows = list(run.connections("node-1"))
    reply_tuples_are_unique(rows)
    with pytest.raises(Violation, match="share a reply tuple"):
        reply_tuples_are_unique([*rows, replace(rows[0])])


def test_a_frame_that_nobody_received(run: Run) -> None:
    run.play(TALK)
    counters_add_up(run)
    # A frame that comes in at a pod's port without its pod having sent it.
    port = next(name for name in run.fabric.running("node-1").slots if name.startswith("veth"))
    from dataplane._fast.batch import PacketBatch

    batch = PacketBatch.from_frames([bytes(60)], times=[run.now])
    run.fabric.walk.receive(run.fabric.ids["node-1"], run.fabric.running("node-1").slots[port], batch)
    with pytest.raises(Violation, match="what one end of a wire sends"):
        counters_add_up(run)


def test_outcomes_that_differ(run: Run) -> None:
    passages = run.play(TALK).requests
    same_outcome(passages, passages)
    with pytest.raises(Violation, match="the receiver of a packet"):
        same_outcome(passages, [replace(passage, receiver="node-1") for passage in passages])
    with pytest.raises(Violation, match="as many packets"):
        same_outcome(passages, passages[1:])


def test_sightings_say_what_is_inside(run: Run) -> None:
    passage = run.play(TALK).requests[0]
    wrapped = [s for s in passage.sightings if tunnelled(s.packet) is not None]
    assert {parse(sighting.inner).ports[0] for sighting in passage.sightings} == {40000}
    assert all(isinstance(sighting, Sighting) and parse(sighting.packet).protocol == UDP for sighting in wrapped)
