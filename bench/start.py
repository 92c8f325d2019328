"""Milliseconds to start: importing the package, asking for help, a first answer from a cluster. Medians of repeats."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

REPEATS = 15
SAMPLE = Path(__file__).parents[1] / "pcaps" / "boutique.yaml"


def milliseconds(*arguments: str) -> float:
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        times.append(1000 * (time.perf_counter() - begin))
    return statistics.median(times)


def main() -> None:
    print(f"python itself             {milliseconds('-c', 'pass'):8.0f} ms")
    print(f"import dataplane          {milliseconds('-c', 'import dataplane'):8.0f} ms")
    print(f"dataplane --help          {milliseconds('-m', 'dataplane', '--help'):8.0f} ms")
    print(f"dataplane get services    {milliseconds('-m', 'dataplane', 'get', 'services', '-c', str(SAMPLE)):8.0f} ms")


if __name__ == "__main__":
    main()
