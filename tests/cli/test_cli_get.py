"""`dataplane get`: kubectl's grammar and look, and manifests that load again."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from dataplane.cli import main
from dataplane.cluster import ClusterState, complete, load_manifests

ROOT = Path(__file__).parents[2]
SAMPLE = str(ROOT / "pcaps" / "boutique.yaml")
SHARED = Path(os.environ.get("DATAPLANE_SHARED", ROOT.parent / "shared")) / "data" / "manifests"


def get(capsys: pytest.CaptureFixture[str], *arguments: str, manifests: str = SAMPLE) -> str:
    assert main(["get", *arguments, "-c", manifests]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["get", *arguments, "-c", SAMPLE]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    return output.err


def test_services_of_the_default_namespace(capsys: pytest.CaptureFixture[str]) -> None:
    lines = get(capsys, "services").splitlines()
    assert lines[0].split() == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)"]
    assert [line.split()[0] for line in lines[1:]] == sorted(line.split()[0] for line in lines[1:])
    frontend = next(line for line in lines if line.startswith("frontend "))
    assert frontend.split() == ["frontend", "NodePort", "10.96.0.20", "<none>", "80:30080/TCP"]
    assert not any("kube-dns" in line for line in lines)


def test_namespaces(capsys: pytest.CaptureFixture[str]) -> None:
    assert "kube-dns" in get(capsys, "svc", "-n", "kube-system")
    lines = get(capsys, "svc", "-A").splitlines()
    assert lines[0].startswith("NAMESPACE")
    assert {line.split()[0] for line in lines[1:]} == {"default", "kube-system"}


def test_wide_adds_columns(capsys: pytest.CaptureFixture[str]) -> None:
    narrow, wide = get(capsys, "pods").splitlines()[0], get(capsys, "pods", "-o", "wide").splitlines()[0]
    assert wide.startswith(narrow.rstrip())
    assert {"IP", "NODE"} <= set(wide.split())


def test_pods_are_as_ready_as_stated(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [line.split() for line in get(capsys, "pods").splitlines()[1:]]
    assert {row[0] for row in rows if row[1] == "0/1"} == {"catalog-7f4c8b6d9-zk8mv"}


def test_what_a_deployment_lacks_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    names = get(capsys, "pods", "-o", "name").split()
    assert sum(name.startswith("pod/recommendation-") for name in names) == 2


def test_endpoints_leave_out_who_is_not_ready(capsys: pytest.CaptureFixture[str]) -> None:
    rows = dict(line.split() for line in get(capsys, "endpoints", "--no-headers").splitlines())
    assert rows["catalog"] == "10.244.1.5:3550,10.244.2.5:3550"
    assert rows["payment"] == "<none>"
    assert rows["kubernetes"] == "192.168.1.11:6443"


def test_names_in_the_order_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert get(capsys, "svc", "redis", "cart", "-o", "name") == "service/redis\nservice/cart\n"
    assert get(capsys, "svc/redis", "node/node-2", "-o", "name") == "service/redis\nnode/node-2\n"


def test_several_kinds_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = get(capsys, "svc,nodes").split("\n\n")
    assert blocks[0].splitlines()[1].startswith("service/")
    assert blocks[1].splitlines()[1].startswith("node/")


def test_all_is_what_kubectl_means_by_it(capsys: pytest.CaptureFixture[str]) -> None:
    kinds = {line.split("/")[0] for line in get(capsys, "all", "-o", "name").split()}
    assert {"pod", "service", "deployment"} <= kinds
    assert not kinds & {"node", "namespace", "endpoints", "endpointslice"}


def test_json_of_one_is_the_object_and_of_many_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    one = json.loads(get(capsys, "svc", "frontend", "-o", "json"))
    assert (one["kind"], one["spec"]["clusterIPs"]) == ("Service", ["10.96.0.20", "fd00:10:96::20"])
    many = json.loads(get(capsys, "svc", "-o", "json"))
    assert many["kind"] == "List"
    assert one in many["items"]


def test_csv_has_the_wide_look_of_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    lines = get(capsys, "nodes", "-o", "csv").splitlines()
    assert lines[0] == "name,status,roles,version"
    assert lines[1] == "node-1,Ready,<none>,v1.33.1"


def test_nothing_found_is_said_and_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["get", "pods", "-n", "nowhere", "-c", SAMPLE]) == 0
    output = capsys.readouterr()
    assert output.out == ""
    assert "No resources found in nowhere namespace." in output.err


def test_what_does_not_exist_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert 'services "nope" not found' in refused(capsys, "svc", "nope")
    assert '"bogus"' in refused(capsys, "bogus")
    assert "TYPE/NAME" in refused(capsys, "svc/redis", "cart")
    assert "not both" in refused(capsys, "svc", "svc/cart")


def test_wrong_manifests_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    for text, said in (
        ("a: [", "bad.yaml"),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: http}]}\n", "ports"),
    ):
        path.write_text(text)
        assert main(["get", "svc", "-c", str(path)]) == 2
        output = capsys.readouterr()
        assert said in output.err
        assert "Traceback" not in output.err


def facts(state: ClusterState) -> dict[str, object]:
    """What must survive: all but where it was read and whether it was made here."""
    return {
        "nodes": [replace(node, created=False, last_reserved=()) for node in state.nodes],
        "pods": [(p.namespace, p.name, p.node, p.ips, dict(p.labels), p.ready, p.phase, p.owner) for p in state.pods],
        "services": list(state.services),
        "slices": [replace(piece, created=False) for piece in state.slices],
        "namespaces": {namespace.name for namespace in state.namespaces},
    }


def samples() -> list[Path]:
    return [Path(SAMPLE), *sorted(SHARED.glob("*.yaml"))]


@pytest.mark.parametrize("path", samples(), ids=lambda path: path.stem)
def test_what_get_prints_loads_as_the_same_cluster(
    path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    printed = tmp_path / "printed.yaml"
    kinds = "nodes,namespaces,pods,services,endpointslices,deployments,replicasets,statefulsets,daemonsets"
    printed.write_text(get(capsys, kinds, "-A", "-o", "yaml", manifests=str(path)))
    before, after = complete(load_manifests(str(path))), complete(load_manifests(str(printed)))
    assert len(list(yaml.safe_load(printed.read_text())["items"])) > 10
    for name, value in facts(before).items():
        assert facts(after)[name] == value, name
