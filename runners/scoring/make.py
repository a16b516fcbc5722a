"""Settings -> metric, checked before anything is read."""

from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from importlib.resources import files
from typing import Any

from ovmer.baselines.errors import PrerequisiteError, near
from ovmer.runners.scoring.base import Metric
from ovmer.runners.scoring.parsing import Labels
from ovmer.runners.scoring.result import Scores

KINDS: Mapping[str, str] = {
    "wheel": "ovmer.runners.scoring.wheel:WheelMetric",
    "hit_rate": "ovmer.runners.scoring.hit_rate:HitRateMetric",
    "grouping": "ovmer.runners.scoring.grouping:GroupingMetric",
    "sentiment": "ovmer.runners.scoring.classes:SentimentMetric",
    "single_label": "ovmer.runners.scoring.classes:SingleLabelMetric",
    "protocols": "ovmer.runners.tasks.metric:ProtocolMetric",
    "preference": "ovmer.runners.scoring.classes:PreferenceMetric",
}
"""Values of `kind` in `conf/metric/NAME.yaml`; by default the name itself."""


def make_metric(settings: Mapping[str, Any]) -> Metric:
    """The metric that the keys of `conf/metric/NAME.yaml` describe.

    Raises PrerequisiteError for an unknown kind, key or value, and for missing word tables.
    """
    given = {str(key): value for key, value in settings.items()}
    kind = str(given.pop("kind", given.get("name", "wheel")))
    if kind not in KINDS:
        raise PrerequisiteError(f"there is no metric {kind!r}; {near(kind, KINDS)}")
    module, name = KINDS[kind].split(":")
    cls = getattr(import_module(module), name)
    defaults = {each.name: getattr(cls, each.name, None) for each in fields(cls) if each.init}
    for key, value in given.items():
        if key not in defaults:
            raise PrerequisiteError(f"metric {kind} has no key {key!r}; {near(key, defaults)}")
        if isinstance(defaults[key], str) and not isinstance(value, str):
            raise PrerequisiteError(f"metric.{key} is {value!r}; give a word")
        if isinstance(defaults[key], tuple) and isinstance(value, str):
            raise PrerequisiteError(f"metric.{key} is {value!r}; give a list, [{value}]")
    metric: Metric = cls(**given)
    if metric.primary not in metric.figure_names:
        raise PrerequisiteError(
            f"metric.primary is {metric.primary!r}; {near(metric.primary, metric.figure_names)}"
        )
    return metric


def metric_settings(name: str) -> dict[str, Any]:
    """The contents of `conf/metric/NAME.yaml`; PrerequisiteError for an unknown name."""
    import yaml

    folder = files("ovmer.conf").joinpath("metric")
    path = folder.joinpath(f"{name}.yaml")
    if not path.is_file():
        known = [each.name.removesuffix(".yaml") for each in folder.iterdir()]
        raise PrerequisiteError(f"there is no metric={name}; {near(name, known)}")
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    return dict(settings)


def score(
    predictions: Mapping[str, Labels],
    truth: Mapping[str, Any],
    metric: str = "wheel",
    missing: str = "error",
    bootstrap: int | None = None,
    seed: int = 0,
    **settings: Any,
) -> Scores:
    """Score predictions against the truth, both name -> labels; for notebooks.

    `metric` names a file of `conf/metric/`, `settings` override its keys, and `bootstrap` is the
    number of replicates behind the intervals (0: none; by default 10,000, fewer over many clips).

    Raises PrerequisiteError with one sentence for what cannot be scored (see `Metric.score`).
    """
    scores = make_metric(metric_settings(metric) | settings).score(predictions, truth, missing)
    return scores if bootstrap == 0 else scores.with_intervals(bootstrap, seed)
