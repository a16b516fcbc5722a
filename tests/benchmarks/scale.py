"""What more clips cost: `python -m tests.benchmarks.scale [--picture FILE.svg]`.

Draws clips a second and peak memory against the number of clips, 10 to 20,000: of `lexicon`, which
looks at no files, and of a random miniature of Video-LLaVA, which decodes each clip. Each point is
a whole command in a process of its own, imports and the table included. A baseline takes no more
clips once a command took more than `--seconds`.
"""

import argparse
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from tests.benchmarks.decoding import write_clips
from tests.benchmarks.throughput import measure

COUNTS = (10, 100, 300, 1000, 3000, 10_000, 20_000)
BASELINES = {
    "lexicon": ("baseline=lexicon", "dataset.check_files=false"),
    "miniature of video_llava": (
        *("baseline=video_llava", "dry_run=true", "dataset.check_files=false"),
        *("machine.device=cpu", "generation=greedy"),
        "baseline.generation.greedy.max_new_tokens=16",
    ),
}

Point = tuple[int, float, float, float]
"""Clips; seconds by the clock and of the processor; peak memory in MB."""


def main() -> None:
    """Print the points and draw them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", nargs="+", type=int, default=COUNTS)
    parser.add_argument("--seconds", type=float, default=30, help="a longer command is the last")
    parser.add_argument("--picture", type=Path, help="where it is drawn")
    given = parser.parse_args()
    found = {}
    for name, overrides in BASELINES.items():
        print(f"\n{name}\n\n| clips | seconds | of the processor | clips/s | MB |")
        print("|---|---|---|---|---|")
        found[name] = list(points(overrides, sorted(given.counts), given.seconds))
    if given.picture:
        draw(found).savefig(given.picture, bbox_inches="tight")


def points(overrides: Sequence[str], counts: Sequence[int], most: float) -> Iterator[Point]:
    """One command for each number of clips, until one takes more than `most` seconds."""
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            given = [each for each in write_clips(Path(folder, "data"), count) if "dataset" in each]
            given += [*overrides, f"outputs={folder}/outputs"]
            seconds, processor, memory = measure(["sweep", *given])
        rate = f"{count / seconds:.1f}"
        cells = (count, f"{seconds:.1f}", f"{processor:.1f}", rate, f"{memory:.0f}")
        print("|", *(f"{each} |" for each in cells), flush=True)
        yield count, seconds, processor, memory
        if seconds > most:
            return


def draw(found: dict[str, list[Point]]) -> Figure:
    """Clips a second on the left, memory on the right."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    rates, sizes = figure.subplots(1, 2)
    for name, measured in found.items():
        counts = [each[0] for each in measured]
        rates.plot(counts, [each[0] / each[1] for each in measured], "o-", label=name)
        sizes.plot(counts, [each[3] for each in measured], "o-", label=name)
    rates.set(xscale="log", yscale="log", xlabel="clips", ylabel="clips/s, start included")
    sizes.set(xscale="log", xlabel="clips", ylabel="peak memory, MB", ylim=(0, None))
    rates.legend()
    figure.suptitle(f"{os.cpu_count()} cores, {_memory():.0f} GB of memory, float32")
    return figure


def _memory() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


if __name__ == "__main__":
    main()
