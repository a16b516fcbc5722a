"""Differences from print: their random variation, and the summary of a column.

Print scored the same clips, so intervals over clips do not apply to the difference: what differs is
the draw of the descriptions and of the labels. docs/statistics.md has the formulas.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from ovmer.runners.scoring.intervals import t_quantile

LEAST_ROWS = 3
"""Of a column that is summed up."""
_T = 0.975


def half_width(
    spread: float | None, readings: int, printed: float | None, runs: int
) -> float | None:
    """Half of the 95 % interval of ours less print; None where one of the noises is not known.

    `spread` is the standard deviation of our readings, `printed` that of print's runs. Welch's
    interval with the degrees of freedom of Satterthwaite (1946).
    """
    if spread is None or printed is None or readings < 2 or runs < 2:
        return None
    ours, theirs = spread**2 / readings, printed**2 / runs
    error = ours + theirs
    if error == 0:
        return 0.0
    df = error**2 / (ours**2 / (readings - 1) + theirs**2 / (runs - 1))
    return t_quantile(_T, df) * math.sqrt(error)


@dataclass(frozen=True)
class ColumnSummary:
    """The differences of a column's rows, ours less print."""

    rows: int
    mean: float
    half: float
    """Of the mean's 95 % interval over rows."""
    rms: float
    p: float
    """That the mean is 0: t test over rows."""


def summary(differences: Sequence[float]) -> ColumnSummary | None:
    """Summary of a column's differences; None for fewer than three.

    An offset that all rows share (another vocabulary, another edition of the labels) shows here
    long before it shows in any row.
    """
    from scipy.special import stdtr

    rows = len(differences)
    if rows < LEAST_ROWS:
        return None
    mean, error = fmean(differences), stdev(differences) / math.sqrt(rows)
    rms = math.sqrt(fmean(each**2 for each in differences))
    p = 2 * float(stdtr(rows - 1, -abs(mean) / error)) if error else float(mean == 0)
    return ColumnSummary(rows, mean, t_quantile(_T, rows - 1) * error, rms, p)
