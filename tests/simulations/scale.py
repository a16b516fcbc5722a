"""All pairs of 36 runs over 20,000 clips: seconds and memory."""

import resource
import sys
import time
from dataclasses import replace

import numpy as np

from ovmer.runners.scoring import Contributions
from ovmer.runners.scoring.significance import compare
from tests.simulations import populations

RUNS, CLIPS = 36, 20_000


def main() -> int:
    population = populations.open_words(CLIPS)
    random = np.random.default_rng(27)
    values = population.contributions.values
    runs = {}
    for number in range(RUNS):
        told = values.copy()
        silent = random.random(CLIPS) < number / 100
        told[silent, 0::3] = told[silent, 1::3] = 0
        sample = Contributions(
            population.contributions.clips, population.contributions.columns, told
        )
        runs[f"run{number}"] = replace(population, contributions=sample)
    started, busy = time.monotonic(), time.process_time()
    family = compare(runs)
    seconds, busy = time.monotonic() - started, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    marked = sum(each.p < family.alpha for each in family.pairs)
    print(
        f"{len(family.pairs)} pairs of {RUNS} runs x {CLIPS:,} clips, {family.replicates:,} "
        f"replicates: {seconds:.1f} s ({busy:.1f} s of a core), {peak:.2f} GB in all; "
        f"{marked} pairs found"
    )
    return 0 if busy < 15 and peak < 1 else 1  # other work on the machine is no matter


if __name__ == "__main__":
    sys.exit(main())
