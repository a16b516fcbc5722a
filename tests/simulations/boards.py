"""How many leaderboards of equal runs bear a false mark, and how many true differences are found.

Equal runs: on every clip, each run gives the answer of one of the ten released runs, drawn by lot,
so all have the same expected M-avg, and what is hard for one is hard for all.
"""

import sys
from collections.abc import Sequence

import numpy as np

from ovmer.runners.scoring import Scores
from ovmer.runners.scoring.significance import Family, compare
from tests.simulations import populations

BOARDS = ((332, 5, 1000), (332, 36, 250), (100, 36, 250), (100, 5, 1000), (332, 15, 300))
"""(clips, runs, boards)"""
REPLICATES = 2000
CLIPS = 332


def main() -> int:
    random = np.random.default_rng(27)
    real = list(populations.released().values())
    is_fine = True
    for clips, runs, boards in BOARDS:
        marks = [false_marks(real, runs, clips, random, seed) for seed in range(boards)]
        anywhere, at_best = np.mean(np.array(marks) > 0, axis=0)
        print(
            f"{runs:3} equal runs, {clips} clips, {boards} boards: a false pair on "
            f"{100 * anywhere:.1f} %, a false mark against the best on {100 * at_best:.1f} %",
            flush=True,
        )
        if clips == CLIPS:  # with two binomial errors of room
            room = 2 * np.sqrt(0.05 * 0.95 / boards)
            is_fine &= 0.03 - room <= anywhere <= 0.07 + room
    found = [len(significant(different(real, random, seed))) for seed in range(20)]
    print(f"36 runs 21 points apart: {np.mean(found):.0f} of 630 pairs found ({min(found)} least)")
    return 0 if is_fine and min(found) > 150 else 1


def false_marks(
    real: Sequence[Scores], runs: int, clips: int, random: np.random.Generator, seed: int
) -> tuple[int, int]:
    """(pairs that are found to differ, those of them with the best run)."""
    values = np.stack([each.contributions.values for each in real])
    rows = random.integers(0, values.shape[1], size=clips)
    board = {}
    for number in range(runs):
        answers = random.integers(0, len(real), size=clips)
        board[f"run{number}"] = populations.of_rows(real[0], rows, values[answers, rows])
    family = compare(board, replicates=REPLICATES, seed=seed)
    marked = significant(family)
    best = next(iter(family.figures))
    return len(marked), sum(best in pair for pair in marked)


def different(real: Sequence[Scores], random: np.random.Generator, seed: int) -> Family:
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


def significant(family: Family) -> list[tuple[str, str]]:
    return [(each.first, each.second) for each in family.pairs if each.p < family.alpha]


if __name__ == "__main__":
    sys.exit(main())
