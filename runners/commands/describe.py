"""Describe single clips with one baseline.

    ovmer describe baseline=video_llava video=clip.mp4 subtitle="I'm fine."
    ovmer describe baseline=qwen2_5_omni anna.mp4 interviews --labels

Files and folders are described one after the other, a folder with all that is in it; a table of
clips (csv, jsonl ...) works too. Of one clip `video`, `audio` and `subtitle` are taken as they
stand, quotes and commas included; without `audio` the video's own sound is heard, without
`subtitle` none is asked about. `frames=FOLDER` writes there what the model was shown, one image a
frame. Every other argument is a setting of conf/config.yaml in Hydra's syntax.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ovmer.adapters.base import AUDIO, SUBTITLE, VIDEO
from ovmer.baselines.errors import ClipError, PrerequisiteError
from ovmer.runners import cli
from ovmer.runners.commands.arguments import parse
from ovmer.runners.config import ColumnSettings, settings_from_overrides
from ovmer.runners.data.own import clips_at, single_clip
from ovmer.runners.describing.baseline import Baseline
from ovmer.runners.folder.records import Prediction
from ovmer.runners.foreign_text import visible
from ovmer.runners.job import Job
from ovmer.runners.parts import make
from ovmer.runners.progress import say

_FLAGS = {"labels": "print the labels that the extractor finds in each description, too"}


@cli.command
def main() -> int:
    """Print descriptions on stdout, notes and failures on stderr."""
    keys = (VIDEO, AUDIO, SUBTITLE, "frames")
    given = parse(__doc__, keys, overrides=None, paths="FILE or FOLDER", flags=_FLAGS)
    if not any(each.startswith("baseline=") for each in given.overrides):
        raise PrerequisiteError(
            "say which model is asked by baseline=NAME; ovmer list has the names"
        )
    frames = given.settings.pop("frames", None)
    if not given.paths and not given.settings:
        raise PrerequisiteError(
            "nothing to describe; name a file, or give video=, audio= or subtitle="
        )
    if given.paths and given.settings:
        key = next(iter(given.settings))
        raise PrerequisiteError(
            f"{key}= is about one clip, but {given.paths[0]} names clips already; leave one out"
        )
    settings = settings_from_overrides(given.overrides)
    if given.paths:
        clips = clips_at(given.paths, asdict(settings.columns))
        settings.columns = ColumnSettings()  # they are those of these tables
    else:
        clips = [single_clip(**given.settings)]
    job = Job(settings)
    make(settings, clips, job.adapter.modalities, job.label)  # before the model is loaded
    folder = None if frames is None else Path(frames).expanduser()
    if job.settings.dry_run:
        say("dry run: a random miniature answers, so its words mean nothing")
    uses = " and ".join(sorted(job.adapter.modalities))
    found: list[Prediction] = []
    with Baseline(job) as model:
        for clip in clips:
            try:
                found.append(model.ask(clip, folder))
            except ClipError as error:
                if len(clips) == 1:
                    raise
                say(str(error))
            else:
                _print(found[-1], clip.name if len(clips) > 1 else "", uses)
    if "labels" in given.flags:
        _print_labels(job, found)
    return cli.FINE if len(found) == len(clips) else cli.FAILED


def _print(prediction: Prediction, name: str, uses: str) -> None:
    text = visible(prediction.description)
    print(f"{name}: {text}" if name else text, flush=True)
    notes = [] if text else [f"the answer is empty; this baseline uses {uses or 'no input'}"]
    for note in (*notes, *prediction.notes):
        say(f"{name}: {note}" if name else note)


def _print_labels(job: Job, found: Sequence[Prediction]) -> None:
    from ovmer.runners.extraction import ClipDescription, make_extractors

    adapter = job.adapter
    extractor = make_extractors(job.extractor)[0]
    items = [
        ClipDescription(
            each.name,
            each.description,
            is_labels=adapter.answers_with_labels or job.task.form == "labels",
            in_sentence=adapter.labels_in_sentence,
        )
        for each in found
    ]
    try:
        for each in extractor.extract(items):
            labels = visible(", ".join(each.labels)) or "none"
            print(f"{each.name}: labels: {labels}" if len(found) > 1 else f"labels: {labels}")
    finally:
        extractor.close()
