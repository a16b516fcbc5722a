"""Memory over many rows: `python -m tests.benchmarks.rows [ROWS ...]`.

A sweep of `lexicon` over invented tables, described, labelled, scored with intervals and written;
then the same command again, which reads what is finished, `ovmer score` and `ovmer report`. Each is
a process of its own, of which the system tells the largest resident size. 100,000 rows should take
at most 1.5 times what 10,000 take.
"""

import sys
import tempfile
from pathlib import Path

from tests.benchmarks.throughput import measure
from tests.runners.conftest import write_tables

ROWS = (10_000, 100_000)
AT_MOST = 1.5


def peak(arguments: list[str]) -> float:
    """The largest resident size of `ovmer ARGUMENTS`, in MB."""
    return measure(arguments)[-1]


def peaks(root: Path, rows: int) -> dict[str, float]:
    """Megabytes by command."""
    data = write_tables(root / "data", [f"sample_{number:08d}" for number in range(rows)])
    settings = [f"dataset.root={data}", "dataset.check_files=false", f"outputs={root}/outputs"]
    sweep = ["sweep", "baseline=lexicon", "dataset=ovmerd", *settings]
    found = {"sweep": peak(sweep), "sweep, finished": peak(sweep)}
    (run,), truth = (root / "outputs").glob("*/lexicon"), data / "track2_train_ovmerd.csv"
    found["score"] = peak(["score", f"predictions={run}", f"truth={truth}"])
    found["report"] = peak(["report", str(root / "outputs")])
    return found


def main() -> None:
    """Print the peaks, and their ratio to those of the fewest rows."""
    first: dict[str, float] | None = None
    for rows in map(int, sys.argv[1:] or ROWS):
        with tempfile.TemporaryDirectory() as folder:
            found = peaks(Path(folder), rows)
        first = first or found
        for name, megabytes in found.items():
            ratio = f"{megabytes / first[name]:.2f} times (at most {AT_MOST})"
            print(f"{rows:7,} rows, {name:16}{megabytes:7.0f} MB, {ratio}", flush=True)


if __name__ == "__main__":
    main()
