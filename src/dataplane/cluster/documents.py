"""Files, folders and the standard input -> documents: plain values, each with its place.

YAML is read as Kubernetes reads it (sigs.k8s.io/yaml): the values of JSON, so that a date stays text, and a mapping
that names a key twice is an error. The events of PyYAML's C parser are put together here, because its own composer
and constructor take twice as long and know dates and base 60.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dataplane.cluster.objects import Origin
from dataplane.errors import ManifestError

SUFFIXES = (".yaml", ".yml", ".json")

# What aliases may blow a document up to, in nodes: a manifest has a handful of them, an attack billions.
ALIAS_LIMIT = 1_000_000
# Levels of collections: objects of the API have a dozen, and what is deeper would exhaust the stack of some reader.
DEPTH_LIMIT = 200
_DEEP = f"nested more than {DEPTH_LIMIT} levels deep"


@dataclass(frozen=True, slots=True)
class Document:
    origin: Origin
    value: dict[str, Any]


def load_documents(paths: Iterable[str | Path]) -> Iterator[Document]:
    """Every object of the files, of folders (recursive; *.yaml, *.yml, *.json, by name) and of "-" (standard input).

    A List gives its items. Empty documents are passed over but counted. Raises ManifestError for what cannot be read.
    """
    for path in paths:
        for file in _files(path):
            for number, value in _parse(file, _text(file)):
                if value is not None:
                    yield from flatten(value, Origin(file, number))


def _files(path: str | Path) -> list[str]:
    if str(path) == "-":
        return ["-"]
    folder = Path(path)
    if not folder.is_dir():
        return [str(path)]
    files = sorted(str(file) for file in folder.rglob("*") if file.suffix in SUFFIXES and file.is_file())
    if not files:
        raise ManifestError(path, "", "", f"no {', '.join('*' + suffix for suffix in SUFFIXES)} in this folder")
    return files


def _text(file: str) -> str:
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise ManifestError(file, "", "", error.strerror or str(error)) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(file, f"byte {error.start}", "", "this is not UTF-8 text") from None


def _parse(file: str, text: str) -> Iterator[tuple[int, Any]]:
    if file.endswith(".json") or (file == "-" and text.lstrip()[:1] in ("{", "[")):
        return parse_json(file, text)
    return parse_yaml(file, text)


def flatten(value: Any, origin: Origin) -> Iterator[Document]:
    """A document, or the items of a List; each is a mapping with apiVersion and kind, or a ManifestError."""
    if not isinstance(value, dict):
        raise ManifestError(
            origin.file, origin.where, "", f"a manifest is a mapping with apiVersion and kind, this is {_a(value)}"
        )
    kind = value.get("kind")
    items = value.get("items")
    if isinstance(kind, str) and kind.endswith("List") and ("items" in value or kind == "List"):
        if items is None:
            return
        if not isinstance(items, list):
            raise ManifestError(origin.file, origin.where, f"{kind}: items", f"is {_a(items)}, not a list")
        for number, item in enumerate(items, 1):
            if isinstance(item, dict) and "kind" not in item and kind != "List":
                # The API's own lists (PodList) leave the kind of their items out.
                item = {"apiVersion": value.get("apiVersion"), "kind": kind.removesuffix("List"), **item}
            yield from flatten(item, Origin(origin.file, origin.document, number))
        return
    for name in ("apiVersion", "kind"):
        if name not in value:
            raise ManifestError(origin.file, origin.where, name, "is missing")
        if not isinstance(value[name], str) or not value[name]:
            raise ManifestError(origin.file, origin.where, name, f"is {_a(value[name])}, not a name")
    yield Document(origin, value)


def _a(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return "empty" if value is None or value == "" else names.get(type(value), type(value).__name__)


def parse_json(file: str, text: str) -> Iterator[tuple[int, Any]]:
    """(number, value) of one or more JSON documents that follow one another."""
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    space = re.compile(r"\s*")
    number = 1
    at = _end(space, text, 0)
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise ManifestError(file, f"document {number}, line {error.lineno}", "", f"JSON: {error.msg}") from None
        except (ValueError, RecursionError) as error:
            message = _DEEP if isinstance(error, RecursionError) else str(error)
            raise ManifestError(file, f"document {number}", "", f"JSON: {message}") from None
        if _too_deep(value):
            raise ManifestError(file, f"document {number}", "", f"JSON: {_DEEP}")
        yield number, value
        number += 1
        at = _end(space, text, at)


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEPTH_LIMIT):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(part for part in item.values() if isinstance(part, dict | list))
            elif isinstance(item, list):
                inner.extend(part for part in item if isinstance(part, dict | list))
        if not inner:
            return False
        level = inner
    return True


def _end(space: re.Pattern[str], text: str, at: int) -> int:
    match = space.match(text, at)
    return match.end() if match else at


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"), False),
}
_FIRST = frozenset("0123456789-+.~nNtTfFyYoO")
_INTEGER = re.compile(r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)\Z")
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?\Z")
_TAGS = {f"tag:yaml.org,2002:{name}": name for name in ("str", "int", "float", "bool", "null", "seq", "map")}


def _plain(text: str) -> Any:
    """The value of a scalar without quotes."""
    if text and text[0] not in _FIRST:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.match(text):
        digits = text.replace("_", "").lower()
        body = digits.lstrip("+-")
        if len(body) > 1 and body[0] == "0" and body[1] in "01234567":
            digits = digits.replace("0", "0o", 1)
        if len(body) <= 40:
            return int(digits, 0)
    elif _FLOAT.match(text):
        return float(text.replace("_", ""))
    return text


class _Frame:
    """A collection that is being read."""

    __slots__ = ("anchor", "key", "merges", "start", "value")

    def __init__(self, value: dict[str, Any] | list[Any], anchor: str | None, start: int) -> None:
        self.value = value
        self.anchor = anchor
        self.start = start
        self.key: str | None = None
        self.merges: list[Any] = []


_ABSENT = object()


def parse_yaml(file: str, text: str) -> Iterator[tuple[int, Any]]:
    """(number, value) of each YAML document; an empty one gives None."""
    number = 1
    try:
        frames: list[_Frame] = []
        anchors: dict[str, tuple[Any, int]] = {}
        nodes = expanded = 0
        root: Any = None
        value: Any
        events: Iterator[Any] = yaml.parse(text, Loader=yaml.CSafeLoader)
        for event in events:
            kind = type(event)
            anchor: str | None = None
            if kind is yaml.ScalarEvent:
                nodes += 1
                anchor = event.anchor
                tag = event.tag
                value = (
                    (_plain(event.value) if event.implicit[0] else event.value)
                    if tag is None
                    else _tagged(file, number, event, tag)
                )
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                nodes += 1
                if event.tag is not None and _TAGS.get(event.tag, "") not in ("seq", "map"):
                    raise _error(file, number, event, f"tag {event.tag} is not read")
                if frames and frames[-1].key is None and isinstance(frames[-1].value, dict):
                    raise _error(file, number, event, "a key of a mapping is text, this is a collection")
                if len(frames) >= DEPTH_LIMIT:
                    raise _error(file, number, event, _DEEP)
                frames.append(_Frame({} if kind is yaml.MappingStartEvent else [], event.anchor, nodes))
                continue
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                frame = frames.pop()
                value = frame.value
                for merged in frame.merges:
                    for key, item in merged.items():
                        value.setdefault(key, item)
                if frame.anchor is not None:
                    anchors[frame.anchor] = value, nodes - frame.start + 1
            elif kind is yaml.AliasEvent:
                if event.anchor not in anchors:
                    raise _error(file, number, event, f"alias *{event.anchor} names no anchor")
                value, size = anchors[event.anchor]
                nodes += size
                expanded += size
                if expanded > ALIAS_LIMIT:
                    raise _error(file, number, event, f"aliases expand to more than {ALIAS_LIMIT} nodes")
            elif kind is yaml.DocumentEndEvent:
                yield number, root
                number += 1
                root = None
                anchors.clear()
                continue
            else:
                continue

            if anchor is not None:
                anchors[anchor] = value, 1
            if not frames:
                root = value
                continue
            frame = frames[-1]
            holder = frame.value
            if isinstance(holder, list):
                holder.append(value)
            elif frame.key is None:
                if isinstance(value, dict | list):
                    raise _error(file, number, event, "a key of a mapping is text, this is a collection")
                # Keys are text in JSON: 1 and true become "1" and "true".
                frame.key = value if isinstance(value, str) else str(getattr(event, "value", value))
            elif frame.key == "<<":
                merges = value if isinstance(value, list) else [value]
                if not all(isinstance(merged, dict) for merged in merges):
                    raise _error(file, number, event, "<< takes a mapping or a list of mappings")
                frame.merges.extend(merges)
                frame.key = None
            else:
                if holder.get(frame.key, _ABSENT) is not _ABSENT:
                    raise _error(file, number, event, f'key "{frame.key}" is given twice in one mapping')
                holder[frame.key] = value
                frame.key = None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark is not None else ""
        message = ", ".join(part for part in (error.context, error.problem) if part)
        raise ManifestError(file, f"document {number}{line}", "", f"YAML: {message}") from None
    except yaml.YAMLError as error:
        raise ManifestError(file, f"document {number}", "", f"YAML: {error}") from None


def _tagged(file: str, number: int, event: Any, tag: str) -> Any:
    name = _TAGS.get(tag)
    if name == "str" or tag == "!":
        return event.value
    value = _plain(event.value)
    wanted: Any = {"int": int, "float": (int, float), "bool": bool, "null": type(None)}.get(name or "", ())
    if not isinstance(value, wanted):
        what = f"is not of the type {tag}" if name else f"has the tag {tag}, which is not read"
        raise _error(file, number, event, f'"{event.value}" {what}')
    return value


def _error(file: str, number: int, event: Any, message: str) -> ManifestError:
    return ManifestError(file, f"document {number}, line {event.start_mark.line + 1}", "", f"YAML: {message}")
