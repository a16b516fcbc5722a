"""Run folders as they are: finished or not, with or without their data set.

Nothing is judged stale here and no adapter is built: what a folder holds is shown. That its data
set has moved, that it is half finished or a dry run becomes a warning, which the page shows.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ovmer.baselines.errors import PrerequisiteError, Status
from ovmer.runners.config import Settings, settings_from_json
from ovmer.runners.data import Clip, read_dataset
from ovmer.runners.folder.readings import read_readings, stored_entry
from ovmer.runners.folder.records import LabelRecord, Prediction
from ovmer.runners.folder.run_folder import RunFolder, read_folders
from ovmer.runners.folder.scores_json import StoredScores
from ovmer.runners.scoring import Metric, make_metric
from ovmer.runners.scoring.vocabulary import SHIPPED
from ovmer.runners.trained_on import seen_by


@dataclass
class ReportRun:
    """Contents of one run folder."""

    path: Path
    dataset: str
    """The name of the folder above: the data set, with a hash where its root was given."""
    settings: Settings
    metric: Metric
    clips: Sequence[Clip]
    predictions: dict[str, Prediction]
    """Of clips of the data set alone."""
    readings: list[dict[str, LabelRecord]]
    """Labels by clip: one reading, or one for each seed of the extractor."""
    entry: StoredScores | None
    """The figures in scores.json for the run's own extractor and metric."""
    is_dry: bool
    changed: float
    """When the last clip was recorded, in seconds since 1970."""
    warnings: list[str] = field(default_factory=list)
    """Warnings for the reader, each as `tag: sentence`."""
    names_labels: bool = False
    """Whether the baseline names labels itself, so that no extractor makes them."""

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def title(self) -> str:
        return str(self.settings.baseline.get("title") or self.settings.baseline.get("name", ""))

    @property
    def is_bound(self) -> bool:
        """Whether it repeats the truth: an upper bound of the metric, and no contestant."""
        return self.settings.baseline.get("adapter") == "ground_truth"

    @property
    def truth(self) -> dict[str, Any]:
        """True labels in the metric's form, for the clips that have any."""
        return {clip.name: self.metric.truth_of(clip) for clip in self.clips if clip.labels}

    @property
    def counts(self) -> Counter[Status]:
        return Counter(each.status for each in self.predictions.values())

    @property
    def answered(self) -> int:
        """How many clips the model answered, be it with nothing."""
        return sum(not each.failed for each in self.predictions.values())

    @property
    def undescribed(self) -> int:
        return len(self.clips) - len(self.predictions)

    @property
    def unlabelled(self) -> int:
        """Descriptions without labels in some reading."""
        return max(
            sum(not each.failed and each.name not in labels for each in self.predictions.values())
            for labels in self.readings
        )

    @property
    def is_whole(self) -> bool:
        return not self.undescribed and not self.unlabelled


def collect(paths: Sequence[str | Path], root: Path | None = None) -> list[ReportRun]:
    """The runs in the given folders and below them, in the order given.

    `root` is where to look for a data set that is no longer where its run says.

    A folder that cannot be shown is left out with a sentence. Raises PrerequisiteError where none
    can be.
    """
    datasets = DatasetCache(root)
    return read_folders([Path(path) for path in paths], lambda folder: read_run(folder, datasets))


def read_run(folder: RunFolder, datasets: "DatasetCache") -> ReportRun:
    """Read a run folder; PrerequisiteError if it cannot be shown."""
    path, info = folder.path, folder.info()
    if info.imported is not None:
        raise PrerequisiteError(
            f"{path} holds the figures of imported predictions, and not what was said"
        )
    settings = settings_from_json(info.settings, path)
    predictions = folder.read_predictions()
    clips, warnings = datasets.clips(settings.dataset)
    if clips is None:
        clips = [Clip(name, None, None, None, "", ()) for name in sorted(predictions)]
        clips = clips[: settings.dataset.get("limit")]
    else:
        wanted = {clip.name for clip in clips}
        predictions = {name: each for name, each in predictions.items() if name in wanted}
    entry = stored_entry(folder, settings)
    run = ReportRun(
        path,
        path.resolve().parent.name,
        settings,
        _metric(settings, entry, warnings),
        clips,
        predictions,
        read_readings(folder, settings, info, entry, predictions, clips),
        entry,
        info.is_dry,
        folder.last_record(),
        warnings,
        info.names_labels,
    )
    if run.is_dry:
        run.warnings.append(
            "dry run: a random miniature replaces the model, so figures mean nothing"
        )
    if mark := seen_by(settings).mark:
        run.warnings.append(f"trained on: {mark}")
    if run.undescribed:
        run.warnings.append(f"not finished: {run.undescribed} of {len(clips)} clips are missing")
    if run.unlabelled:
        run.warnings.append(f"not finished: {run.unlabelled} descriptions have no labels yet")
    return run


def _metric(settings: Settings, entry: StoredScores | None, warnings: list[str]) -> Metric:
    """The run's own metric, by the vocabulary that it was scored with."""
    metric = make_metric(settings.metric)
    then = None if entry is None else entry.conditions.get("vocabulary")
    now = metric.conditions.get("vocabulary")
    if then == SHIPPED != now:
        return make_metric({**settings.metric, "wheel_root": SHIPPED})
    if then not in (None, now):
        warnings.append(f"scored anew: by the vocabulary {now}, while the run used {then}")
    return metric


class DatasetCache:
    """Reads each data set once, however many runs share it."""

    def __init__(self, root: Path | None = None) -> None:
        self._root = root
        self._read: dict[str, tuple[Sequence[Clip] | None, list[str]]] = {}

    def clips(self, dataset: Mapping[str, Any]) -> tuple[Sequence[Clip] | None, list[str]]:
        """The clips (None if even their tables are gone), and warnings about them."""
        key = json.dumps(dataset, sort_keys=True)
        if key not in self._read:
            self._read[key] = self._find(dataset)
        clips, warnings = self._read[key]
        return clips, list(warnings)

    def _find(self, dataset: Mapping[str, Any]) -> tuple[Sequence[Clip] | None, list[str]]:
        candidates = (
            [dataset] if self._root is None else [dataset, {**dataset, "root": str(self._root)}]
        )
        reason = ""
        for candidate in candidates:
            try:
                return read_dataset({**candidate, "check_files": True}), []
            except PrerequisiteError as error:
                reason = reason or str(error)
        for candidate in candidates:
            try:
                clips = read_dataset({**candidate, "check_files": False})
            except PrerequisiteError:
                continue
            problem = reason.partition("; ")[0]  # what follows is advice for a sweep
            return clips, [f"no media: {problem}; root=FOLDER says where the data set is now"]
        return None, [
            f"no data set: without it there are no subtitles, truth and media; {reason}; "
            "root=FOLDER says where it is now"
        ]
