"""Sentiment as a number: ACC-2, ACC-3, ACC-5, ACC-7, F1, MAE, Pearson's r, CCC."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovmer.baselines.errors import PrerequisiteError, one_of
from ovmer.runners.scoring.base import wrong_value
from ovmer.runners.scoring.result import FloatArray, ratio
from ovmer.runners.tasks.family import Case, Family, FamilyFigures, policy, where_counted
from ovmer.runners.tasks.readers import number

Float32 = npt.NDArray[np.float32]

_MOSI_PAIRS, _SIMS_PAIRS = ("Has0", "Non0"), ("ACC-2",)
_SIMS_BINS = {"ACC-3": (-0.1, 0.1), "ACC-5": (-0.7, -0.1, 0.1, 0.7)}
_PAIR_PARTS = ("00", "01", "10", "11")
_MOMENTS = ("p", "t", "pp", "tt", "pt")


@dataclass
class Regression(Family):
    """A number a clip, on the scale of MOSI and MOSEI (-3 to 3) or of SIMS (-1 to 1).

    The classes are made from float32 numbers, as the authors' are, so that 0.1 and 0.7 fall on
    their side of a border. CCC is 2 cov / (var + var + (difference of means)^2), with n - 1 in
    cov and var as HiCMAE has it. Sources: thuiar/MMSA MetricsTop; sunlicai/HiCMAE.
    """

    scale: str = "mosi"
    unknown: str = "drop"
    graded = ("p",)
    unbounded = ("MAE", "RMSE", "Pearson", "CCC")
    errors = ("MAE", "RMSE")

    def __post_init__(self) -> None:
        if self.unknown != "drop":
            raise PrerequisiteError(
                f"unknown={self.unknown} has no meaning for numbers; say unknown=drop"
            )
        one_of("scale", self.scale, ("mosi", "sims"))
        self._pairs = _MOSI_PAIRS if self.scale == "mosi" else _SIMS_PAIRS
        self._bins = ("ACC-5", "ACC-7") if self.scale == "mosi" else tuple(_SIMS_BINS)
        pairs = [f"{pair}/{part}" for pair in self._pairs for part in _PAIR_PARTS]
        self.columns = (
            "clips",
            "unknown",
            "counted",
            *pairs,
            *self._bins,
            "error",
            "square",
            *_MOMENTS,
        )

    def count(self, cases: Sequence[Case]) -> FamilyFigures:
        given = [number(case.reply) for case in cases]
        true = np.array([_true_number(case) for case in cases])
        read = np.array([value is not None for value in given])
        predicted = np.array([0.0 if value is None else value for value in given])
        if self.scale == "sims":  # for every figure, MAE and Pearson among them
            predicted, true = np.clip(predicted, -1, 1), np.clip(true, -1, 1)
        columns = {
            "clips": np.ones(len(cases)), "unknown": ~read, "counted": read,
            **self._classes(predicted.astype(np.float32), true.astype(np.float32)),
            "error": np.abs(predicted - true), "square": (predicted - true) ** 2,
            "p": predicted, "t": true,
            "pp": predicted**2, "tt": true**2, "pt": predicted * true,
        }  # fmt: skip
        values = np.stack([columns[name].astype(np.float64) for name in self.columns], axis=1)
        values[~read, 2:] = 0
        return FamilyFigures(values, [None if v is None else f"{v:g}" for v in given], {})

    def _classes(self, predicted: Float32, true: Float32) -> dict[str, npt.NDArray[np.bool_]]:
        """Columns of the figures that count classes."""
        if self.scale == "mosi":
            found = {
                **_pair("Has0", true >= 0, predicted >= 0, np.ones(len(true), dtype=bool)),
                **_pair("Non0", true > 0, predicted > 0, true != 0),
            }
            for name, most in (("ACC-5", 2), ("ACC-7", 3)):
                classes = [np.round(np.clip(each, -most, most)) for each in (predicted, true)]
                found[name] = classes[0] == classes[1]
            return found
        found = _pair("ACC-2", true > 0, predicted > 0, np.ones(len(true), dtype=bool))
        for name, borders in _SIMS_BINS.items():
            inner = np.array(borders, dtype=np.float32)  # each class holds its right border
            found[name] = np.searchsorted(inner, true) == np.searchsorted(inner, predicted)
        return found

    def aggregate(self, sums: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        counted, figures = sums["counted"], dict[str, FloatArray]()
        for pair in self._pairs:
            accuracy, f1 = _pair_figures(*(sums[f"{pair}/{part}"] for part in _PAIR_PARTS))
            name = "ACC-2" if pair == "ACC-2" else f"ACC-2-{pair}"
            figures |= {name: accuracy, name.replace("ACC-2", "F1"): f1}
        figures |= {name: ratio(sums[name], counted, 0.0) for name in self._bins}
        p, t, pp, tt, pt = (ratio(sums[name], counted, 0.0) for name in _MOMENTS)
        var_p, var_t, cov = pp - p * p, tt - t * t, pt - p * t  # population moments
        # n - 1 in cov and var: all three times n / (n - 1), the means' distance not.
        whole = ratio(counted, np.maximum(counted - 1, 1), 0.0)
        figures["MAE"] = ratio(sums["error"], counted, 0.0)
        figures["RMSE"] = np.sqrt(ratio(sums["square"], counted, 0.0))
        figures["Pearson"] = ratio(cov, np.sqrt(np.maximum(var_p * var_t, 0.0)), 0.0)
        figures["CCC"] = ratio(2 * whole * cov, whole * (var_p + var_t) + (p - t) ** 2, 0.0)
        return where_counted(figures, counted) | {
            "unknown": ratio(sums["unknown"], sums["clips"], 0.0)
        }

    @property
    def about(self) -> str:
        left = f"a reply without one is {policy(self.unknown)}"
        return f"the first number of the answer; {left}"


def _true_number(case: Case) -> float:
    try:
        return float(case.truth[0])
    except (IndexError, ValueError) as error:
        raise wrong_value(case.name, "truth", f"{case.truth!r:.60}, which is no number") from error


def _pair(
    name: str,
    true: npt.NDArray[np.bool_],
    predicted: npt.NDArray[np.bool_],
    kept: npt.NDArray[np.bool_],
) -> dict[str, npt.NDArray[np.bool_]]:
    """The four cells (true, predicted) of a two-class table."""
    sides = {"0": ~true, "1": true}, {"0": ~predicted, "1": predicted}
    return {f"{name}/{part}": sides[0][part[0]] & sides[1][part[1]] & kept for part in _PAIR_PARTS}


def _pair_figures(
    low: FloatArray, above: FloatArray, below: FloatArray, high: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Accuracy and weighted F1 of a two-class table: (0,0), (0,1), (1,0), (1,1)."""
    n = low + above + below + high
    f1_0 = ratio(2 * low, 2 * low + above + below, 0.0)
    f1_1 = ratio(2 * high, 2 * high + above + below, 0.0)
    weighted = f1_0 * (low + above) + f1_1 * (below + high)
    return ratio(low + high, n, 0.0), ratio(weighted, n, 0.0)
