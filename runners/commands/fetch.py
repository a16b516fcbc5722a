"""Fetch what cannot ship with the package.

    ovmer fetch wheels

downloads the authors' word tables (300 kB, Apache-2.0) at a pinned commit, each checked against
its checksum, into the user's cache folder. A complete folder is left alone.

settings:
  to=FOLDER   another folder; name it afterwards with metric.wheel_root=FOLDER
  url=URL     a mirror of the repository
"""

from pathlib import Path

from ovmer.baselines.errors import PrerequisiteError, near
from ovmer.runners import cli
from ovmer.runners.commands.arguments import parse
from ovmer.runners.scoring.download import download_tables
from ovmer.runners.scoring.vocabulary import load_vocabulary
from ovmer.runners.scoring.word_tables import COMMIT, EDITIONS, REPOSITORY

_WHAT = ("wheels",)


@cli.command
def main() -> int:
    """Download and compile the tables."""
    given = parse(__doc__, ("to", "url"), paths="WHAT")
    for each in given.paths:
        if each not in _WHAT:
            raise PrerequisiteError(f"cannot fetch {each!r}; {near(each, _WHAT)}")
    if not given.paths:
        raise PrerequisiteError(f"say what to fetch: {', '.join(_WHAT)}")
    to = Path(given.settings["to"]) if "to" in given.settings else None
    folder = download_tables(to, given.settings.get("url", f"{REPOSITORY}/{COMMIT}"))
    for edition in EDITIONS:
        print(f"{edition}: {len(load_vocabulary(folder, edition).rows)} word forms")
    where = f"set metric.wheel_root={folder}" if to else "metric.wheel_root=auto finds them"
    print(f"the tables are in {folder}; {where}")
    return cli.FINE
