"""sdist, wheel, and an installation into an empty environment, as a stranger would make them.

Run by `make install-check`. The wheel is built from the sdist, so what the sdist forgets is missed here.
The build uses the tools of the running environment; the new environment gets only what the wheel asks for.
"""

import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "pcaps"


def run(*command: str | Path, cwd: Path, expected: int = 0) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    if done.returncode != expected:
        sys.exit(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def check(ok: bool, what: str) -> None:
    print(f"{'ok' if ok else 'FAILED':7}{what}", flush=True)
    if not ok:
        sys.exit(1)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        run(sys.executable, "-m", "build", "--no-isolation", "--sdist", "--outdir", work, ROOT, cwd=work)
        (sdist,) = work.glob("*.tar.gz")
        with tarfile.open(sdist) as archive:
            files = {path.partition("/")[2] for path in archive.getnames()}
            archive.extractall(work, filter="data")
        compiled = {path.name for path in (ROOT / "src/dataplane/_fast").glob("*.pyx")}
        check({f"src/dataplane/_fast/{name}" for name in compiled} <= files, "sdist holds the sources of every leaf")
        check(
            {"LICENSE", "README.md", "CHANGELOG.md", "Makefile", "pcaps/boutique.yaml"} <= files,
            "sdist holds texts and samples",
        )
        check(not any(path.endswith((".so", ".c")) for path in files), "sdist holds nothing that was generated")

        source = work / sdist.name.removesuffix(".tar.gz")
        run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", work, source, cwd=work)
        (wheel,) = work.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            inside = set(archive.namelist())
        stems = {Path(name).stem for name in compiled}
        check(
            all(any(f.startswith(f"dataplane/_fast/{stem}.") and f.endswith(".so") for f in inside) for stem in stems),
            "wheel holds every leaf",
        )
        check(
            {f"dataplane/_fast/{stem}.pyi" for stem in stems} | {"dataplane/py.typed"} <= inside,
            "wheel holds the stubs",
        )
        check(not any(f.endswith((".pyx", ".c")) for f in inside), "wheel holds no sources of the leaves")
        shutil.rmtree(source)

        home = work / "empty"
        venv.create(home, with_pip=True)
        run(home / "bin/python", "-m", "pip", "--disable-pip-version-check", "-q", "install", wheel, cwd=work)
        check("replay" in run(home / "bin/dataplane", "--help", cwd=work), "installed command answers --help")
        command = ["replay", SAMPLE / "boutique.pcap", "-c", SAMPLE / "boutique.yaml", "-w", work / "out.pcapng"]
        # Status 1: two things in the sample are meant not to arrive.
        output = run(home / "bin/dataplane", *command, cwd=work, expected=1)
        check("frontend" in output and (work / "out.pcapng").stat().st_size > 0, "installed command replays the sample")


if __name__ == "__main__":
    main()
