"""Score a file of predictions against a file of true labels.

ovmer score predictions=outputs/ovmerd/lexicon
ovmer score predictions=pred.csv truth=true.csv metric=hit_rate breakdown=tables
ovmer score task=dfew predictions=replies.csv truth=true.csv
ovmer score dataset=dfew dataset.root=/data/DFEW predictions=replies.csv

The truth of a run folder is that of its data set, unless truth= or dataset= names another.

With task= the replies of any model are read by the protocols of that task, side by side, without
the model (docs/benchmarks.md).
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from ovmer.baselines.errors import PrerequisiteError, one_of
from ovmer.runners import cli
from ovmer.runners.data import in_clusters, read_dataset
from ovmer.runners.data.clusters import named_clips
from ovmer.runners.folder.exchange import read_labels
from ovmer.runners.folder.imported import Origin, RecordSettings, record
from ovmer.runners.folder.readings import repeated_readings
from ovmer.runners.folder.run_folder import own_run
from ovmer.runners.foreign_text import visible
from ovmer.runners.scoring import Metric, Scores, make_metric
from ovmer.runners.scoring.base import MISSING
from ovmer.runners.scoring.label_files import Columns, LabelFile
from ovmer.runners.scoring.resampling import replicates_for
from ovmer.runners.scoring.result import mean_scores, write_csvs
from ovmer.runners.tasks.task import applied

_MANDATORY = "???"


@dataclass
class LabelColumns:
    """Columns to read; null: inferred from the header."""

    name: str | None = None
    predictions: str | None = None
    truth: str | None = None


@dataclass
class CommonSettings:
    """Settings of all commands that read labels and a truth."""

    truth: str | None = None
    metric: dict[str, Any] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    question: str | None = None
    choices: list[str] = field(default_factory=list)
    data_root: str = "dataset"
    limit: int | None = None
    columns: LabelColumns = field(default_factory=LabelColumns)
    missing: str = "error"
    bootstrap: int | None = None
    confidence: float = 0.95
    seed: int = 0
    cluster: str | None = None
    output: str | None = None

    @property
    def paths(self) -> list[str]:
        """Files or run folders to score."""
        raise NotImplementedError

    def make_metric(self) -> Metric:
        """The metric, which a task may bring."""
        return make_metric(applied(self.task, self.metric, {})[0])

    @property
    def truth_name(self) -> str:
        """Name of the truth's source."""
        return self.truth or str(self.dataset.get("name", ""))

    def check(self) -> None:
        """Raise PrerequisiteError for a value out of range."""
        if self.bootstrap:
            replicates_for(1, self.bootstrap)
        if not 0 < self.confidence < 1:
            raise PrerequisiteError(f"confidence is {self.confidence}; give one like 0.95")
        one_of("missing", self.missing, MISSING)


@dataclass
class OneRunSettings(CommonSettings):
    """Of a command that reads one run or file."""

    predictions: str = _MANDATORY
    record: RecordSettings = field(default_factory=RecordSettings)

    @property
    def paths(self) -> list[str]:
        return [self.predictions]


@dataclass
class SeveralRunsSettings(CommonSettings):
    """Of a command that reads several."""

    runs: list[str] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        return self.runs


@dataclass
class ScoreSettings(OneRunSettings):
    """`conf/score.yaml`."""

    breakdown: str | None = None


S = TypeVar("S", bound=CommonSettings)


@cli.command
def main() -> int:
    """The command: prints the table, writes the requested files."""
    return _score(compose_settings("score", ScoreSettings, __doc__ or ""))


