"""Clips of one speaker are alike: how often intervals over clips and over speakers are right."""

import sys

import numpy as np

from ovmer.runners.scoring import Contributions
from ovmer.runners.scoring.intervals import interval_of
from ovmer.runners.scoring.significance import compare_contributions

REPEATS, REPLICATES = 2000, 1000
SHARE = 0.6


def main() -> int:
    random = np.random.default_rng(27)
    is_fine = True
    for speakers, clips, icc in ((10, 120, 0.05), (10, 120, 0.2), (5, 100, 0.05), (60, 20, 0.05)):
        apart, together, alarms = 0, 0, 0
        for seed in range(REPEATS):
            run = speaking(random, speakers, clips, icc)
            for clustered in (False, True):
                sample = run if clustered else Contributions(run.clips, run.columns, run.values)
                drawn = statistic(sample.resampled(REPLICATES, seed))
                low, high = interval_of(float(statistic(run.sums)), drawn, sample)
                apart += (not clustered) and low <= SHARE <= high
                together += clustered and low <= SHARE <= high
            if seed % 4 == 0:
                pair = {name: speaking(random, speakers, clips, icc) for name in "ab"}
                family = compare_contributions(pair, statistic, replicates=REPLICATES, seed=seed)
                alarms += family.pairs[0].p <= 0.05
        print(
            f"{speakers} speakers x {clips} clips, ICC {icc}: over clips "
            f"{100 * apart / REPEATS:.1f} %, over speakers "
            f"{100 * together / REPEATS:.1f} %; two equal runs differ in "
            f"{100 * alarms / (REPEATS // 4):.1f} %",
            flush=True,
        )
        is_fine &= together / REPEATS >= 0.88
    return 0 if is_fine else 1


def statistic(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def speaking(random: np.random.Generator, speakers: int, clips: int, icc: float) -> Contributions:
    """A run whose chance of a hit varies by speaker (beta-binomial, intraclass correlation)."""
    weight = 1 / icc - 1
    chances = random.beta(SHARE * weight, (1 - SHARE) * weight, size=speakers)
    hits = random.random((speakers, clips)) < chances[:, None]
    names = tuple(f"{s:03d}_{i:03d}" for s in range(speakers) for i in range(clips))
    values = np.stack([hits.ravel(), np.ones(hits.size)], axis=1).astype(float)
    return Contributions(names, ("hit", "all"), values, tuple(name[:3] for name in names))


if __name__ == "__main__":
    sys.exit(main())
