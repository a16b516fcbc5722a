"""How far judges, seeds or models agree on the same clips: Krippendorff's alpha."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.scoring.result import Scores
from ovmer.runners.tasks.metric import ProtocolMetric

Values = Sequence[str | float | None]


@dataclass(frozen=True)
class Agreement:
    """Alpha under one protocol: 1 is perfect, 0 is chance."""

    protocol: str
    level: str
    """nominal for classes, interval for grades."""
    alpha: float
    clips: int
    """Those that at least two have read."""


def agreement(metric: ProtocolMetric, scored: Mapping[str, Scores]) -> list[Agreement]:
    """One alpha a protocol over several readings of the same clips.

    A reply in which nothing was read is a missing value. Raises PrerequisiteError for fewer than
    two, and for others that were scored on other clips.
    """
    if len(scored) < 2:
        raise PrerequisiteError("agreement needs at least two runs or files; give runs=[A,B]")
    first, *others = scored.values()
    if any(each.contributions.clips != first.contributions.clips for each in others):
        raise PrerequisiteError("the runs do not hold the same clips; say missing=zero")
    found = []
    for protocol in metric.protocols:
        values = [metric.values(protocol, each) for each in scored.values()]
        is_graded = metric.is_graded(protocol)
        found.append(_alpha(protocol, values, "interval" if is_graded else "nominal"))
    return found


def _alpha(protocol: str, values: Sequence[Values], level: str) -> Agreement:
    import krippendorff

    codes: dict[str, float] = {}
    data = np.full((len(values), len(values[0])), np.nan)
    for row, each in zip(data, values, strict=True):
        for i, value in enumerate(each):
            if isinstance(value, str):
                row[i] = codes.setdefault(value, float(len(codes)))
            elif value is not None:
                row[i] = value
    shared = int(np.count_nonzero((~np.isnan(data)).sum(axis=0) >= 2))
    kinds = np.unique(data[~np.isnan(data)])
    if not shared:
        alpha = float("nan")
    elif len(kinds) < 2:  # all say the same, where the library has no answer
        alpha = 1.0
    else:
        alpha = float(krippendorff.alpha(reliability_data=data, level_of_measurement=level))
    return Agreement(protocol, level, alpha, shared)
