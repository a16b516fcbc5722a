"""The bootstrap: sums over clips (or clusters of clips) that are drawn with replacement.

Draws depend on the seed and on the number of units alone, so all runs over the same clips share
them, a longer series begins with the shorter one, and every command gives the same digits.

Guaranteed: the sums are exact. They add contributions that are rounded to multiples of a power of
two, which double precision adds without error in any order, so no platform and no BLAS differs.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ovmer.baselines.errors import PrerequisiteError

FloatArray = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

LEAST_REPLICATES = 200
"""Below, the ends of an interval are themselves a matter of luck."""
_DEFAULT_REPLICATES, _FEWEST_BY_DEFAULT, _DRAWS = 10_000, 1000, 40_000_000
_BLOCK = 1 << 23
"""Draws and the numbers that they are multiplied by, held at once: 64 MB. In smaller blocks two
threads of OpenBLAS take five times as long."""


@dataclass(frozen=True)
class Contributions:
    """One run's contributions to the figures, clip by clip."""

    clips: tuple[str, ...]
    """Sorted."""
    columns: tuple[str, ...]
    values: FloatArray
    """(clips x columns): mostly in [0, 1]; a number or a judge's score may lie outside."""
    clusters: tuple[str, ...] = ()
    """The cluster (speaker, video, dialogue) of each clip; empty: clips are independent."""

    @cached_property
    def sums(self) -> FloatArray:
        """The exactly rounded sum of each column."""
        return np.array([math.fsum(column.tolist()) for column in self.values.T])

    @property
    def n_units(self) -> int:
        """How many clusters there are; without clusters, how many clips."""
        return len(set(self.clusters)) if self.clusters else len(self.clips)

    @cached_property
    def unit_of(self) -> Indices:
        """(clips): the index of each clip's unit; clusters count in the order of their names."""
        if not self.clusters:
            return np.arange(len(self.clips))
        index = {name: i for i, name in enumerate(sorted(set(self.clusters)))}
        return np.array([index[name] for name in self.clusters])

    def unit_sums(self, values: FloatArray) -> FloatArray:
        """Sums over each unit's clips: (clips x columns) -> (units x columns)."""
        if not self.clusters:
            return values
        sums = np.zeros((self.n_units, values.shape[1]))
        np.add.at(sums, self.unit_of, values)
        return sums

    def scale(self, *values: FloatArray) -> float:
        """A power of two: sums of as many draws of multiples of 1 / scale as large are exact."""
        largest = int(np.bincount(self.unit_of).max()) if self.clusters else 1
        bits = (self.n_units * largest).bit_length()
        above = max(float(np.fmax.reduce(np.abs(each), axis=None, initial=1)) for each in values)
        return float(2.0 ** (52 - bits - math.ceil(math.log2(above))))

    def restricted(self, clips: Sequence[str]) -> "Contributions":
        """The contributions of the given clips (sorted), which must be among ours."""
        index = {name: i for i, name in enumerate(self.clips)}
        rows = [index[name] for name in clips]
        clusters = tuple(self.clusters[row] for row in rows) if self.clusters else ()
        return Contributions(tuple(clips), self.columns, self.values[rows], clusters)

    def resampled(self, replicates: int, seed: int = 0) -> FloatArray:
        """Column sums (replicates x columns) over units drawn with replacement."""
        return resample([self], replicates, seed)[0]


def resample(parts: Sequence[Contributions], replicates: int, seed: int = 0) -> list[FloatArray]:
    """The column sums (replicates x columns) of each part over draws that all parts share.

    The parts must hold the same clips in the same clusters. A column that several parts have alike,
    such as which clips count, is summed once.
    """
    first = parts[0]
    columns = [column for part in parts for column in part.values.T]
    keys = [hashlib.blake2b(column.tobytes()).digest() for column in columns]
    index = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    distinct = np.empty((len(first.clips), len(index)))
    for key, column in zip(keys, columns, strict=True):
        distinct[:, index[key]] = column
    scale = first.scale(distinct)
    distinct *= scale
    whole = first.unit_sums(np.rint(distinct, out=distinct))
    most = _BLOCK // first.n_units
    rows = max(most - whole.shape[1], most // 2, 1)
    drawn = [counts @ whole for counts in _resample_counts(first.n_units, replicates, seed, rows)]
    sums = np.concatenate(drawn) / scale
    ends = np.cumsum([len(part.columns) for part in parts])
    indices = np.split(np.array([index[key] for key in keys]), ends[:-1])
    return [sums[:, each] for each in indices]


def _resample_counts(units: int, replicates: int, seed: int, rows: int) -> Iterator[FloatArray]:
    """How often each unit is drawn: blocks of replicates, (`rows` x units), one at a time in the
    same memory."""
    random = np.random.Generator(np.random.PCG64(seed))
    counts = np.empty((min(replicates, rows), units))
    for start in range(0, replicates, len(counts)):
        block = counts[: replicates - start]
        for row in block:
            row[:] = np.bincount(random.integers(0, units, size=units), minlength=units)
        yield block


def replicates_for(units: int, wanted: int | None = None) -> int:
    """How many replicates to draw: as many as wanted, else 10,000 or, of many units, fewer.

    Raises PrerequisiteError for fewer than 200.
    """
    if wanted is None:
        return max(_FEWEST_BY_DEFAULT, min(_DEFAULT_REPLICATES, _DRAWS // max(units, 1)))
    if wanted < LEAST_REPLICATES:
        raise PrerequisiteError(
            f"bootstrap is {wanted}; give at least {LEAST_REPLICATES}, fewer resamples make no "
            "interval"
        )
    return wanted
