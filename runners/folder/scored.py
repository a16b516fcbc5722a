"""Scoring from Python, whatever holds the labels."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovmer.runners import scoring
from ovmer.runners.folder.exchange import read_labels
from ovmer.runners.scoring import Scores, make_metric, metric_settings
from ovmer.runners.scoring.label_files import Columns, collect
from ovmer.runners.table_files import TableFile

if TYPE_CHECKING:
    from pandas import DataFrame, Series


def score(
    predictions: "Mapping[str, Any] | Series[Any] | DataFrame | str | Path",
    truth: "Mapping[str, Any] | Series[Any] | DataFrame | str | Path",
    metric: str = "wheel",
    missing: str = "error",
    bootstrap: int | None = None,
    seed: int = 0,
    **settings: Any,
) -> Scores:
    """Score predictions against the truth.

    Each is name -> labels: a mapping, a series whose index holds the names, a data frame or a file
    with a column of names and one of labels, or a run folder. Labels are a list, or a string as the
    authors write it ("happy, excited" or "['happy', 'excited']").

    The other arguments are those of `runners.scoring.score`: `metric` names a file of
    `conf/metric/`, `settings` override its keys, and `bootstrap` is the number of replicates behind
    the intervals (0: none; by default 10,000, fewer over many clips).

    Raises PrerequisiteError with one sentence for what cannot be read or scored (see
    `Metric.score`).
    """
    rule = make_metric(metric_settings(metric) | settings)
    answers = _labels(predictions, Columns(rule.answer_columns))
    true = _labels(truth, Columns(rule.truth_columns))
    return scoring.score(answers, true, metric, missing, bootstrap, seed, **settings)


def _labels(given: Any, columns: Columns) -> Mapping[str, Any]:
    if isinstance(given, str | Path):
        return read_labels(Path(given).expanduser(), columns).values
    if isinstance(given, Mapping):
        return given
    values = given.astype(object).where(given.notna(), None)
    if given.ndim == 1:
        table = TableFile({0: "name", 1: "labels"}, values.items())
        return collect(Path("the series"), table, Columns(("labels",))).values
    table = TableFile({key: str(key) for key in given}, values.to_dict("records"))
    return collect(Path("the data frame"), table, columns).values
