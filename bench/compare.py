"""Two commits against each other: this tree and BASE, run in turn on the same machine, by the benchmarks of this tree.

    python bench/compare.py BASE [--runs 3] [--keep EXPRESSION]

BASE is built in a worktree of its own (build/bench-base). Each run measures both, one after the other, the order changing
from run to run. The ratio of their shortest rounds is taken within a run, where both met the same machine: what other
programs take away makes a round longer, never shorter. Prints the median ratio and its range: above 1 this tree is slower.
What BASE does not have is named.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
WORKTREE = ROOT / "build" / "bench-base"


def built(base: str) -> Path:
    """BASE's package, compiled; kept from the time before where it is the same commit."""
    commit = git("rev-parse", "--verify", f"{base}^{{commit}}")
    stamp = WORKTREE / ".built"
    if not stamp.is_file() or stamp.read_text() != commit:
        if WORKTREE.exists():
            git("worktree", "remove", "--force", str(WORKTREE))
        git("worktree", "add", "--force", "--detach", str(WORKTREE), commit)
        print(f"building {base} ({commit[:10]})", file=sys.stderr)
        build = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
        subprocess.run(build, cwd=WORKTREE, check=True, env=environment(WORKTREE), stdout=subprocess.DEVNULL)
        stamp.write_text(commit)
    return WORKTREE


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def environment(tree: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(tree / "src"), "DATAPLANE_BUILD": "release"}


def shortest(tree: Path, keep: str) -> dict[str, float]:
    """Seconds of the shortest round, by benchmark. One that this tree's package cannot run is left out."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
        command += [f"--benchmark-json={report}", "-k", keep, str(ROOT / "bench")]
        done = subprocess.run(command, cwd=ROOT, env=environment(tree), capture_output=True, text=True, check=False)
        if not report.is_file() or not report.stat().st_size:
            sys.exit(f"no benchmark ran with {tree / 'src'}:\n{done.stdout}{done.stderr}")
        found = json.loads(report.read_text())["benchmarks"]
    return {one["name"].removeprefix("test_"): one["stats"]["min"] for one in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", metavar="BASE", help="a commit, a branch or a tag")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--keep", default="", help="as pytest -k: which benchmarks")
    options = parser.parse_args()
    trees = {"base": built(options.base), "here": ROOT}
    runs: list[dict[str, dict[str, float]]] = []
    for number in range(options.runs):
        print(f"run {number + 1} of {options.runs}", file=sys.stderr)
        order = ("base", "here") if number % 2 == 0 else ("here", "base")
        runs.append({name: shortest(trees[name], options.keep) for name in order})
    print(f"{'shortest round, seconds':<52}{'base':>12}{'here':>12}{'ratio':>8}{'range':>14}")
    for name in runs[0]["here"]:
        both = [run for run in runs if name in run["base"] and name in run["here"]]
        if not both:
            print(f"{name:<52}{'-':>12}{median(run['here'][name] for run in runs):>12.3g}   not in {options.base}")
            continue
        ratios = [run["here"][name] / run["base"][name] for run in both]
        base, here = (median(run[side][name] for run in both) for side in ("base", "here"))
        between = f"{min(ratios):.2f}-{max(ratios):.2f}"
        print(f"{name:<52}{base:>12.3g}{here:>12.3g}{median(ratios):>8.2f}{between:>14}")


if __name__ == "__main__":
    main()
