"""Ask the iptables of this machine: what it prints for each rule of samples/typed.txt, and whole iptables-save texts.

    python tests/rules/make_samples.py

Needs root. Everything happens in network namespaces of its own, which end with it. Writes samples/typed.json (for each
rule and back end the lines that iptables-save printed, or null where the tool refused it) and samples/*.save.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SAMPLES = HERE / "samples"
TOOLS = {4: "iptables", 6: "ip6tables"}
TABLES = ("raw", "mangle", "nat", "filter", "security")
BACK_ENDS = ("legacy", "nft")


def typed() -> list[tuple[int, str, str, str]]:
    """(family, table, chain, rule) of each line of typed.txt."""
    found = []
    for line in (SAMPLES / "typed.txt").read_text().splitlines():
        if not line.startswith("#"):
            place, _, rule = line.partition("|")
            families, table, chain = place.split()
            found += [(int(family), table, chain, rule.strip()) for family in families]
    return found


def run(*command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def printed(tool: str, table: str) -> list[str]:
    lines = run(f"{tool}-save", "-t", table).stdout.splitlines()
    return [line for line in lines if line.startswith("-A ")]


def ask(back_end: str) -> list[list[str] | None]:
    """In a namespace of its own: what is printed for each rule, None where it is refused. Then the whole texts."""
    for family, name in ((4, "inet"), (6, "inet6")):
        run("ipset", "create", f"S{family}", "hash:ip,port,ip", "family", name)
        for table in TABLES:
            run(f"{TOOLS[family]}-{back_end}", "-t", table, "-N", "XCHAIN")
    answers: list[list[str] | None] = []
    for family, table, chain, rule in typed():
        tool = f"{TOOLS[family]}-{back_end}"
        if run(tool, "-t", table, "-A", chain, *shlex.split(rule)).returncode:
            answers.append(None)
            continue
        answers.append([line.removeprefix(f"-A {chain}").strip() for line in printed(tool, table)])
        run(tool, "-t", table, "-F", chain)
    # All rules that are taken, at once; each with counters of its own.
    for at, ((family, table, chain, rule), answer) in enumerate(zip(typed(), answers, strict=True)):
        if answer is not None:
            counters = ("-c", str(at), str(at * 60))
            run(f"{TOOLS[family]}-{back_end}", "-t", table, "-A", chain, *counters, *shlex.split(rule))
    for tool in TOOLS.values():
        run(f"{tool}-{back_end}", "-P", "FORWARD", "DROP")
        for name, options in (("counted", ("-c",)), ("plain", ())):
            text = run(f"{tool}-{back_end}-save", *options).stdout
            (SAMPLES / f"{tool}-{back_end}-{name}.save").write_text(text)
    return answers


def main() -> None:
    if len(sys.argv) == 2:
        json.dump(ask(sys.argv[1]), sys.stdout)
        return
    answers = []
    for back_end in BACK_ENDS:
        with tempfile.NamedTemporaryFile(prefix="rul-lock-") as lock:
            environment = {**os.environ, "XTABLES_LOCKFILE": lock.name}
            command = ["unshare", "--net", sys.executable, __file__, back_end]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            answers.append(json.loads(done.stdout))
    rows = [json.dumps([*rule, *both], ensure_ascii=False) for rule, *both in zip(typed(), *answers, strict=True)]
    (SAMPLES / "typed.json").write_text("[\n" + ",\n".join(rows) + "\n]\n")


if __name__ == "__main__":
    main()
