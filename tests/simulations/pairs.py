"""The test of one pair where the runs are equal: how often p is below 0.05."""

import sys

import numpy as np
from scipy.stats import binomtest

from ovmer.runners.scoring import Contributions
from ovmer.runners.scoring.significance import mean_statistic
from ovmer.runners.scoring.swap import swap_test
from tests.simulations import populations

REPEATS, REPLICATES = 2000, 1000
SIZES = (20, 50, 100, 332, 1200)


def main() -> int:
    random = np.random.default_rng(27)
    real = list(populations.released().values())
    values = np.stack([each.contributions.values for each in real])
    room = 2 * np.sqrt(0.05 * 0.95 / REPEATS)
    is_fine = True
    for figure in ("M-avg", "M3-W1-L1"):
        for clips in SIZES:
            alarms = 0
            for seed in range(REPEATS):
                rows = random.integers(0, values.shape[1], size=clips)
                pair = [
                    populations.of_rows(
                        real[0], rows, values[random.integers(0, len(real), size=clips), rows]
                    )
                    for _ in range(2)
                ]
                found = swap_test(
                    *(each.contributions for each in pair),
                    mean_statistic(pair[0], figure),
                    REPLICATES,
                    seed,
                )
                alarms += found.p <= 0.05
            share = alarms / REPEATS
            is_fine &= 0.04 - room <= share <= 0.06 + room
            print(f"{figure:10} {clips:5} clips: p <= 0.05 in {100 * share:.1f} %", flush=True)
    return 0 if is_fine and few_are_exact(random) else 1


def few_are_exact(random: np.random.Generator) -> bool:
    """Up to five differing clips: p is that of the exact sign test."""
    worst = 0.0
    for differing in range(1, 6):
        for ahead in range(differing + 1):
            base = random.random(332) < 0.5
            at = random.choice(332, size=differing, replace=False)
            first, second = base.copy(), base.copy()
            first[at], second[at] = np.arange(differing) < ahead, np.arange(differing) >= ahead
            runs = {name: accuracy(each) for name, each in (("a", first), ("b", second))}
            exact = binomtest(ahead, differing).pvalue
            found = swap_test(runs["a"], runs["b"], lambda sums: sums[..., 0] / sums[..., 1]).p
            worst = max(worst, exact - found)
    print(f"up to 5 differing clips: p is at most {worst:.1e} below the exact sign test")
    return worst < 1e-9


def accuracy(hits: np.ndarray) -> Contributions:
    clips = tuple(f"clip{i:04d}" for i in range(len(hits)))
    return Contributions(
        clips, ("hit", "all"), np.stack([hits, np.ones(len(hits))], 1).astype(float)
    )


if __name__ == "__main__":
    sys.exit(main())
