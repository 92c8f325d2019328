"""Endpoints come and go while connections live; a failing example is saved as files that replay shows."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dataplane.cli import main
from dataplane.cluster import complete, read_manifests
from dataplane.cluster.objects import Config
from dataplane.emulation import Cluster
from dataplane.testing import ChurnMachine, Conversation, Run, check, clusters, conversations, saving
from dataplane.testing.wire import UDP


class TestChurn(ChurnMachine.TestCase):
    settings = settings(max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck))


def test_a_failing_example_shrinks_and_is_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A law that does not hold: no client ever talks twice."""

    @settings(max_examples=40, deadline=None, database=None, phases=set(Phase) - {Phase.explain})
    @given(st.data())
    def never_twice(data: st.DataObject) -> None:
        cluster = data.draw(clusters(max_nodes=2, families=1))
        with saving(Run(cluster), tmp_path) as run:
            played = run.play(data.draw(conversations(cluster, protocols=(UDP,))))
            check(run, played)
            assert len(played.requests) < 2

    with pytest.raises(AssertionError) as caught:
        never_twice()
    assert any("dataplane replay" in note for note in caught.value.__notes__)
    documents = list(yaml.safe_load_all((tmp_path / "failing.yaml").read_text()))
    assert [document["metadata"]["name"] for document in documents if document["kind"] == "Node"] == ["node-1"]
    command = ["replay", str(tmp_path / "failing.pcap"), "-c", str(tmp_path / "failing.yaml"), "-o", "json"]
    assert main(command) in (0, 1)
    shown = yaml.safe_load(capsys.readouterr().out)
    assert 2 <= shown["accounting"]["read"] <= 4, "the smallest example has two requests"


def test_an_example_in_ipvs_mode_is_saved_with_its_mode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whether the manifests or the call said it: what `dataplane replay` shows is the same proxy, and the same end."""
    state = _one_service().state
    config = Config(
        "KubeProxyConfiguration",
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "mode": "ipvs",
            "kind": "KubeProxyConfiguration",
            "ipvs": {"scheduler": "sh"},
        },
    )
    flannel = Config("net-conf.json", {"Network": "10.244.0.0/16", "Backend": {"Type": "host-gw"}})
    for number, cluster in enumerate(
        [Cluster(state, mode="ipvs", kube_version=(1, 33)), Cluster(replace(state, configs=(config, flannel)))]
    ):
        run = Run(cluster)
        run.play(Conversation("default/client", "10.96.0.10", UDP, 4000, 53))
        with pytest.raises(AssertionError) as caught, saving(run, tmp_path, f"case-{number}"):
            raise AssertionError
        words = caught.value.__notes__[0].removeprefix("saved; dataplane ").split()
        assert main([*words, "-o", "json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert shown["accounting"]["delivered"] == 2
        again = Cluster.load(tmp_path / f"case-{number}.yaml", mode="" if number else "ipvs")
        assert again.agents.proxy == cluster.agents.proxy
        assert again.host_config("node-1") == cluster.host_config("node-1")


def test_changes_are_saved_as_events(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(_one_service())
    talk = Conversation("default/client", "10.96.0.10", UDP, 4000, 53)
    run.play(talk)
    run.change({"scale": "deployment/dns", "replicas": 0})
    played = run.play(Conversation("default/client", "10.96.0.10", UDP, 4001, 53))
    assert not played.requests[0].delivered, "no endpoint is left"
    with pytest.raises(AssertionError, match="on purpose"), saving(run, tmp_path):
        raise AssertionError("on purpose")
    events = yaml.safe_load((tmp_path / "failing.events.yaml").read_text())["events"]
    assert events[0]["scale"] == "deployment/dns"
    status = main(
        [
            "replay",
            str(tmp_path / "failing.pcap"),
            "-c",
            str(tmp_path / "failing.yaml"),
            "--events",
            str(tmp_path / "failing.events.yaml"),
        ]
    )
    assert status == 1
    assert "NETFILTER_REJECT" in capsys.readouterr().out


def _one_service() -> Cluster:
    template = {"metadata": {"labels": {"app": "dns"}}, "spec": {"containers": [{"name": "dns", "image": "dns"}]}}
    documents = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "client", "namespace": "default"},
            "spec": {"containers": [{"name": "main", "image": "busybox"}]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "dns", "namespace": "default"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "dns"}}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "dns", "namespace": "default"},
            "spec": {"clusterIP": "10.96.0.10", "selector": {"app": "dns"}, "ports": [{"port": 53, "protocol": "UDP"}]},
        },
    ]
    return Cluster(complete(read_manifests(documents), 2))
