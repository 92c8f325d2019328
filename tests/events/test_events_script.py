"""The script of events: what it says, and what is wrong with it, with file, line and field."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from dataplane import Cluster
from dataplane.cluster.changes import (
    Apply,
    Delete,
    RestartPod,
    Rollout,
    Scale,
    SetEndpoint,
)
from dataplane.cluster.events import load_events, parse_events, read_time
from dataplane.cluster.node_changes import LoseNode, ProxyMode, RestartProxy, ReturnNode
from dataplane.errors import InputError, ModelError
from dataplane.sync_delay import SyncDelay, SyncDelays

SHOP = Path(__file__).parent / "shop.yaml"
SECOND = 1_000_000_000

EVERYTHING = """\
events:
- at: 1.5
  apply:
    apiVersion: v1
    kind: Service
    metadata: {name: web, namespace: shop}
    spec: {ports: [{port: 80}]}
- {at: 2s, delete: pod/web-0, namespace: shop, gracePeriod: 30s, readyAfter: 2s}
- {at: 1m30s, endpoint: po/shop/web-1, ready: false, serving: true}
- {at: 100, endpoint: 10.244.1.7, service: web, terminating: true}
- {at: "2024-05-01T12:00:00.25Z", restart: pod/web-1, readyAfter: 500ms}
- {at: 2024-05-01T14:00:00+02:00, scale: deploy/web, replicas: 5}
- {at: 3, rollout: deployment/web, maxSurge: 1, maxUnavailable: 0%, readyAfter: 5}
- {at: 4, lose: node/node-2, evictAfter: 0}
- {at: 5, restartProxy: node/node-1, for: 2s}
- {at: 6, restartProxy: "*"}
- {at: 7, proxyMode: iptables}
- {at: 8, return: node/node-2, rebooted: true, readyAfter: 3s}
- {at: 9, proxyMode: none, cleanup: true}
"""


def test_every_verb() -> None:
    events = parse_events(EVERYTHING)
    assert [event.where for event in events] == [f"line {n}" for n in (2, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19)]
    changes = [event.change for event in events]
    applied = changes[0]
    assert isinstance(applied, Apply)
    assert str(applied) == "apply service/web"
    assert changes[1] == Delete("Pod", "shop", "web-0", grace=30 * SECOND, ready_after=2 * SECOND)
    assert changes[2] == SetEndpoint("shop", pod="web-1", ready=False, serving=True)
    assert changes[3] == SetEndpoint("default", address="10.244.1.7", service="web", terminating=True)
    assert changes[4] == RestartPod("default", "web-1", ready_after=SECOND // 2)
    assert changes[5] == Scale("Deployment", "default", "web", 5)
    assert changes[7] == LoseNode("node-2", 40 * SECOND, 0)
    assert changes[8] == RestartProxy("node-1", 2 * SECOND)
    assert changes[9] == RestartProxy("*")
    assert changes[10] == ProxyMode("iptables")
    assert changes[11] == ReturnNode("node-2", rebooted=True, ready_after=3 * SECOND)
    assert changes[12] == ProxyMode("none", cleanup=True)
    rollout = changes[6]
    assert callable(rollout)
    made = rollout(Cluster.load(SHOP).state)
    assert isinstance(made, Rollout)
    assert (made.max_surge, made.max_unavailable, made.ready_after) == ("1", "0%", 5 * SECOND)


def test_times() -> None:
    first = 1_714_564_700 * SECOND
    events = parse_events(EVERYTHING)
    noon = round(datetime(2024, 5, 1, 12, tzinfo=UTC).timestamp()) * SECOND
    assert [event.at(first) - first for event in events[:4]] == [1_500_000_000, 2 * SECOND, 90 * SECOND, 100 * SECOND]
    assert events[4].at(first) == noon + 250_000_000
    assert events[5].at(first) == noon
    assert read_time("1h2m3.5s") == (3_723_500_000_000, False)
    assert read_time(datetime(2024, 5, 1, 12, microsecond=7, tzinfo=UTC)) == (noon + 7000, True)


def test_forms_of_a_script(tmp_path: Path) -> None:
    """A list, one event a document, JSON, several files' worth in one."""
    assert len(parse_events("- {at: 1, restartProxy: '*'}\n- {at: 2, restartProxy: '*'}\n")) == 2
    assert len(parse_events("at: 1\nrestartProxy: '*'\n---\nat: 2\nrestartProxy: '*'\n---\n")) == 2
    assert len(parse_events('{"events": [{"at": 1, "restartProxy": "*"}]}')) == 1
    assert parse_events("") == []
    path = tmp_path / "events.yaml"
    path.write_text(EVERYTHING)
    assert [event.file for event in load_events(path)] == [str(path)] * 13


