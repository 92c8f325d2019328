"""The command's frame: help, exit statuses, and errors in one line without a traceback."""

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

import dataplane
from dataplane.cli import VERBS, main
from dataplane.cli.bench import bench


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    output = capsys.readouterr()
    for verb in VERBS:
        assert f"\n  {verb} " in output.out
    assert output.err == ""


def test_nothing_asked_is_nothing_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Usage: dataplane VERB" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{dataplane.__version__}\n"


@pytest.mark.parametrize("verb", [*(verb for verb in VERBS if verb != "bench"), *(f"bench {what}" for what in bench)])
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*verb.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: dataplane {verb}")
    assert "Options:" in text
    assert "object at" not in text
    names = [line for line in text.splitlines() if re.match(r"  -", line)]
    below = [after for line, after in pairwise(text.splitlines()) if line in names and not re.search(r"\S  +\S", line)]
    assert len(names) > 4
    assert all(re.match(r" {20,}\S", line) for line in below), "an option without a meaning"


def test_a_verb_with_commands_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Usage: dataplane bench COMMAND")
    for command in bench:
        assert re.search(rf"^  {command} +\S", text, re.MULTILINE)
    assert main(["bench", "mods"]) == 2
    assert "mods" in capsys.readouterr().err


def test_unknown_verb_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generat"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == "dataplane: generat: no such verb; did you mean generate?\n"


def test_unknown_option_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "out.pcap", "-c", "x.yaml", "--nope"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "--nope" in output.err
    assert "dataplane generate --help" in output.err


def test_missing_file_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    assert main(["generate", str(tmp_path / "out.pcap"), "-c", str(missing)]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert str(missing) in output.err
    assert "Traceback" not in output.err


def test_module_runs_as_the_command_does() -> None:
    done = subprocess.run([sys.executable, "-m", "dataplane", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"{dataplane.__version__}\n"


def test_a_reader_that_leaves_early_is_no_error() -> None:
    script = f"{sys.executable} -c 'from dataplane.cli import main; raise SystemExit(main([\"--help\"]))' | true"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
