"""Write an HTML page about runs: leaderboard, gallery of clips, comparison of two runs.

    ovmer report outputs/ovmerd/*
    ovmer report outputs output=page.html root=/data/mer2025-dataset embed=true

Folders are searched for runs. The page needs neither network nor server; it finds the clips' video
and sound by their relative path, or contains them.

settings:
  output=FILE     the page; by default report.html in the folder that the runs have in common
  missing=skip    compare on the clips that all runs have; by default (zero) a clip that failed
                  counts as one without labels, and runs that lack clips are not compared
  root=FOLDER     where the data set is now, if it has been moved since the runs
  watch=SECONDS   follow a running sweep: the page is written anew whenever a run changes, shows
                  progress, failures and the latest answers, and reloads itself; Ctrl-C ends it
  embed=true      put video and sound into the page: for a few clips, or it grows too large to open
"""

import gc
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners import cli
from ovmer.runners.commands.arguments import parse
from ovmer.runners.progress import say

if TYPE_CHECKING:
    from ovmer.runners.report.boards import Leaderboard


@cli.command
def main() -> int:
    """The command: writes the page and prints where it is."""
    given = parse(__doc__, ("output", "root", "watch", "embed", "missing"), paths="FOLDER")
    if not given.paths:
        raise PrerequisiteError("name the run folders, e.g. outputs/ovmerd/*")
    embed = given.is_true("embed")
    missing = given.one_of("missing", ("zero", "skip"))
    gc.disable()  # records live to the end: walking them over and over takes a quarter of the time
    # `outputs/*/*` matches the page of an earlier call as well.
    folders = [path for path in given.paths if Path(path).name != "report.html"]
    settings = dict(given.settings)
    if seconds := given.number("watch"):
        from ovmer.runners.report.watch import watch

        def write(reload: float) -> None:
            is_first = "output" not in settings or not reload
            made = make_page(folders, settings, embed, missing, reload)
            settings["output"] = str(made.path)  # although runs elsewhere may come
            if is_first:
                print(made)

        watch(write, [Path(path) for path in folders], seconds)
    else:
        write_report(folders, settings, embed, missing)
    return cli.FINE


class Page(NamedTuple):
    """A page that was written."""

    path: Path
    boards: "Sequence[Leaderboard]"
    size: int
    """In bytes."""

    def __str__(self) -> str:
        runs = sum(len(board.rows) for board in self.boards)
        counts = f"runs: {runs}, leaderboards: {len(self.boards)}"
        return f"{counts}, {self.size / 1e6:.1f} MB -> {self.path}"


def write_report(
    paths: Sequence[str],
    settings: Mapping[str, str] | None = None,
    embed: bool = False,
    missing: str = "zero",
) -> None:
    """Write the page about the runs below `paths`, and say what its readers must know.

    `settings` are the command's.
    """
    page = make_page(paths, settings or {}, embed, missing)
    for board in page.boards:
        for warning, names in board.warnings.items():
            runs = ", ".join(names) if len(names) <= 5 else f"{len(names)} runs"
            say(f"{board.dataset}: {warning} ({runs})")
    print(page)


def make_page(
    paths: Sequence[str],
    settings: Mapping[str, str],
    embed: bool,
    missing: str,
    reload: float = 0,
) -> Page:
    """The page about the runs below `paths`; with `reload` one that follows a running sweep."""
    from ovmer.runners.report.boards import make_boards
    from ovmer.runners.report.page import write_page
    from ovmer.runners.report.runs import collect

    runs = collect(paths, Path(settings["root"]).expanduser() if "root" in settings else None)
    above = Path(os.path.commonpath([run.path.resolve() for run in runs]))
    if len(runs) == 1:
        above = above.parent
    output = (
        Path(settings["output"]).expanduser() if "output" in settings else above / "report.html"
    )
    boards = make_boards(runs, missing)
    return Page(output, boards, write_page(output, boards, embed, reload))
