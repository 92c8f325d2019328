"""A script of changes: what happens to a cluster, and when.

    events:
    - at: 5s                     # after the first packet; or a time of RFC 3339, or seconds as a number
      scale: deployment/web
      replicas: 5
    - at: 2024-05-01T12:00:10Z
      delete: pod/web-0
      gracePeriod: 30s

Each event has a time, one verb with its object in kubectl's words, and options of the verb. A mistake is an InputError
with file, line and field.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import yaml

from dataplane.cluster.changes import (
    WORKLOADS,
    Apply,
    Change,
    Delete,
    RestartPod,
    Rollout,
    Scale,
    SetEndpoint,
)
from dataplane.cluster.documents import flatten, parse_yaml
from dataplane.cluster.manifests import read_documents
from dataplane.cluster.node_changes import LoseNode, ProxyMode, RestartProxy, ReturnNode
from dataplane.cluster.objects import ClusterState, Origin
from dataplane.errors import InputError, ManifestError, ModelError

SECOND = 1_000_000_000
_UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ns|us|ms|s|m|h))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)")
# kubectl's names of the kinds, singular, plural and short.
_KINDS = {
    name: kind
    for kind, names in {
        "Pod": "pod pods po",
        "Service": "service services svc",
        "Node": "node nodes no",
        "EndpointSlice": "endpointslice endpointslices",
        "Deployment": "deployment deployments deploy",
        "StatefulSet": "statefulset statefulsets sts",
        "DaemonSet": "daemonset daemonsets ds",
        "ReplicaSet": "replicaset replicasets rs",
        "ReplicationController": "replicationcontroller replicationcontrollers rc",
        "Job": "job jobs",
    }.items()
    for name in names.split()
}


@dataclass(frozen=True, slots=True)
class Event:
    """time: ns; since the epoch if `absolute`, else from the first packet on. change: or what makes one of the state
    when its time has come. where: of the event in its file, for messages."""

    time: int
    change: Change | Callable[[ClusterState], Change]
    absolute: bool = False
    file: str = ""
    where: str = ""

    def at(self, first: int) -> int:
        """ns since the epoch; first: of the first packet."""
        return self.time if self.absolute else first + self.time


def load_events(path: str | Path) -> list[Event]:
    """The events of a YAML or JSON file ("-" is the standard input), in the order in which they stand there."""
    file = str(path)
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(file, message=error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise InputError(file, f"byte {error.start}", "", "this is not UTF-8 text") from None
    return parse_events(text, file)


def parse_events(text: str, file: str = "events.yaml") -> list[Event]:
    """The events of a text: documents that are a list of events, or a mapping that has them at `events`."""
    events: list[Event] = []
    lines = _lines(text, file)
    for number, value in parse_yaml(file, text):
        if value is None:
            continue
        items = value.get("events") if isinstance(value, dict) and "at" not in value else value
        if isinstance(value, dict) and "at" in value:
            items = [value]
        elif isinstance(value, dict):
            unknown = [key for key in value if key not in ("events", "apiVersion", "kind", "metadata")]
            if unknown:
                raise InputError(file, f"document {number}", unknown[0], "is not read; the events stand at `events`")
        if not isinstance(items, list):
            raise InputError(file, f"document {number}", "events", "is not a list of events")
        places = lines.get(number, [])
        for index, item in enumerate(items):
            line = f"line {places[index]}" if index < len(places) else f"document {number}"
            events.append(read_event(item, file, line, Origin(file, number, index + 1)))
    return events


def _lines(text: str, file: str) -> dict[int, list[int]]:
    """document -> the line of each of its events."""
    found: dict[int, list[int]] = {}
    try:
        for number, node in enumerate(yaml.compose_all(text, Loader=yaml.CSafeLoader), 1):
            if isinstance(node, yaml.MappingNode):
                node = next((value for key, value in node.value if key.value == "events"), node)
            if isinstance(node, yaml.SequenceNode):
                found[number] = [item.start_mark.line + 1 for item in node.value]
            elif node is not None:
                found[number] = [node.start_mark.line + 1]
    except yaml.YAMLError:
        return {}  # parse_yaml says what is wrong, and where
    return found


def read_event(value: object, file: str = "", where: str = "", origin: Origin | None = None) -> Event:
    """One event, as a plain mapping."""
    fields = _Fields(value, file, where, origin or Origin(file, 1))
    time, absolute = read_time(fields.take("at", required=True), file, where)
    change = _change(fields)
    fields.nothing_left()
    return Event(time, change, absolute, file, where)


def read_change(value: Mapping[str, object]) -> Change | Callable[[ClusterState], Change]:
    """One change, as a plain mapping without a time."""
    fields = _Fields(dict(value), "", "", Origin("", 1))
    change = _change(fields)
    fields.nothing_left()
    return change


def read_time(value: object, file: str = "", where: str = "") -> tuple[int, bool]:
    """(ns, whether since the epoch) of 5, 2.5, "5s", "1m30s" or "2024-05-01T12:00:10.5Z"."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InputError(file, where, "at", f"{value} has no time zone")
        return _since_epoch(value.replace(microsecond=0)) + value.microsecond * 1000, True
    if isinstance(value, str) and (match := _TIME.fullmatch(value)):
        try:
            zone = "+00:00" if match[3] in "zZ" else match[3]
            moment = datetime.fromisoformat(match[1].replace(" ", "T").upper() + zone)
        except ValueError as error:
            raise InputError(file, where, "at", f"{value!r}: {error}") from None
        return _since_epoch(moment) + int((match[2] or "0").ljust(9, "0")), True
    return _duration(value, "at", file, where), False


