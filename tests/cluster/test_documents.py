"""Texts -> values with their places."""

import io
import sys
import textwrap

import pytest
import yaml

from dataplane.cluster.documents import load_documents, parse_json, parse_yaml
from dataplane.errors import ManifestError

NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n"


def one(text):
    [(number, value)] = parse_yaml("t.yaml", textwrap.dedent(text))
    assert number == 1
    return value


def test_scalars_are_those_of_json_and_dates_stay_text():
    value = one(
        """
        integer: 12
        hexadecimal: 0x1f
        octal: 010
        not_octal: 08
        float: 1.5
        exponent: 1e3
        true: yes
        "off": off
        "null": ~
        empty:
        date: 2024-01-01
        time: 2024-01-01T00:00:00Z
        base60: 12:30
        mac: 11:22:33:44:55:10
        address: 10.0.0.1
        version: 1.2.3
        quoted: "12"
        tagged: !!str 12
        5: five
        """
    )
    assert value == {
        "integer": 12,
        "hexadecimal": 31,
        "octal": 8,
        "not_octal": "08",
        "float": 1.5,
        "exponent": 1000.0,
        "true": True,
        "off": False,
        "null": None,
        "empty": None,
        "date": "2024-01-01",
        "time": "2024-01-01T00:00:00Z",
        "base60": "12:30",
        "mac": "11:22:33:44:55:10",
        "address": "10.0.0.1",
        "version": "1.2.3",
        "quoted": "12",
        "tagged": "12",
        "5": "five",
    }


def test_anchors_and_merges():
    value = one(
        """
        base: &base {a: 1, b: [x, &y z]}
        same: *base
        more: {<<: *base, a: 2, c: *y}
        both: {<<: [{a: 1}, {a: 2, d: 3}]}
        """
    )
    assert value["same"] == {"a": 1, "b": ["x", "z"]}
    assert value["more"] == {"a": 2, "b": ["x", "z"], "c": "z"}
    assert value["both"] == {"a": 1, "d": 3}


def test_as_pyyaml_reads_it():
    text = textwrap.dedent(
        """
        a: [1, {b: c}, [], {}]
        d: |
          two
          lines
        e: >-
          folded
          text
        f: {g: "x", 'h': y}
        i:
        - j: 1
          k: [null, true]
        -
        """
    )
    assert one(text) == yaml.load(text, Loader=yaml.CSafeLoader)


def test_documents_are_counted_with_the_empty_ones():
    assert list(parse_yaml("t", "a: 1\n---\n---\nb: 2\n")) == [(1, {"a": 1}), (2, None), (3, {"b": 2})]
    assert list(parse_yaml("t", "")) == []


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("a: 1\nb: [1, 2\n", "document 1, line 3", "did not find expected ',' or ']'"),
        ("a: 1\n---\nb: {\n---\n", "document 2, line 4", "flow"),
        ("a: b: c", "document 1, line 1", "mapping values are not allowed"),
        ("a: 1\nb: 2\na: 3\n", "document 1, line 3", 'key "a" is given twice'),
        ("x: *nowhere", "document 1, line 1", "*nowhere"),
        ("x: !custom 1", "document 1, line 1", "tag !custom"),
        ("x: !custom [1]", "document 1, line 1", "tag !custom"),
        ("x: !!int word", "document 1, line 1", '"word"'),
        ("? [a]\n: b", "document 1, line 1", "a key of a mapping is text"),
        ("x: {<<: 1}", "document 1, line 1", "<< takes a mapping"),
        ("x: \x01", "document 1", "control characters"),
    ],
)
def test_bad_yaml(text, where, message):
    with pytest.raises(ManifestError) as raised:
        list(parse_yaml("t.yaml", text))
    assert raised.value.file == "t.yaml"
    assert raised.value.where == where
    assert message in raised.value.message


def test_aliases_cannot_blow_up():
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    with pytest.raises(ManifestError, match="aliases expand"):
        list(parse_yaml("t.yaml", bomb))


@pytest.mark.parametrize("depth", [201, 100_000])
@pytest.mark.parametrize("parse", [parse_yaml, parse_json])
def test_deep_nesting_is_an_error_that_names_the_document(parse, depth):
    with pytest.raises(ManifestError, match="nested more than 200 levels deep") as raised:
        list(parse("t", "[" * depth + "]" * depth))
    assert raised.value.where.startswith("document 1")


@pytest.mark.parametrize("parse", [parse_yaml, parse_json])
def test_nesting_within_the_limit(parse):
    [(_, value)] = parse("t", "[" * 200 + "]" * 200)
    for _ in range(199):
        [value] = value
    assert value == []


def test_json_documents_one_after_the_other():
    assert list(parse_json("t", ' {"a": 1}\n{"b": [2]} ')) == [(1, {"a": 1}), (2, {"b": [2]})]


@pytest.mark.parametrize(("text", "where"), [('{"a": 1}\n{"b": }', "document 2, line 2"), ('{"a": NaN}', "document 1")])
def test_bad_json(text, where):
    with pytest.raises(ManifestError) as raised:
        list(parse_json("t.json", text))
    assert raised.value.where == where


def test_folders_lists_and_standard_input(tmp_path, monkeypatch):
    (tmp_path / "b.yaml").write_text(NAMESPACE.replace("name: a", "name: b"))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.json").write_text(
        '{"apiVersion": "v1", "kind": "PodList", "items": [{"metadata": {"name": "p"}}, {"metadata": {"name": "q"}}]}'
    )
    (tmp_path / "a.yml").write_text("kind: List\napiVersion: v1\nitems:\n- " + NAMESPACE.replace("\n", "\n  "))
    (tmp_path / "notes.txt").write_text("not a manifest")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbf" + NAMESPACE.encode())))
    found = [
        (document.origin.file.rpartition("/")[2], document.origin.where, document.value["kind"])
        for document in load_documents([tmp_path, "-"])
    ]
    assert found == [
        ("a.yml", "document 1 item 1", "Namespace"),
        ("b.yaml", "document 1", "Namespace"),
        ("c.json", "document 1 item 1", "Pod"),
        ("c.json", "document 1 item 2", "Pod"),
        ("-", "document 1", "Namespace"),
    ]


@pytest.mark.parametrize(
    ("content", "where", "field", "message"),
    [
        ("- 1\n", "document 1", "", "this is a list"),
        ("text\n", "document 1", "", "this is a string"),
        ("kind: Pod\n", "document 1", "apiVersion", "is missing"),
        ("---\napiVersion: v1\nkind: 3\n", "document 1", "kind", "is a number, not a name"),
        ("apiVersion: v1\nkind: List\nitems: {}\n", "document 1", "List: items", "is a mapping, not a list"),
    ],
)
def test_what_is_no_manifest(tmp_path, content, where, field, message):
    file = tmp_path / "x.yaml"
    file.write_text(content)
    with pytest.raises(ManifestError) as raised:
        list(load_documents([file]))
    assert (raised.value.file, raised.value.where, raised.value.field) == (str(file), where, field)
    assert message in raised.value.message


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(ManifestError, match="No such file"):
        list(load_documents([tmp_path / "absent.yaml"]))
    with pytest.raises(ManifestError, match=r"no \*.yaml"):
        list(load_documents([tmp_path]))
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe4\n")
    with pytest.raises(ManifestError) as raised:
        list(load_documents([tmp_path]))
    assert raised.value.where == "byte 3"
