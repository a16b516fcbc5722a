"""Check that the files of a data set, or of your own clips, exist and can be read.

    ovmer check dataset=meld data_root=/data
    ovmer check clips=my_videos
    ovmer check dataset=mer2023,mer2024,ovmerdplus data_root=/data output=gaps.csv

Counts the clips of the label table, finds and opens their files in parallel (first frame only), and
says what is missing, unreadable, without sound, without subtitle or without labels. Exits with 1
where something is missing or unreadable, with 2 where the tables cannot be read.

Settings are those of conf/config.yaml in Hydra's syntax: dataset, its keys, clips,
columns, data_root, limit; and
  output    a csv file for every gap: dataset,name,kind,problem
  workers   files open at a time    [four for each core]
"""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners import cli
from ovmer.runners.commands.arguments import parse
from ovmer.runners.data.check import DatasetCheck, check, text
from ovmer.runners.job import Job

_KEYS = ("dataset", "clips", "columns", "data_root", "limit")


@cli.command
def main() -> int:
    """The command: probe, print the report, write the gaps."""
    given = parse(__doc__, ("output", "workers"), _KEYS)
    workers = _workers(given.settings.get("workers"))
    reports, unread = [], []
    for settings in _compose(given.overrides):
        try:
            reports.append(check(settings, workers))
            print(text(reports[-1]) + "\n")
        except PrerequisiteError as error:
            unread.append(f"{settings['name']}: {error}")
            print(f"{unread[-1]}\n")
    if "output" in given.settings:
        _write(Path(given.settings["output"]).expanduser(), reports)
    if unread:
        return cli.UNABLE
    return cli.FINE if all(report.is_whole for report in reports) else cli.FAILED


def _write(path: Path, reports: Sequence[DatasetCheck]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["dataset", "name", "kind", "problem"])
        for report in reports:
            for clip, kind, what, detail in report.gaps:
                rows.writerow([report.name, clip, kind, f"{what}: {detail}" if detail else what])
    print(f"every gap -> {path}")


def _compose(overrides: Sequence[str]) -> list[dict[str, Any]]:
    """The settings of each data set that is named; `dataset=a,b` names several."""
    from ovmer.runners.config import settings_from_overrides

    named = [each for each in overrides if each.startswith("dataset=")]
    others = [each for each in overrides if each not in named]
    choices = [f"dataset={name}" for each in named for name in each[8:].split(",")]
    wanted = [[*others, each] for each in choices] or [others]
    jobs = [Job(settings_from_overrides(each), tuple(each)) for each in wanted]
    return [job.settings.dataset for job in jobs]


def _workers(given: str | None) -> int:
    if given is None:
        return 4 * (os.cpu_count() or 1)
    if not given.isdecimal() or int(given) < 1:
        raise PrerequisiteError(f"workers is {given}; give at least 1")
    return int(given)
