"""Tables as kubectl prints them, and manifests that kubectl would take."""

import textwrap

import pytest
from cluster_parts import (
    cluster,
    deployment,
    endpoint,
    endpoint_slice,
    endpoints,
    node,
    pod,
    service,
    workload,
)

from dataplane.cluster import complete, read_manifests
from dataplane.cluster.tables import RESOURCES, resource, table
from dataplane.cluster.write_manifests import manifests
from dataplane.errors import ModelError

SYSTEM = {
    "kubeletVersion": "v1.30.5",
    "osImage": "Debian GNU/Linux 12 (bookworm)",
    "kernelVersion": "6.1.0",
    "containerRuntimeVersion": "containerd://1.7.1",
    "architecture": "amd64",
    "bootID": "1",
    "kubeProxyVersion": "v1.30.5",
    "machineID": "1",
    "operatingSystem": "linux",
    "systemUUID": "1",
}


def printed(state, name, **options):
    """The table as kubectl lays it out: three spaces between columns."""
    found = table(state, name, **options)
    rows = [found.columns, *found.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join(
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows
    )


def golden(text):
    return textwrap.dedent(text).lstrip("\n")


def running(ready, restarts=0, **state):
    return {
        "name": "main",
        "image": "x",
        "imageID": "x",
        "ready": ready,
        "restartCount": restarts,
        "state": state or {"running": {"startedAt": "2024-01-01T00:00:00Z"}},
    }


def test_nodes():
    external = {
        "addresses": [{"type": "InternalIP", "address": "10.0.0.2"}, {"type": "ExternalIP", "address": "34.1.2.3"}]
    }
    state = cluster(
        node(
            "control-1",
            status={**external, "nodeInfo": SYSTEM, "conditions": [{"type": "Ready", "status": "True"}]},
            labels={"node-role.kubernetes.io/control-plane": "", "node-role.kubernetes.io/etcd": ""},
        ),
        node(
            "worker-1", "10.0.0.3", unschedulable=True, status={"conditions": [{"type": "Ready", "status": "Unknown"}]}
        ),
    )
    assert printed(state, "nodes", wide=True) == golden(
        """
        NAME        STATUS                        ROLES                VERSION   INTERNAL-IP   EXTERNAL-IP   OS-IMAGE                         KERNEL-VERSION   CONTAINER-RUNTIME
        control-1   Ready                         control-plane,etcd   v1.30.5   10.0.0.2      34.1.2.3      Debian GNU/Linux 12 (bookworm)   6.1.0            containerd://1.7.1
        worker-1    NotReady,SchedulingDisabled   <none>                         10.0.0.3      <none>        <unknown>                        <unknown>        <unknown>
        """  # noqa: E501
    )
    assert printed(state, "no").splitlines()[0].split() == ["NAME", "STATUS", "ROLES", "VERSION"]


def test_pods():
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    over = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    killed = {"terminated": {"exitCode": 137, "signal": 9}}
    ready = [{"type": "Ready", "status": "True"}]
    unready = [{"type": "Ready", "status": "False"}]
    state = cluster(
        node("n1", "192.168.1.11", cidrs=("10.244.0.0/24",)),
        pod("made"),
        pod(
            "up",
            "10.244.0.9",
            status={"phase": "Running", "conditions": ready, "containerStatuses": [running(True, 4)]},
        ),
        pod(
            "crash",
            "10.244.0.10",
            status={"phase": "Running", "conditions": unready, "containerStatuses": [running(False, 7, **waiting)]},
        ),
        pod(
            "done", status={"phase": "Succeeded", "conditions": unready, "containerStatuses": [running(False, **over)]}
        ),
        pod(
            "killed", status={"phase": "Failed", "conditions": unready, "containerStatuses": [running(False, **killed)]}
        ),
        pod("evicted", status={"phase": "Failed", "reason": "Evicted"}),
        pod("leaving", deletionTimestamp="2024-01-01T00:00:00Z"),
        pod("waiting", status={"phase": "Pending"}),
        pod("creating", nodeName="n1", status={"phase": "Pending"}),
        pod(
            "gated",
            readinessGates=[{"conditionType": "lb"}, {"conditionType": "other"}],
            status={"phase": "Running", "conditions": [*ready, {"type": "lb", "status": "True"}]},
        ),
    )
    assert printed(state, "pods", wide=True) == golden(
        """
        NAME       READY   STATUS              RESTARTS   IP            NODE     NOMINATED NODE   READINESS GATES
        crash      0/1     CrashLoopBackOff    7          10.244.0.10   n1       <none>           <none>
        creating   0/1     ContainerCreating   0          <none>        n1       <none>           <none>
        done       0/1     Completed           0          <none>        <none>   <none>           <none>
        evicted    0/1     Evicted             0          <none>        <none>   <none>           <none>
        gated      1/1     Running             0          10.244.0.2    n1       <none>           1/2
        killed     0/1     Signal:9            0          <none>        <none>   <none>           <none>
        leaving    1/1     Terminating         0          10.244.0.3    n1       <none>           <none>
        made       1/1     Running             0          10.244.0.4    n1       <none>           <none>
        up         1/1     Running             4          10.244.0.9    n1       <none>           <none>
        waiting    0/1     Pending             0          <none>        <none>   <none>           <none>
        """
    )


def test_services():
    balanced = {"loadBalancer": {"ingress": [{"ip": "203.0.113.77"}, {"ip": "203.0.113.10"}]}}
    state = cluster(
        service("kubernetes", ports=({"port": 443, "name": "https", "targetPort": 6443},), clusterIP="10.96.0.1"),
        service(
            "dns",
            {"k8s-app": "dns", "app": "x"},
            clusterIP="10.96.0.10",
            ports=({"port": 53, "name": "u", "protocol": "UDP"}, {"port": 53, "name": "t"}),
        ),
        service("headless", {"app": "x"}, clusterIP="None"),
        service("outside", type="ExternalName", externalName="db.example.com", ports=()),
        service("ports", clusterIP="10.96.0.11", type="NodePort", ports=({"port": 80, "nodePort": 30080},)),
        service("ips", clusterIP="10.96.0.12", externalIPs=["1.2.3.4", "1.2.3.5"]),
        service(
            "lb", clusterIP="10.96.0.13", type="LoadBalancer", ports=({"port": 80, "nodePort": 30081},), status=balanced
        ),
        service("pending", clusterIP="10.96.0.14", type="LoadBalancer", ports=({"port": 80, "nodePort": 30082},)),
        service(
            "both",
            clusterIP="10.96.0.15",
            type="LoadBalancer",
            externalIPs=["1.2.3.6"],
            allocateLoadBalancerNodePorts=False,
            status={"loadBalancer": {"ingress": [{"hostname": "lb.example.com"}]}},
        ),
    )
    assert printed(state, "svc") == golden(
        """
        NAME         TYPE           CLUSTER-IP   EXTERNAL-IP              PORT(S)
        both         LoadBalancer   10.96.0.15   lb.example.com,1.2.3.6   80/TCP
        dns          ClusterIP      10.96.0.10   <none>                   53/UDP,53/TCP
        headless     ClusterIP      None         <none>                   80/TCP
        ips          ClusterIP      10.96.0.12   1.2.3.4,1.2.3.5          80/TCP
        kubernetes   ClusterIP      10.96.0.1    <none>                   443/TCP
        lb           LoadBalancer   10.96.0.13   203.0.113.10,...         80:30081/TCP
        outside      ExternalName   <none>       db.example.com           <none>
        pending      LoadBalancer   10.96.0.14   <pending>                80:30082/TCP
        ports        NodePort       10.96.0.11   <none>                   80:30080/TCP
        """
    )
    wide = table(state, "services", names=["lb", "dns"], wide=True)
    assert wide.columns[-1] == "SELECTOR"
    assert [row[3] for row in wide.rows] == ["203.0.113.10,203.0.113.77", "<none>"]
    assert [row[-1] for row in wide.rows] == ["<none>", "app=x,k8s-app=dns"]


def endpoints_state():
    return cluster(
        node("n1", "192.168.1.11", cidrs=("10.244.0.0/24",)),
        pod("many", labels={"app": "many"}),
        *[pod(f"many-{number}", labels={"app": "many"}) for number in range(4)],
        pod("unready", labels={"app": "few"}, status={"phase": "Running", "conditions": []}),
        pod("ready", labels={"app": "few"}),
        pod("leaving", labels={"app": "few"}, deletionTimestamp="2024-01-01T00:00:00Z"),
        service("many", {"app": "many"}, ports=({"port": 80, "targetPort": 8080},)),
        service("few", {"app": "few"}, ports=({"port": 80, "name": "a"}, {"port": 81, "name": "b"})),
        service("none", {"app": "none"}),
        service("bare"),
        service("name", type="ExternalName", externalName="x"),
        service("legacy"),
        endpoints(
            "legacy",
            {"addresses": [{"ip": "1.1.1.1"}], "notReadyAddresses": [{"ip": "1.1.1.2"}], "ports": [{"port": 9}]},
        ),
        service("written"),
        endpoint_slice("written-1", "written", endpoint("8.8.8.8"), ports=(("any", None), ("x", 7))),
    )


def test_endpoints():
    assert printed(endpoints_state(), "endpoints") == golden(
        """
        NAME      ENDPOINTS
        few       10.244.0.8:80,10.244.0.8:81
        legacy    1.1.1.1:9
        many      10.244.0.3:8080,10.244.0.4:8080,10.244.0.5:8080 + 2 more...
        none      <none>
        written   8.8.8.8:7
        """
    )


def test_endpoint_slices():
    found = table(endpoints_state(), "endpointslices")
    assert found.columns == ("NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS")
    rows = {row[0].rpartition("-")[0]: row[1:] for row in found.rows}
    assert rows["written"] == ("IPv4", "any,7", "8.8.8.8")
    assert rows["none"] == ("IPv4", "<unset>", "<unset>")
    assert rows["legacy"] == ("IPv4", "9", "1.1.1.1,1.1.1.2")
    assert rows["many"] == ("IPv4", "8080", "10.244.0.3,10.244.0.4,10.244.0.5 + 2 more...")
    assert rows["few"][1] == "80,81"


def test_namespaces_and_the_column_of_them():
    state = cluster(service("shop/web", clusterIP="10.96.0.9"), service("web", clusterIP="10.96.0.8"))
    assert table(state, "ns").rows == tuple(
        (name, "Active") for name in ("default", "kube-node-lease", "kube-public", "kube-system", "shop")
    )
    assert printed(state, "services", namespace=None) == golden(
        """
        NAMESPACE   NAME   TYPE        CLUSTER-IP   EXTERNAL-IP   PORT(S)
        default     web    ClusterIP   10.96.0.8    <none>        80/TCP
        shop        web    ClusterIP   10.96.0.9    <none>        80/TCP
        """
    )
    assert [row[2] for row in table(state, "services", namespace="shop").rows] == ["10.96.0.9"]


def test_workloads():
    state = cluster(
        deployment("web", {"app": "web"}, replicas=2),
        workload("StatefulSet", "db", {"app": "db"}),
        workload("DaemonSet", "log", {"app": "log"}, spec={"nodeSelector": {"kubernetes.io/hostname": "node-1"}}),
        workload("ReplicaSet", "rs", {"app": "rs"}),
    )
    assert printed(state, "deploy", wide=True) == golden(
        """
        NAME   READY   UP-TO-DATE   AVAILABLE   CONTAINERS   IMAGES    SELECTOR
        web    2/2     2            2           main         example   app=web
        """
    )
    assert printed(state, "sts") == "NAME   READY\ndb     1/1\n"
    assert printed(state, "rs") == "NAME   DESIRED   CURRENT   READY\nrs     1         1         1\n"
    assert table(state, "ds").rows == (("log", "1", "1", "1", "1", "1", "kubernetes.io/hostname=node-1"),)


def test_names():
    assert [resource(name).name for name in ("po", "Pod", "PODS", "no", "ep", "endpointslice")] == [
        "pods",
        "pods",
        "pods",
        "nodes",
        "endpoints",
        "endpointslices",
    ]
    with pytest.raises(ModelError, match='there is no resource type "secrets": nodes, namespaces, pods'):
        resource("secrets")
    state = cluster(pod("a"))
    with pytest.raises(ModelError, match='pods "b" not found in namespace default'):
        table(state, "pods", names=["b"])
    with pytest.raises(ModelError, match=r'nodes "b" not found$'):
        table(state, "nodes", names=["b"])


def test_manifests_state_what_was_filled_in():
    state = cluster(
        deployment("web", {"app": "web"}, ports=("http:80",)),
        service("web", {"app": "web"}, ports=({"port": 80, "targetPort": "http"},), type="NodePort", labels={"x": "y"}),
        nodes=1,
    )
    made = manifests(state, "pods")["items"][0]
    assert made["metadata"]["ownerReferences"][0]["kind"] == "ReplicaSet"
    assert made["spec"]["nodeName"] == "node-1"
    assert made["spec"]["containers"][0]["image"] == "example"
    assert made["status"] == {
        "conditions": [
            {"status": "True", "type": kind} for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        ],
        "containerStatuses": [
            {
                "image": "example",
                "imageID": "",
                "name": made["spec"]["containers"][0]["name"],
                "ready": True,
                "restartCount": 0,
                "started": True,
                "state": {"running": {}},
            }
        ],
        "phase": "Running",
        "podIP": "10.244.0.2",
        "podIPs": [{"ip": "10.244.0.2"}],
        "hostIP": "192.168.1.11",
        "hostIPs": [{"ip": "192.168.1.11"}],
    }
    [found] = state.services
    spec = manifests(state, "services", names=["web"])["spec"]
    assert spec == {
        "selector": {"app": "web"},
        "ports": [{"port": 80, "targetPort": "http", "protocol": "TCP", "nodePort": found.ports[0].node_port}],
        "type": "NodePort",
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "externalTrafficPolicy": "Cluster",
        "clusterIP": str(found.cluster_ips[0]),
        "clusterIPs": [str(found.cluster_ips[0])],
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
    }
    [legacy] = manifests(state, "endpoints")["items"]
    assert legacy["subsets"] == [
        {
            "addresses": [
                {
                    "ip": "10.244.0.2",
                    "nodeName": "node-1",
                    "targetRef": {"kind": "Pod", "name": made["metadata"]["name"], "namespace": "default"},
                }
            ],
            "ports": [{"port": 80, "protocol": "TCP"}],
        }
    ]
    listed = manifests(state, "nodes", namespace=None)
    assert (listed["kind"], listed["apiVersion"], len(listed["items"])) == ("List", "v1", 1)


def test_what_was_given_is_not_changed_by_printing():
    given = service("web", {"app": "web"}, type="NodePort")
    objects = read_manifests([given])
    state = complete(objects)
    manifests(state, "services")["items"][0]["spec"]["ports"][0]["port"] = 99
    assert given["spec"] == {"selector": {"app": "web"}, "ports": [{"port": 80}], "type": "NodePort"}
    assert manifests(state, "services")["items"][0]["spec"]["ports"][0]["port"] == 80


@pytest.mark.parametrize("kind", RESOURCES, ids=lambda kind: kind.name)
def test_every_kind_prints_as_a_table_and_as_manifests(kind):
    state = endpoints_state()
    for wide in (False, True):
        found = table(state, kind.name, namespace=None, wide=wide)
        assert all(len(row) == len(found.columns) for row in found.rows)
    for item in manifests(state, kind.name, namespace=None)["items"]:
        assert item["kind"] == kind.kind
        assert item["metadata"]["name"]
