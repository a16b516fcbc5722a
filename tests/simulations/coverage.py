"""How often the 95 % interval of one run holds the figure of the whole population."""

import sys

import numpy as np

from ovmer.runners.scoring import Scores
from ovmer.runners.scoring.intervals import wilson
from tests.simulations import populations

REPEATS, REPLICATES = 2000, 1000
SIZES = (100, 332, 1200)
SHARES = (30, 100, 332, 1200)


def main() -> int:
    random = np.random.default_rng(27)
    words, classes = populations.open_words(), populations.classes()
    real = populations.released()
    wanted = [
        (
            "M-avg, ten released runs' best",
            max(real.values(), key=lambda s: s.figures["M-avg"]),
            "M-avg",
        ),
        ("M-avg, synthetic", words, "M-avg"),
        ("M3-W1-L1 (an F), synthetic", words, "M3-W1-L1"),
        ("hit-rate, synthetic", populations.hits(), "hit-rate"),
        ("accuracy, synthetic", classes, "accuracy"),
        ("WAF, synthetic", classes, "WAF"),
    ]
    is_fine = True
    for name, population, figure in wanted:
        for clips in SIZES:
            share = covered(population, figure, clips, random)
            is_fine &= 0.935 <= share <= 0.965
            print(f"{name:40} {clips:5} clips {100 * share:6.1f} %", flush=True)
    for clips in SHARES:
        hits = random.binomial(clips, 0.99, size=100_000)
        ends = [wilson(k, clips) for k in range(clips + 1)]
        inside = np.array([low <= 0.99 <= high for low, high in ends])[hits].mean()
        is_fine &= inside >= 0.93
        print(f"{'share of 99 %, Wilson':40} {clips:5} clips {100 * inside:6.1f} %", flush=True)
    return 0 if is_fine else 1


def covered(population: Scores, figure: str, clips: int, random: np.random.Generator) -> float:
    true = population.figures[figure]
    inside = 0
    for repeat in range(REPEATS):
        drawn = populations.sample(population, clips, random)
        low, high = drawn.with_intervals(REPLICATES, seed=repeat).intervals[figure]
        inside += low <= true <= high
    return inside / REPEATS


if __name__ == "__main__":
    sys.exit(main())
