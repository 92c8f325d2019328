"""What the real tools printed comes back byte for byte, and fresh values print as the tools print them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dataplane.host import HostConfig
from dataplane.host.dump import COMMANDS, read, texts

SAMPLES = Path(__file__).parent / "samples"
SCENES = sorted(path.name for path in SAMPLES.iterdir())
FILES = [(scene, path.name) for scene in SCENES for path in sorted((SAMPLES / scene).iterdir())]


def scene_texts(scene: str) -> dict[str, str]:
    found = {path.name: path.read_bytes().decode() for path in (SAMPLES / scene).iterdir()}
    assert set(found) <= set(COMMANDS)
    return found


def read_scene(scene: str) -> HostConfig:
    found = scene_texts(scene)
    if any(name.endswith("tables.save") for name in found):
        pytest.importorskip("dataplane.host.iptables")
    return read(HostConfig, found, scene)


@pytest.mark.parametrize(("scene", "file"), FILES)
def test_printing_gives_back_the_text(scene: str, file: str) -> None:
    found = scene_texts(scene)
    if file.endswith("tables.save"):
        pytest.importorskip("dataplane.host.iptables")
    else:
        found = {name: text for name, text in found.items() if not name.endswith("tables.save")}
    config = read(HostConfig, found, scene)
    assert texts(config)[file] == found[file]
    assert config.warnings == ()


@pytest.mark.parametrize("scene", SCENES)
def test_a_folder_is_written_as_it_was_read(scene: str, tmp_path: Path) -> None:
    read_scene(scene)  # skips where iptables texts cannot be read yet
    HostConfig.load(SAMPLES / scene).save(tmp_path / "dump")
    for path in (SAMPLES / scene).iterdir():
        assert (tmp_path / "dump" / path.name).read_bytes() == path.read_bytes()
    assert HostConfig.load(tmp_path / "dump").with_(name=scene) == HostConfig.load(SAMPLES / scene)


def test_what_is_not_modelled_is_named() -> None:
    unmodelled = {scene: read(HostConfig, without_rules(scene), scene).unmodelled for scene in SCENES}
    assert unmodelled["links"] == ("links.json: link of kind ifb (if0)", "links.json: link of kind macvlan (mv)")
    assert unmodelled["routes"] == (
        "routes.json: flow (entry 18 (10.16.0.0/16))",
        "routes.json: encap (2 times, first entry 21 (10.19.0.0/16))",
        "routes6.json: encap (entry 13 (fd1c::/64))",
    )
    assert unmodelled["rules"] == (
        "rules.json: flow_from (entry 15 (priority 1013))",
        "rules.json: flow_to (entry 15 (priority 1013))",
    )
    assert unmodelled["ipset"] == (
        "ipset.save: type bitmap:ip (2 times, first set i)",
        "ipset.save: type bitmap:ip,mac (set j)",
        "ipset.save: type hash:net,iface (set k)",
    )
    for scene in ("empty", "node", "neighbours", "conntrack"):
        assert unmodelled[scene] == ()


def without_rules(scene: str) -> dict[str, str]:
    return {name: text for name, text in scene_texts(scene).items() if not name.endswith("tables.save")}


# What a value does not hold, and a fresh one prints as a fresh device has it.
DEVICE = {"num_tx_queues", "num_rx_queues", "numqueues", "numdisabled", "tso_max_size", "ifalias"}
TIMERS = {"hold_timer", "forward_delay_timer", "hello_timer", "gc_timer"}
ROUTE = {"window", "rtt", "initcwnd", "ecn", "rto_min", "quickack", "flow"}
RULE = {"iif_detached", "unresolved", "flow_from", "flow_to"}


@pytest.mark.parametrize("scene", SCENES)
def test_fresh_values_print_as_the_tools_do(scene: str) -> None:
    """The same values without the text that they came from: key for key, in the same order."""
    found = without_rules(scene)
    config = read(HostConfig, found, scene)

    def fresh(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(
            replace(value, raw=None, raw_address=None) if hasattr(value, "raw_address") else replace(value, raw=None)
            for value in values
        )

    names = ("links", "addresses", "routes", "rules", "neighbours", "fdb", "ipsets", "connections")
    printed = texts(config.with_(**{name: fresh(getattr(config, name)) for name in names}))
    for name, text in found.items():
        if not name.endswith(".json"):
            assert printed[name] == text
            continue
        expected, actual = json.loads(text), json.loads(printed[name])
        assert len(expected) == len(actual)
        for was, now in zip(expected, actual, strict=True):
            if "encap" in was or was.get("srclen") == 1 or was.get("ifname") in ("mv", "if0"):
                continue  # not modelled: an encapsulation, host bits in a rule, other kinds of devices
            if name == "links.json" and was["ifname"] == "vp" and was["promiscuity"] == 2:
                was["promiscuity"] = 1  # an address of its own in the device's filter makes the bridge set it
            if "ifname" in was:
                now.pop("group", None), was.pop("group", None)
            assert plain(now) == plain(was)
            assert [key for key in now if key in was] == [key for key in was if key in now]


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if key not in DEVICE | TIMERS | ROUTE | RULE}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value
