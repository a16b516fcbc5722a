"""The labels of a run folder: one reading of its descriptions, or one for each extractor seed."""

from collections.abc import Mapping
from pathlib import Path

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.config import Settings, settings_from_json
from ovmer.runners.data import read_dataset
from ovmer.runners.folder.records import LabelRecord, Prediction, identity_text, label_key
from ovmer.runners.folder.run_folder import RunFolder
from ovmer.runners.folder.run_json import RunInfo
from ovmer.runners.folder.scores_json import StoredScores
from ovmer.runners.job import Job


def stored_entry(folder: RunFolder, settings: Settings) -> StoredScores | None:
    """The figures that the folder keeps for the run's own extractor and metric."""
    if "name" not in settings.extractor:
        return None  # imported predictions
    key = f"{Job(settings).extraction}/{settings.metric.get('name')}"
    return folder.read_scores().get(key)


def read_readings(
    folder: RunFolder,
    settings: Settings,
    info: RunInfo,
    entry: StoredScores | None,
    predictions: Mapping[str, Prediction],
    subtitles: Mapping[str, str | None],
) -> list[dict[str, LabelRecord]]:
    """The labels of the run's own extractor for the descriptions as they are now.

    scores.json names that extractor; before there is one, or where the clips'
    subtitles are gone, the latest labels are taken.
    """
    labelled = {key: each for key, each in folder.read_labels().items() if each.error is None}
    is_merged = settings.subtitle == "merge"
    items = [
        (
            name,
            each.description,
            subtitles.get(name) if is_merged else None,
            info.names_labels,
        )
        for name, each in predictions.items()
        if not each.failed
    ]
    found = []
    for identity in _identities(entry, settings):
        keys = {item[0]: label_key(*item, identity) for item in items}
        found.append({name: labelled[key] for name, key in keys.items() if key in labelled})
    if any(found):
        return found
    return [{each.name: each for each in labelled.values()}]


def repeated_readings(path: Path) -> list[dict[str, LabelRecord]]:
    """The readings of a run folder whose extraction was repeated; empty for any other.

    Raises PrerequisiteError if they are ambiguous, because the subtitles are gone.
    """
    folder = RunFolder(path)
    info = folder.find_info() if path.is_dir() else None
    if info is None or info.imported is not None:
        return []
    if all(len(entry.repeats) < 2 for entry in folder.read_scores().values()):
        return []
    settings = settings_from_json(info.settings, path)
    entry = stored_entry(folder, settings)
    if entry is None or len(entry.repeats) < 2:
        return []
    subtitles: dict[str, str | None] = {}
    if settings.subtitle == "merge":
        clips = read_dataset({**settings.dataset, "check_files": False})
        subtitles = {clip.name: clip.subtitle for clip in clips}
    found = read_readings(folder, settings, info, entry, folder.read_predictions(), subtitles)
    if len(found) != len(entry.repeats):
        raise PrerequisiteError(
            f"{path}: scores.json holds {len(entry.repeats)} readings, but labels.jsonl not all of "
            "their labels; run its sweep again"
        )
    return found


def _identities(entry: StoredScores | None, settings: Settings) -> list[str]:
    """The identity of the extractor, once for each seed that it was run with."""
    if entry is None:
        return []
    if not entry.repeats:
        return [identity_text(entry.extractor)]
    seeds = settings.extractor.get("seeds") or ()
    return [identity_text({**entry.extractor, "seed": seed}) for seed in seeds]
