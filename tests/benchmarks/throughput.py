"""Baselines without a model over 20,000 clips: `python -m tests.benchmarks.throughput`.

Each command is a process of its own, from its start to its table: reading the data set, describing,
extracting, scoring, exchange files; then the same command again, which only reads and prints.
Files are not looked at (`check_files=false`), as the clips are invented. Where other work is on the
machine, the processor's seconds tell more than the clock's.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.runners.conftest import write_tables

CLIPS = 20_000
BASELINES = ("empty", "random", "ground_truth", "lexicon")


def main() -> None:
    """Print each figure beside what it should be."""
    with tempfile.TemporaryDirectory() as folder:
        names = [f"sample_{number:08}" for number in range(CLIPS)]
        root = write_tables(Path(folder, "data"), names)
        for baseline in BASELINES:
            arguments = [
                *(
                    "sweep",
                    f"baseline={baseline}",
                    "dataset=ovmerd",
                    f"dataset.root={root}",
                ),
                *("dataset.check_files=false", f"outputs={folder}/outputs"),
            ]
            for what, at_most in ((baseline, CLIPS / 2000), (f"{baseline}, finished", 2.0)):
                clock, processor, memory = measure(arguments)
                print(
                    f"{what:24} {clock:6.2f} s (at most {at_most:4.1f}), "
                    f"processor {processor:5.2f} s, {CLIPS / clock:6.0f} clips/s, "
                    f"{memory:4.0f} MB (at most 400)"
                )


def measure(arguments: list[str]) -> tuple[float, float, float]:
    """Seconds on the clock, seconds of the processor, and peak memory in MB of a command."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "ovmer", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{arguments} ended with status {process.returncode}")
    seconds = time.perf_counter() - started
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
