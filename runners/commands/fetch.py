"""Download word tables and checkpoints, which do not ship with the package.

    ovmer fetch wheels
    ovmer fetch salmonn video_llava dry_run=true

`wheels` are the authors' word tables (300 kB, Apache-2.0) at a pinned commit, each checked against
its checksum, into the user's cache folder. A complete folder is left unchanged. The name of a
baseline (or all) means the parts of its checkpoint on the hub, which go into the hub's cache; for
other parts it prints their source. Variables that matter: HF_HOME (where the cache is),
HF_ENDPOINT (a mirror), HF_TOKEN (for gated repositories), HF_HUB_OFFLINE.

settings:
  dry_run=true   list the files of baselines and their size, without download
  to=FOLDER   another folder; name it afterwards with metric.wheel_root=FOLDER
  url=URL     a mirror of the repository
"""

from pathlib import Path

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners import cli
from ovmer.runners.checkpoints import baselines, bring
from ovmer.runners.commands.arguments import Arguments, parse
from ovmer.runners.scoring.download import download_tables
from ovmer.runners.scoring.vocabulary import load_vocabulary
from ovmer.runners.scoring.word_tables import COMMIT, EDITIONS, REPOSITORY

_WHEELS = "wheels"


@cli.command
def main() -> int:
    """Download and compile the tables."""
    given = parse(__doc__, ("to", "url", "dry_run"), paths="WHAT")
    if not given.paths:
        raise PrerequisiteError("say what to fetch: wheels, or baselines by name")
    names = [each for each in given.paths if each != _WHEELS]
    chosen = baselines(names, more=[_WHEELS]) if names else []
    is_dry = given.one_of("dry_run", ["false", "true"]) == "true"
    whole = [bring(name, adapter, is_dry) for name, adapter in chosen]
    if _WHEELS in given.paths and not is_dry:
        _fetch_wheels(given)
    return cli.FINE if all(whole) else cli.FAILED


def _fetch_wheels(given: Arguments) -> None:
    to = Path(given.settings["to"]) if "to" in given.settings else None
    folder = download_tables(to, given.settings.get("url", f"{REPOSITORY}/{COMMIT}"))
    for edition in EDITIONS:
        print(f"{edition}: {len(load_vocabulary(folder, edition).rows)} word forms")
    where = f"set metric.wheel_root={folder}" if to else "metric.wheel_root=auto finds them"
    print(f"the tables are in {folder}; {where}")
