"""The ranks that a column's runs may have: the tests of all pairs that leaderboards show too.

They need each clip's labels and the truth, so they are there for runs of this project whose data
set is at hand, and not for imported figures.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.folder.run_folder import RunFolder
from ovmer.runners.papers.table import PaperTable
from ovmer.runners.report.entries import LeaderboardEntry, make_entry
from ovmer.runners.report.runs import DatasetCache, read_run
from ovmer.runners.scoring.significance import RunComparison, compare


def with_ranks(table: PaperTable) -> PaperTable:
    """The table with the tests of all pairs in each column that its plot shows."""
    datasets, entries = DatasetCache(), dict[Path, LeaderboardEntry | None]()
    families = {}
    for i, column in enumerate(table.layout.columns):
        if column.dataset is None or column.title not in table.layout.plot:
            continue
        folders = {line.cells[i].folder for line in table.lines if line.cells[i].ours is not None}
        for folder in folders - entries.keys() - {None}:
            assert folder is not None
            entries[folder] = _entry(folder, datasets)
        found = {str(each): entries[each] for each in folders if each is not None}
        family = _family(found, column.metric, column.figure)
        if family is not None:
            families[column.title] = family
    return replace(table, families=families)


def _entry(folder: Path, datasets: DatasetCache) -> LeaderboardEntry | None:
    """The run, scored; None where it cannot be."""
    try:
        run = read_run(RunFolder(folder), datasets)
    except PrerequisiteError:
        return None
    entry = make_entry(run, str(folder), "zero")
    return None if entry.excluded else entry


def _family(
    entries: Mapping[str, LeaderboardEntry | None], metric: str, figure: str
) -> RunComparison | None:
    """All pairs of the runs that were scored with this metric on the same clips."""
    scores = {
        name: entry.mean
        for name, entry in sorted(entries.items())
        if entry is not None and entry.mean is not None and entry.mean.metric == metric
    }
    if len(scores) < 2:
        return None
    try:
        return compare(scores, figure)
    except PrerequisiteError:  # other clips or conditions, which the cells' marks name
        return None
