"""How many leaderboards of equal runs bear a false mark, and how many true differences are found.

Equal runs: on every clip, each run gives the answer of one of the ten released runs, drawn by lot,
so all have the same expected M-avg, and what is hard for one is hard for all.
"""

import sys
from collections.abc import Sequence

import numpy as np

from ovmer.runners.scoring import Scores
from ovmer.runners.scoring.maxt import step_down
from ovmer.runners.scoring.resampling import FloatArray
from ovmer.runners.scoring.significance import RunComparison, compare
from tests.simulations import populations

BOARDS = ((332, 5, 1000), (332, 15, 500), (332, 36, 400), (100, 36, 300), (100, 5, 1000))
"""(clips, runs, boards)"""
REPLICATES = 2000
CLIPS = 332


def main() -> int:
    random = np.random.default_rng(27)
    real = list(populations.released().values())
    values = np.stack([each.contributions.values for each in real])
    assert np.allclose(m_avg(real[0].contributions.sums), real[0].figures["M-avg"])
    is_fine = True
    for clips, runs, boards in BOARDS:
        counts = random.multinomial(clips, np.full(clips, 1 / clips), REPLICATES).astype(float)
        marks = [false_marks(values, runs, counts, random) for _ in range(boards)]
        anywhere, at_best = np.mean(np.array(marks) > 0, axis=0)
        print(
            f"{runs:3} equal runs, {clips} clips, {boards} boards: a false pair on "
            f"{100 * anywhere:.1f} %, a false mark against the best on {100 * at_best:.1f} %",
            flush=True,
        )
        if clips == CLIPS:  # with two binomial errors of room
            room = 2 * np.sqrt(0.05 * 0.95 / boards)
            is_fine &= 0.03 - room <= anywhere <= 0.07 + room
    found = [len(significant(different(real, random, seed))) for seed in range(5)]
    print(f"36 runs 21 points apart: {np.mean(found):.0f} of 630 pairs found ({min(found)} least)")
    return 0 if is_fine and min(found) > 150 else 1


def false_marks(
    real: FloatArray, runs: int, counts: FloatArray, random: np.random.Generator
) -> tuple[int, int]:
    """(pairs that are found to differ, those of them with the best run).

    By maxT alone, which `compare` never goes below; `real` is (runs x clips x columns), `counts`
    (replicates x clips) the draws, which all boards share to save time.
    """
    clips = counts.shape[1]
    rows = random.integers(0, real.shape[1], size=clips)
    values = real[random.integers(0, len(real), size=(runs, clips)), rows]
    figures = m_avg(values.sum(axis=1))
    drawn = np.stack([m_avg(counts @ each) for each in values])
    tests = step_down(figures, drawn, clips)
    marked = tests.p < 0.05
    at_best = marked & ((tests.first == figures.argmax()) | (tests.second == figures.argmax()))
    return int(marked.sum()), int(at_best.sum())


def m_avg(sums: FloatArray) -> FloatArray:
    """M-avg from column sums (... x 36): what the metric gives, without its 59 other figures."""
    precision, recall, counted = sums[..., 0::3], sums[..., 1::3], sums[..., 2::3]
    both = precision + recall
    f = np.divide(2 * precision * recall, both * counted, out=np.zeros_like(both), where=both > 0)
    return np.asarray(f.mean(axis=-1))


def different(real: Sequence[Scores], random: np.random.Generator, seed: int) -> RunComparison:
    """36 runs: the best released one, which more and more often gives no answer at all."""
    best = max(real, key=lambda each: each.figures["M-avg"])
    rows = random.integers(0, best.n_clips, size=CLIPS)
    values, board = best.contributions.values[rows], {}
    empty = values.copy()
    empty[:, 0::3] = empty[:, 1::3] = 0
    for number in range(36):
        answered = random.random(CLIPS) < 1 - number / 35 * 21 / 47
        told = np.where(answered[:, None], values, empty)
        board[f"run{number}"] = populations.of_rows(best, rows, told)
    return compare(board, replicates=REPLICATES, seed=seed)


def significant(family: RunComparison) -> list[tuple[str, str]]:
    return [(each.first, each.second) for each in family.pairs if each.p < family.alpha]


if __name__ == "__main__":
    sys.exit(main())
