"""Extract labels from existing descriptions with another extractor, and score them.

    ovmer extract outputs/ovmerd/video_llava outputs/ovmerd/salmonn extractor=qwen25

Descriptions are not touched, and no baseline is loaded; the language model is, once for all the
folders. The labels of each extractor stay in `labels.jsonl` side by side, its figures in
`scores.json` under its name; `predictions.csv` and the npz files hold those made last.

Settings are those of conf/config.yaml in Hydra's syntax: extractor, metric and their keys,
subtitle=merge or none (for descriptions that were asked for without the subtitle), on_error,
outputs (where the answers of language models are kept), machine, dry_run.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners import cli
from ovmer.runners.commands.arguments import parse
from ovmer.runners.config import Settings, settings_from_json, settings_from_overrides
from ovmer.runners.folder.run_folder import RunFolder
from ovmer.runners.foreign_text import visible
from ovmer.runners.job import Job
from ovmer.runners.progress import say

_KEYS = ("extractor", "metric", "subtitle", "on_error", "outputs", "machine", "dry_run")


@cli.command
def main() -> int:
    """The command: extract, score, print the table."""
    given = parse(__doc__, overrides=_KEYS, paths="FOLDER")
    folders, overrides = [Path(each) for each in given.paths], given.overrides
    if not folders:
        raise PrerequisiteError("name the run folders to read, e.g. outputs/ovmerd/video_llava")
    wanted = settings_from_overrides(overrides)
    return _reread([_job(folder, wanted, overrides) for folder in folders], wanted)


def _job(folder: Path, wanted: Settings, overrides: Sequence[str]) -> Job:
    """The job that made a run folder, with what is wanted of the extraction.

    Raises PrerequisiteError for a folder that is none, or is of another version's making.
    """
    info = RunFolder(folder).info()
    if info.imported is not None:
        raise PrerequisiteError(f"{folder} holds imported predictions, and not what was said")
    made = settings_from_json(info.settings, folder)
    if ":" in str(made.baseline.get("adapter")):  # a folder that was received could run any code
        raise PrerequisiteError(
            f"{folder} was made by the adapter {made.baseline['adapter']}, and no code that a file "
            "names is imported; install it under a name of its own (entry point ovmer.adapters)"
        )
    if Job(made).task.form == "reply":
        raise PrerequisiteError(
            f"{folder} holds replies to task={made.task['name']}, which its metric reads itself; "
            f"score them with ovmer score task={made.task['name']} predictions={folder}"
        )
    given = {override.partition("=")[0] for override in overrides}
    settings = replace(
        made,
        extractor=_aimed(wanted.extractor, made, given),
        metric=wanted.metric if "metric" in given else made.metric,
        subtitle=wanted.subtitle if "subtitle" in given else made.subtitle,
        on_error=wanted.on_error,
    )
    if settings.subtitle != "prompt" and Job(made, at=folder).uses_subtitle:
        raise PrerequisiteError(
            f"{folder} was asked with the subtitle in the prompt, so subtitle={settings.subtitle} "
            f"needs descriptions of its own: ovmer sweep subtitle={settings.subtitle}"
        )
    return Job(settings, tuple(overrides), at=folder)


def _aimed(extractor: dict[str, Any], made: Settings, given: set[str]) -> dict[str, Any]:
    """The extractor, with the target that the folder's data set is scored by."""
    if "extractor.target" in given:
        return extractor
    return extractor | {"target": made.dataset.get("target", "labels")}


def _reread(jobs: Sequence[Job], wanted: Settings) -> int:
    from ovmer.runners.extraction import make_extractors
    from ovmer.runners.sweeping.summary import summary
    from ovmer.runners.sweeping.work import reread

    states = []
    for merge in (False, True):
        of_kind = [job for job in jobs if (job.settings.subtitle == "merge") == merge]
        if not of_kind:
            continue
        extractors = make_extractors(wanted.extractor, merge)
        try:
            states += [reread(job, extractors) for job in of_kind]
        finally:
            for extractor in extractors:
                extractor.close()
    states.sort(key=lambda state: [job.folder for job in jobs].index(state.job.folder))
    for state in states:
        if state.to_describe:
            say(f"{state.job.label}: {len(state.to_describe)} clips are not described yet")
    print(visible(summary(states)))
    return cli.FINE if all(state.is_fine for state in states) else cli.FAILED