def _since_epoch(moment: datetime) -> int:
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86400 + since.seconds) * SECOND


def _duration(value: object, field: str, file: str, where: str) -> int:
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 and value < 1e9:
        return round(value * SECOND)
    if isinstance(value, str):
        text = value.strip()
        if re.fullmatch(r"\d+(?:\.\d+)?", text):
            return round(float(text) * SECOND)
        if _DURATION.fullmatch(text):
            return round(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text)))
    wanted = "a duration (5s, 1m30s, seconds)" + (
        " or a time of RFC 3339 (2024-05-01T12:00:00Z)" if field == "at" else ""
    )
    raise InputError(file, where, field, f"{value!r} is not {wanted}")


def duration(text: str, field: str, file: str = "", where: str = "") -> int:
    """ns of "5s", "1m30s", "500ms" or seconds. Raises InputError."""
    return _duration(text, field, file, where)


class _Fields:
    """The fields of one event, each taken once; what is left over was not meant."""

    def __init__(self, value: object, file: str, where: str, origin: Origin) -> None:
        self.file, self.where, self.origin = file, where, origin
        if not isinstance(value, dict):
            raise InputError(file, where, "", "an event is a mapping with `at` and a verb")
        self.left: dict[str, Any] = dict(value)

    def error(self, field: str, message: str) -> InputError:
        return InputError(self.file, self.where, field, message)

    def take(self, name: str, *, required: bool = False) -> Any:
        if required and name not in self.left:
            raise self.error(name, "is missing")
        return self.left.pop(name, None)

    def text(self, name: str, default: str = "") -> str:
        value = self.take(name)
        if value is None:
            return default
        if not isinstance(value, str) or not value:
            raise self.error(name, f"{value!r} is not a name")
        return value

    def flag(self, name: str) -> bool | None:
        value = self.take(name)
        if value is not None and not isinstance(value, bool):
            raise self.error(name, f"{value!r} is neither true nor false")
        return value

    def duration(self, name: str, default: int = 0) -> int:
        value = self.take(name)
        return default if value is None else _duration(value, name, self.file, self.where)

    def number(self, name: str) -> int:
        value = self.take(name, required=True)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.error(name, f"{value!r} is not a number of pods")
        return value

    def share(self, name: str, default: str) -> str:
        value = self.take(name)
        if value is None:
            return default
        if re.fullmatch(r"\d+%?", str(value)) is None or isinstance(value, bool):
            raise self.error(name, f"{value!r} is neither a number of pods nor a percentage")
        return str(value)

    def object(self, verb: str, kinds: Sequence[str]) -> tuple[str, str, str]:
        """(kind, namespace, name) of `deployment/web` or `deployment/shop/web`; `namespace` may stand beside it."""
        value = self.take(verb, required=True)
        namespace = self.text("namespace", "default")
        parts = value.split("/") if isinstance(value, str) else []
        kind = _KINDS.get(parts[0].lower().partition(".")[0]) if parts else None
        if not 2 <= len(parts) <= 3 or not all(parts) or kind is None:
            raise self.error(verb, f"{value!r} is not KIND/NAME, such as {kinds[0].lower()}/web")
        if kind not in kinds:
            raise self.error(verb, f"a {kind} cannot be meant; {', '.join(kinds)} can")
        if len(parts) == 3:
            namespace = parts[1]
        return kind, namespace, parts[-1]

    def nothing_left(self) -> None:
        if self.left:
            verbs = [name for name in self.left if name in _VERBS]
            why = "an event has one verb" if verbs else "is no option of this event"
            raise self.error((verbs or list(self.left))[0], why)


def _change(fields: _Fields) -> Change | Callable[[ClusterState], Change]:
    verb = next((name for name in fields.left if name in _VERBS), None)
    if verb is None:
        raise fields.error("", f"no verb: one of {', '.join(_VERBS)}")
    try:
        return _VERBS[verb](fields)
    except ModelError as error:
        raise fields.error(verb, str(error)) from None