def compose_settings(name: str, schema: type[S], about: str) -> S:
    """`conf/NAME.yaml` with the command line's overrides; `--help` prints that file.

    Raises PrerequisiteError and the errors of Hydra, which `cli.run` turns into a sentence.
    """
    root = files("ovmer.conf")
    metrics = sorted(each.name.removesuffix(".yaml") for each in root.joinpath("metric").iterdir())
    parser = argparse.ArgumentParser(
        prog=f"ovmer {name}",
        description=about,
        epilog=f"{root.joinpath(f'{name}.yaml').read_text('utf-8')}\nmetric: {', '.join(metrics)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("setting", nargs="*", metavar="key=value", help="a setting, see below")
    overrides = parser.parse_args().setting

    # Once only: `hydra.main` composes twice, a fifth of a second that scoring itself takes.
    from hydra import compose, initialize_config_module
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    def composed(*first: str) -> S:
        settings = OmegaConf.to_object(compose(name, [*first, *overrides]))
        assert isinstance(settings, schema)
        return settings

    ConfigStore.instance().store(name=f"{name}_schema", node=schema)
    with initialize_config_module("ovmer.conf", version_base="1.3"):
        settings = composed()
        if settings.truth is None and not settings.dataset:
            dataset = _dataset_of(settings.paths)
            own = str(dataset.get("name"))
            if root.joinpath("dataset", f"{own}.yaml").is_file():
                settings = composed(f"dataset={own}")  # which brings its metric or its task
            settings.dataset = dataset
    return settings


def _dataset_of(paths: Sequence[str]) -> dict[str, Any]:
    """Settings of the data set of the run folders among `paths`; empty where there is none.

    Raises PrerequisiteError where there are several.
    """
    runs = [info for path in paths if (info := own_run(Path(path).expanduser()))]
    found = [dict(info.settings["dataset"]) for info in runs if info.has_truth]
    names = sorted({str(each["name"]) for each in found})
    if len(names) > 1:
        raise PrerequisiteError(
            f"the runs are of several data sets ({', '.join(names)}); give truth= or dataset="
        )
    return found[0] if found else {}


def _score(settings: ScoreSettings) -> int:
    settings.check()
    metric = settings.make_metric()
    scores = score_file(settings, metric, settings.predictions)
    if settings.bootstrap != 0:
        scores = scores.with_intervals(settings.bootstrap, settings.seed, settings.confidence)
    print(visible(str(scores)))
    for line in metric.explain(scores):
        print(visible(f"- {line}"))
    if settings.breakdown is not None:
        paths = write_csvs(settings.breakdown, scores.breakdown())
        print(f"- breakdown: {', '.join(str(path) for path in paths)}")
    kept = record(settings.record, scores, Origin(settings.predictions, settings.truth_name))
    if kept is not None:
        print(f"- kept for ovmer tables in {kept}")
    if settings.output is not None:
        text = json.dumps(scores.as_json(), ensure_ascii=False, indent=2)
        Path(settings.output).expanduser().write_text(text + "\n", encoding="utf-8")
    return cli.FINE


def score_file(
    settings: CommonSettings, metric: Metric, predictions: str, truth: LabelFile | None = None
) -> Scores:
    """The scores of one file or run folder; `truth` where it has been read before."""
    if truth is None:
        truth = read_truth(settings, metric)
    path = Path(predictions).expanduser()
    readings = repeated_readings(path)
    if readings:
        labels = [{name: each.labels for name, each in found.items()} for found in readings]
        notes = [f"mean of {len(readings)} readings, that is seeds of the extractor"]
    else:
        columns = Columns(
            metric.answer_columns, settings.columns.name, settings.columns.predictions
        )
        answers = read_labels(path, columns)
        labels, notes = [answers.values], answers.notes
    scores = mean_scores([metric.score(each, truth.values, settings.missing) for each in labels])
    scores.notes.extend(notes + truth.notes)
    return with_clusters(settings, scores, path)


def with_clusters(settings: CommonSettings, scores: Scores, path: Path) -> Scores:
    """The scores with clusters of clips: by `cluster`, or by the rule of the data set."""
    if settings.cluster == "none":
        return scores
    if settings.cluster is not None:
        cluster: Mapping[str, Any] = {"what": "cluster", "pattern": settings.cluster}
    else:
        run = own_run(path)
        dataset = settings.dataset if run is None else run.settings["dataset"]
        cluster = dataset.get("cluster") or {}
        if cluster.get("column") is not None:
            return in_clusters(scores, read_dataset({**dataset, "check_files": False}), cluster)
    return in_clusters(scores, named_clips(scores.contributions.clips, cluster), cluster)


def read_truth(settings: CommonSettings, metric: Metric) -> LabelFile:
    """The true labels, by the columns that the metric looks for, or those of the data set.

    Raises PrerequisiteError where neither is given.
    """
    if settings.truth is None:
        if not settings.dataset:
            raise PrerequisiteError("truth is not set; give a file, or dataset= and dataset.root=")
        clips = read_dataset({**settings.dataset, "check_files": False})
        return LabelFile({clip.name: metric.truth_of(clip) for clip in clips if clip.labels})
    columns = Columns(metric.truth_columns, settings.columns.name, settings.columns.truth)
    return read_labels(Path(settings.truth).expanduser(), columns)
