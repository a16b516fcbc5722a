"""Find labels in descriptions that exist, with another extractor, and score them.

    ovmer extract outputs/ovmerd/video_llava outputs/ovmerd/salmonn extractor=qwen25

Descriptions are not touched, and no baseline is loaded; the language model is, once for all the
folders. The labels of each extractor stay in `labels.jsonl` side by side, its figures in
`scores.json` under its name; `predictions.csv` and the npz files hold those made last.

Settings are those of conf/config.yaml in Hydra's syntax: extractor, metric and their keys,
subtitle=merge or none (for descriptions that were asked for without the subtitle), on_error,
outputs (where the answers of language models are kept), machine, dry_run.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners import cli
from ovmer.runners.config import Settings, settings_from_json
from ovmer.runners.folder.run_folder import RunFolder
from ovmer.runners.job import Job
from ovmer.runners.progress import say

_KEYS = ("extractor", "metric", "subtitle", "on_error", "outputs", "machine", "dry_run")


@cli.command
def main() -> int:
    """The command: extract, score, print the table."""
    parser = argparse.ArgumentParser(
        prog="ovmer extract",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("argument", nargs="+", metavar="FOLDER or key=value")
    given: Sequence[str] = parser.parse_args().argument
    folders = [Path(each) for each in given if "=" not in each or Path(each).is_dir()]
    overrides = [each for each in given if "=" in each and not Path(each).is_dir()]
    if not folders:
        raise PrerequisiteError("name the run folders to read, e.g. outputs/ovmerd/video_llava")
    wanted = _compose(overrides)
    return _reread([_job(folder, wanted, overrides) for folder in folders], wanted)


def _compose(overrides: Sequence[str]) -> Settings:
    from ovmer.runners.config import settings_from_overrides

    for override in overrides:
        key = override.partition("=")[0].lstrip("+~").rpartition("@")[2].partition(".")[0]
        if key not in _KEYS:
            raise PrerequisiteError(
                f"{override}: ovmer extract leaves the descriptions as they are; it takes "
                f"{', '.join(_KEYS)}"
            )
    return settings_from_overrides(overrides)


def _job(folder: Path, wanted: Settings, overrides: Sequence[str]) -> Job:
    """The job that made a run folder, with what is wanted of the extraction.

    Raises PrerequisiteError for a folder that is none, or is of another version's making.
    """
    told = RunFolder(folder).read_json("run.json")
    if "settings" not in told:
        raise PrerequisiteError(f"{folder} is no run folder: it holds no run.json with settings")
    made = settings_from_json(told["settings"], folder)
    given = {override.partition("=")[0] for override in overrides}
    settings = replace(
        made,
        extractor=_aimed(wanted.extractor, made, given),
        metric=wanted.metric if "metric" in given else made.metric,
        subtitle=wanted.subtitle if "subtitle" in given else made.subtitle,
        on_error=wanted.on_error,
    )
    if settings.subtitle != "prompt" and Job(made).uses_subtitle:
        raise PrerequisiteError(
            f"{folder} was asked with the subtitle in the prompt, so subtitle={settings.subtitle} "
            f"needs descriptions of its own: ovmer sweep subtitle={settings.subtitle}"
        )
    return Job(settings, tuple(overrides), at=folder)


def _aimed(extractor: dict[str, Any], made: Settings, given: set[str]) -> dict[str, Any]:
    """The extractor, asked for what the folder's data set is scored by."""
    if "extractor.target" in given:
        return extractor
    return extractor | {"target": made.dataset.get("target", "labels")}


def _reread(jobs: Sequence[Job], wanted: Settings) -> int:
    from ovmer.runners.extraction import make_extractors
    from ovmer.runners.sweeping.comparison import comparison
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
    print(comparison(states))
    return cli.FINE if all(state.is_fine for state in states) else cli.FAILED
