"""Run folders as pandas data frames, for notebooks."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.folder.exchange import read_labels
from ovmer.runners.folder.records import Prediction
from ovmer.runners.folder.run_folder import RunFolder, read_folders
from ovmer.runners.scoring.label_files import Columns
from ovmer.runners.scoring.parsing import string_to_list

if TYPE_CHECKING:
    from pandas import DataFrame

Row = dict[str, Any]
_RUN = ("folder", "dataset", "baseline")
_LABELS = ("name", "labels")
_SCORES = "extraction metric figure value low high n_clips n_counted comparable_with_papers".split()


class RunFrames(NamedTuple):
    """Data frames of run folders; `folder`, `dataset` and `baseline` name the run in each row."""

    predictions: "DataFrame"
    """One row a clip, with the fields of `Prediction`."""
    labels: "DataFrame"
    """One row a clip that has labels: `name` and `labels`, those of the run's last session."""
    scores: "DataFrame"
    """One row a figure, in [0, 1], with its interval."""


def read_runs(*paths: str | Path) -> RunFrames:
    """Read every run folder at or below the paths ("outputs" if none is given).

    A folder that cannot be read is left out, with a line on stderr. Raises PrerequisiteError where
    a path is no folder, and where nothing can be read.
    """
    from pandas import DataFrame

    roots = [Path(path).expanduser() for path in paths or ("outputs",)]
    runs = read_folders(roots, _rows)
    names = [each.name for each in fields(Prediction) if each.name not in _HIDDEN]
    columns = (names, _LABELS, _SCORES)
    return RunFrames(
        *(
            DataFrame([row for run in runs for row in run[i]], columns=[*_RUN, *columns[i]])
            for i in range(3)
        )
    )


_HIDDEN = ("fingerprint", "made_by")


def _rows(folder: RunFolder) -> tuple[list[Row], list[Row], list[Row]]:
    """The rows of one run in each of the three frames."""
    info = folder.info()
    run = {"folder": str(folder.path), "dataset": info.dataset, "baseline": info.baseline}
    predictions = [
        {each.name: getattr(one, each.name) for each in fields(Prediction)}
        | {"status": one.status.value}
        for one in folder.read_predictions().values()
    ]
    return (
        [run | row for row in predictions],
        [run | row for row in _label_rows(folder.path)],
        [run | row for row in _score_rows(folder)],
    )


def _label_rows(path: Path) -> Iterator[Row]:
    try:
        found: Mapping[str, Any] = read_labels(path, Columns(("openset",))).values
    except PrerequisiteError:  # nothing is labelled yet
        return
    for name, labels in found.items():
        yield {"name": name, "labels": string_to_list(labels)}


def _score_rows(folder: RunFolder) -> Iterator[Row]:
    for entry in folder.read_scores().values():
        for figure, value in entry.figures.items():
            low, high = entry.interval(figure) or (None, None)
            yield {
                "extraction": entry.extraction,
                "metric": entry.metric,
                "figure": figure,
                "value": value,
                "low": low,
                "high": high,
                "n_clips": entry.n_clips,
                "n_counted": entry.n_counted,
                "comparable_with_papers": entry.comparable_with_papers,
            }