def _apply(fields: _Fields) -> Apply:
    value = fields.take("apply")
    values = value if isinstance(value, list) else [value]
    try:
        documents = [document for item in values for document in flatten(item, fields.origin)]
        objects = read_documents(documents)
    except ManifestError as error:
        raise fields.error(f"apply: {error.field}".rstrip(": "), error.message) from None
    for ignored in objects.ignored:
        raise fields.error("apply", f"{ignored.kind} {ignored.name}: {ignored.why}")
    if objects.configs:
        raise fields.error("apply", f"{objects.configs[0].kind}: agents read their configuration when they start")
    return Apply(objects, fields.duration("readyAfter"))


def _delete(fields: _Fields) -> Delete:
    kind, namespace, name = fields.object("delete", ("Pod", "Service", "EndpointSlice", "Node", *WORKLOADS))
    return Delete(
        kind,
        "" if kind == "Node" else namespace,
        name,
        fields.duration("gracePeriod"),
        fields.duration("readyAfter"),
    )


def _endpoint(fields: _Fields) -> SetEndpoint:
    value = fields.take("endpoint")
    namespace, pod, address = fields.text("namespace", "default"), "", ""
    try:
        address = str(ip_address(value))
        if isinstance(value, str):
            address = value
    except ValueError:
        parts = value.split("/") if isinstance(value, str) else []
        if not 2 <= len(parts) <= 3 or _KINDS.get(parts[0].lower()) != "Pod" or not all(parts):
            raise fields.error("endpoint", f"{value!r} is neither pod/NAME nor an address") from None
        pod = parts[-1]
        namespace = parts[1] if len(parts) == 3 else namespace
    service = fields.text("service")
    ready, serving, terminating = (fields.flag(name) for name in ("ready", "serving", "terminating"))
    if ready is None and serving is None and terminating is None:
        raise fields.error("endpoint", "needs ready, serving or terminating")
    return SetEndpoint(namespace, pod, address, service, ready, serving, terminating)


def _restart(fields: _Fields) -> Change | Callable[[ClusterState], Change]:
    kind, namespace, name = fields.object("restart", ("Pod", "Deployment", "StatefulSet", "DaemonSet"))
    if kind == "Pod":
        return RestartPod(namespace, name, fields.duration("readyAfter"))
    return _rolling(fields, kind, namespace, name)


def _scale(fields: _Fields) -> Scale:
    kinds = ("Deployment", "StatefulSet", "ReplicaSet", "ReplicationController")
    kind, namespace, name = fields.object("scale", kinds)
    return Scale(
        kind,
        namespace,
        name,
        fields.number("replicas"),
        fields.duration("readyAfter"),
        fields.duration("gracePeriod"),
    )


def _rollout(fields: _Fields) -> Change | Callable[[ClusterState], Change]:
    kind, namespace, name = fields.object("rollout", ("Deployment", "StatefulSet", "DaemonSet"))
    return _rolling(fields, kind, namespace, name)


def _rolling(fields: _Fields, kind: str, namespace: str, name: str) -> Callable[[ClusterState], Change]:
    surge, unavailable = fields.share("maxSurge", "25%"), fields.share("maxUnavailable", "25%")
    ready, grace = fields.duration("readyAfter"), fields.duration("gracePeriod")

    def made(state: ClusterState) -> Change:
        for workload in state.workloads:
            if (workload.kind, workload.namespace, workload.name) == (kind, namespace, name):
                return Rollout(workload, surge, unavailable, ready, grace)
        raise ModelError(f"no {kind} {namespace}/{name}")

    return made


def _lose(fields: _Fields) -> LoseNode:
    _, _, name = fields.object("lose", ("Node",))
    return LoseNode(name, fields.duration("notReadyAfter", 40 * SECOND), fields.duration("evictAfter", 300 * SECOND))


def _return(fields: _Fields) -> ReturnNode:
    _, _, name = fields.object("return", ("Node",))
    return ReturnNode(name, bool(fields.flag("rebooted")), fields.duration("readyAfter"))


def _restart_proxy(fields: _Fields) -> RestartProxy:
    value = fields.take("restartProxy")
    if value != "*":
        fields.left["restartProxy"] = value
        _, _, value = fields.object("restartProxy", ("Node",))
    return RestartProxy(value, fields.duration("for"))


def _proxy_mode(fields: _Fields) -> ProxyMode:
    return ProxyMode(fields.text("proxyMode"), bool(fields.flag("cleanup")))


_VERBS: dict[str, Callable[[_Fields], Change | Callable[[ClusterState], Change]]] = {
    "apply": _apply,
    "delete": _delete,
    "endpoint": _endpoint,
    "restart": _restart,
    "scale": _scale,
    "rollout": _rollout,
    "lose": _lose,
    "return": _return,
    "restartProxy": _restart_proxy,
    "proxyMode": _proxy_mode,
}