@pytest.mark.parametrize(
    ("text", "where", "field", "message"),
    [
        ("- scale: deployment/web\n  replicas: 2\n", "line 1", "at", "is missing"),
        ("- at: soon\n  restartProxy: '*'\n", "line 1", "at", "is not a duration"),
        ("- at: 2024-13-01T00:00:00Z\n  restartProxy: '*'\n", "line 1", "at", "month must be"),
        ("- at: 1\n  restartProxy: '*'\n- at: 2\n", "line 3", "", "no verb"),
        ("- at: 1\n  scale: deployment/web\n", "line 1", "replicas", "is missing"),
        ("- at: 1\n  scale: deployment/web\n  replicas: many\n", "line 1", "replicas", "not a number of pods"),
        ("- at: 1\n  scale: deployment/web\n  replicas: 2\n  size: 3\n", "line 1", "size", "is no option"),
        ("- at: 1\n  scale: deployment/web\n  replicas: 2\n  delete: pod/a\n", "line 1", "delete", "one verb"),
        ("- at: 1\n  scale: daemonset/web\n  replicas: 2\n", "line 1", "scale", "a DaemonSet cannot be meant"),
        ("- at: 1\n  delete: web-0\n", "line 1", "delete", "is not KIND/NAME"),
        ("- at: 1\n  endpoint: pod/web\n", "line 1", "endpoint", "needs ready, serving or terminating"),
        ("- at: 1\n  endpoint: web\n  ready: true\n", "line 1", "endpoint", "neither pod/NAME nor an address"),
        ("- at: 1\n  endpoint: pod/web\n  ready: maybe\n", "line 1", "ready", "neither true nor false"),
        ("- at: 1\n  rollout: deployment/web\n  maxSurge: most\n", "line 1", "maxSurge", "neither a number"),
        ("- at: 1\n  proxyMode: nftables\n", "line 1", "proxyMode", "is not modelled; iptables, ipvs and none are"),
        ("- at: 1\n  apply: {kind: Service}\n", "line 1", "apply: apiVersion", "is missing"),
        ("- at: 1\n  apply: {apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: x}}\n",
         "line 1", "apply: Service default/a: spec.ports", ""),
        ("- at: 1\n  apply: {apiVersion: v1, kind: Secret, metadata: {name: a}}\n", "line 1", "apply", "Secret a"),
        ("events: 5\n", "document 1", "events", "is not a list"),
        ("event: []\n", "document 1", "event", "is not read"),
        ("- 5\n", "line 1", "", "is a mapping"),
        ("- at: [\n", "document 1, line 2", "", "YAML"),
    ],
)  # fmt: skip
def test_mistakes(text: str, where: str, field: str, message: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_events(text, "script.yaml")
    error = raised.value
    assert (error.file, error.where, error.field) == ("script.yaml", where, field)
    assert message in error.message


def test_a_change_that_finds_nothing_names_its_line() -> None:
    """What the script asks of objects that are not there is known only when its time has come."""
    for change in (
        {"scale": "deployment/nowhere", "replicas": 2},
        {"delete": "pod/nobody"},
        {"restart": "pod/nobody"},
        {"rollout": "deployment/nowhere"},
        {"endpoint": "10.0.0.99", "ready": False},
        {"lose": "node/atlantis"},
        {"restartProxy": "node/atlantis"},
    ):
        text = "- at: 1\n" + "".join(f"  {key}: {str(value).lower()}\n" for key, value in change.items())
        cluster = Cluster.load(SHOP)
        timeline = cluster.timeline(cluster.fabric(), parse_events(text, "script.yaml"))
        timeline.start(0)
        with pytest.raises(InputError, match=r"script\.yaml: line 1: .*no "):
            timeline.until(SECOND)


def test_sync_delays() -> None:
    delays = SyncDelays.parse(["500ms", "node-2=1s+250ms,node-3=2"])
    assert delays.of("node-1") == SyncDelay(500_000_000)
    assert delays.of("node-2") == SyncDelay(SECOND, 250_000_000)
    assert delays.of("node-3") == SyncDelay(2 * SECOND)
    for text in ("soon", "node-1=", "=1s", "1s+", "1s + 2s", ""):
        with pytest.raises(InputError, match="--sync-delay"):
            SyncDelays.parse([text])
    cluster = Cluster.load(SHOP)
    with pytest.raises(ModelError, match="no node 'node-9'"):
        cluster.timeline(cluster.fabric(), (), "node-9=1s")
