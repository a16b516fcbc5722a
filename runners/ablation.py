"""Ablation of inputs: runs of one baseline with all inputs and with fewer, clip by clip.

The difference of a figure is paired by clip and has an interval (scoring/significance.py); beside
it is the number of clips whose answer changed, whatever the truth.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite

from ovmer.runners.config import Settings
from ovmer.runners.describing.inputs import ALL
from ovmer.runners.scoring import Scores
from ovmer.runners.scoring.significance import compare


@dataclass(frozen=True)
class AblationRun:
    """One run, as far as it matters here."""

    name: str
    settings: Settings
    said: Mapping[str, str]
    """Clip -> the answer; clips that failed are left out."""
    scores: Scores | None = None
    """None where there is no truth, or the figures are not to be compared."""


@dataclass(frozen=True)
class InputEffect:
    """One run with fewer or other inputs, against the run with all."""

    name: str
    whole: str
    """The name of the run with all inputs."""
    inputs: str
    changed: tuple[str, ...]
    """The clips whose answer differs."""
    both: int
    """Clips that both runs answered."""
    figure: str = ""
    value: float | None = None
    difference: float | None = None
    """The figure with all inputs, less this run's: the contribution of the removed input."""
    interval: tuple[float, float] | None = None
    p: float | None = None


def changes(rows: Sequence[AblationRun]) -> list[InputEffect]:
    """Every run with other inputs, in the order given, against its run with all."""
    whole = {_kin(row.settings): row for row in rows if row.settings.inputs == ALL}
    return [
        _change(row, whole[key])
        for row in rows
        if row.settings.inputs != ALL and (key := _kin(row.settings)) in whole
    ]


def _kin(settings: Settings) -> str:
    """Key of the runs of one ablation: every setting that shapes an answer but the inputs."""
    plain = asdict(replace(settings, inputs=ALL))
    beside = {"workers", "batch_size", "batch_tokens", "on_error", "launcher", "redo", "outputs"}
    return json.dumps({k: v for k, v in plain.items() if k not in beside}, default=str)


def _change(row: AblationRun, whole: AblationRun) -> InputEffect:
    both = [name for name in whole.said if name in row.said]
    changed = tuple(name for name in both if row.said[name] != whole.said[name])
    found = InputEffect(row.name, whole.name, row.settings.inputs, changed, len(both))
    if row.scores is None or whole.scores is None:
        return found
    figure = row.scores.primary
    found = replace(found, figure=figure, value=row.scores.figures[figure])
    if row.scores.contributions.clips != whole.scores.contributions.clips:
        return found
    pair = compare({ALL: whole.scores, row.name: row.scores}, figure).pair(ALL, row.name)
    if pair is None:
        return found
    low, high = pair.interval
    return replace(
        found,
        difference=_known(pair.difference),
        interval=(low, high) if isfinite(high - low) else None,
        p=_known(pair.p),
    )


def _known(value: float) -> float | None:
    """None for what is undefined, since JSON has no NaN."""
    return value if isfinite(value) else None
