"""Whatever a dump holds, it is read or refused with a DumpError: texts come from anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.errors import DumpError
from dataplane.host import HostConfig
from dataplane.host.dump import read, texts

SAMPLES = Path(__file__).parent / "samples"
SCENES = ("node", "links", "routes", "rules", "neighbours")
OBJECTS = {
    (scene, path.name): json.loads(path.read_text()) for scene in SCENES for path in (SAMPLES / scene).glob("*.json")
}
LINES = {
    (scene, name): (SAMPLES / scene / name).read_text().splitlines()
    for scene, name in (("ipset", "ipset.save"), ("conntrack", "conntrack.txt"), ("node", "sysctl.txt"))
}
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(),
    st.sampled_from(
        ["", "default", "all", "10.0.0.1", "fd00::/64", "10.0.0.0/33", "02:00:00:00:00:01", "0x10", "local"]
    ),
    st.text(max_size=5),
)
VALUES = LEAVES | st.lists(LEAVES, max_size=2) | st.dictionaries(st.text(max_size=3), LEAVES, max_size=2)


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at] * (at != ()) + [path for key, item in items for path in paths(item, (*at, key))]


PATHS = {name: paths(document) for name, document in OBJECTS.items()}


def read_or_refused(found: dict[str, str]) -> None:
    try:
        config = read(HostConfig, found)
    except DumpError as error:
        refused = error
    else:
        texts(config)
        return
    assert refused.file in found
    assert refused.where


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_changed_object(data: st.DataObject) -> None:
    scene, name = data.draw(st.sampled_from(sorted(OBJECTS)))
    document = json.loads(json.dumps(OBJECTS[scene, name]))
    *where, last = data.draw(st.sampled_from(PATHS[scene, name]))
    parent = document
    for key in where:
        parent = parent[key]
    if data.draw(st.booleans()):
        parent[last] = data.draw(VALUES)
    else:
        del parent[last]
    found = {name: json.dumps(document)}
    if name != "links.json" and data.draw(st.booleans()):
        found["links.json"] = (SAMPLES / scene / "links.json").read_text() if scene != "rules" else "[]"
    read_or_refused(found)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_a_changed_line(data: st.DataObject) -> None:
    scene, name = data.draw(st.sampled_from(sorted(LINES)))
    lines = list(LINES[scene, name])
    at = data.draw(st.integers(0, len(lines) - 1))
    words = lines[at].split(" ")
    place = data.draw(st.integers(0, len(words) - 1))
    words[place : place + data.draw(st.integers(0, 2))] = data.draw(
        st.lists(st.sampled_from(words) | st.text(max_size=6) | st.integers(-(1 << 70), 1 << 70).map(str), max_size=2)
    )
    lines[at] = " ".join(words)
    read_or_refused({name: "\n".join(lines)})


@given(st.sampled_from(sorted(OBJECTS)), st.text(max_size=30), st.integers(0, 1 << 16))
@settings(max_examples=100, deadline=None)
def test_a_broken_text(name: tuple[str, str], text: str, at: int) -> None:
    whole = (SAMPLES / name[0] / name[1]).read_text()
    at %= len(whole)
    read_or_refused({name[1]: whole[:at] + text + whole[at + len(text) :]})
    read_or_refused({name[1]: whole[:at]})
