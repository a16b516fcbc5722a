"""The labels of a run folder: one reading of its descriptions, or one for each extractor seed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.config import Settings, settings_from_json
from ovmer.runners.data import Clip, read_dataset
from ovmer.runners.folder.records import LabelRecord, Prediction, identity_text, label_key
from ovmer.runners.folder.run_folder import RunFolder, own_run
from ovmer.runners.folder.run_json import RunInfo
from ovmer.runners.folder.scores_json import StoredScores
from ovmer.runners.naming import extraction_word


def stored_entry(folder: RunFolder, settings: Settings) -> StoredScores | None:
    """The figures that the folder keeps for the run's own extractor and metric."""
    if "name" not in settings.extractor:
        return None  # imported predictions
    key = f"{extraction_word(settings)}/{settings.metric.get('name')}"
    return folder.read_scores().get(key)


def read_readings(
    folder: RunFolder,
    settings: Settings,
    info: RunInfo,
    entry: StoredScores | None,
    predictions: Mapping[str, Prediction],
    clips: Sequence[Clip],
) -> list[dict[str, LabelRecord]]:
    """The labels of the run's own extractor for the descriptions as they are now.

    scores.json names that extractor; before there is one, or where the data set of merged
    subtitles or judged replies is gone, the latest labels are taken.
    """
    labelled = {key: each for key, each in folder.read_labels().items() if each.error is None}
    is_merged, is_judged = settings.subtitle == "merge", _is_judged(entry)
    of = {clip.name: clip for clip in clips}
    found = []
    for identity in _identities(entry, settings):
        keys = {
            name: label_key(
                name,
                each.description,
                of[name].subtitle if is_merged and name in of else None,
                info.names_labels,
                identity,
                of[name].labels if is_judged and name in of else (),
            )
            for name, each in predictions.items()
            if not each.failed
        }
        found.append({name: labelled[key] for name, key in keys.items() if key in labelled})
    if any(found):
        return found
    return [{each.name: each for each in labelled.values()}]


def repeated_readings(path: Path) -> list[dict[str, LabelRecord]]:
    """The readings of a run folder whose extraction was repeated; empty for any other.

    Raises PrerequisiteError where they cannot be told apart, because the data set is gone.
    """
    info, folder = own_run(path), RunFolder(path)
    if info is None:
        return []
    if all(len(entry.repeats) < 2 for entry in folder.read_scores().values()):
        return []
    settings = settings_from_json(info.settings, path)
    entry = stored_entry(folder, settings)
    if entry is None or len(entry.repeats) < 2:
        return []
    clips = _clips(settings, entry)
    found = read_readings(folder, settings, info, entry, folder.read_predictions(), clips)
    if len(found) != len(entry.repeats):
        raise PrerequisiteError(
            f"{path}: scores.json holds {len(entry.repeats)} readings, but labels.jsonl not all of "
            "their labels; run its sweep again"
        )
    return found


def kept_readings(path: Path, metric: str) -> dict[str, dict[str, LabelRecord]]:
    """Every reading of a run folder that was scored by a metric, by extractor (or judge) and seed;
    empty for any other path."""
    info, folder = own_run(path), RunFolder(path)
    if info is None:
        return {}
    settings = settings_from_json(info.settings, path)
    predictions, found = folder.read_predictions(), dict[str, dict[str, LabelRecord]]()
    for entry in folder.read_scores().values():
        if entry.metric == metric:
            clips = _clips(settings, entry)
            each = read_readings(folder, settings, info, entry, predictions, clips)
            numbers = [f", reading {i}" for i in range(1, len(each) + 1)] if each[1:] else [""]
            found |= {f"{entry.extraction}{n}": r for n, r in zip(numbers, each, strict=True)}
    return found


def _clips(settings: Settings, entry: StoredScores) -> Sequence[Clip]:
    """The clips of a run, where its labels hang on their subtitles or true labels."""
    if settings.subtitle != "merge" and not _is_judged(entry):
        return ()
    return read_dataset({**settings.dataset, "check_files": False})


def _is_judged(entry: StoredScores | None) -> bool:
    return entry is not None and "judge" in entry.extractor


def _identities(entry: StoredScores | None, settings: Settings) -> list[str]:
    """The identity of the extractor, once for each seed that it was run with."""
    if entry is None:
        return []
    if not entry.repeats:
        return [identity_text(entry.extractor)]
    seeds = settings.extractor.get("seeds") or ()
    return [identity_text({**entry.extractor, "seed": seed}) for seed in seeds]
