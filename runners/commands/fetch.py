"""Download word tables and checkpoints, which do not ship with the package.

    ovmer fetch wheels
    ovmer fetch salmonn video_llava qwen25 wheels dry_run=true

`wheels` are the authors' word tables (300 kB, Apache-2.0) at a pinned commit, each checked against
its checksum, into the user's cache folder. A complete folder is left unchanged. The name of a
baseline (or all) means the parts of its checkpoint on the hub, which go into the hub's cache; for
other parts it prints their source. The name of an extractor (qwen25) means its language model.
Variables that matter: HF_HOME (where the cache is), HF_ENDPOINT (a mirror), HF_TOKEN (for gated
repositories), HF_HUB_OFFLINE.

settings:
  dry_run=true   list how many files would be downloaded, and how many GB
  to=FOLDER   another folder; a metric of word tables takes it as metric.wheel_root=FOLDER
  url=URL     a mirror of the repository
"""

from pathlib import Path

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners import cli
from ovmer.runners.checkpoints import baselines, download_model, download_parts
from ovmer.runners.commands.arguments import Arguments, parse
from ovmer.runners.config import shipped_extractor
from ovmer.runners.scoring.download import download_tables
from ovmer.runners.scoring.vocabulary import load_vocabulary
from ovmer.runners.scoring.word_tables import COMMIT, EDITIONS, REPOSITORY

_WHEELS = "wheels"


@cli.command
def main() -> int:
    """Download what is named, or in a dry run list it."""
    given = parse(__doc__, ("to", "url", "dry_run"), paths="WHAT")
    if not given.paths:
        raise PrerequisiteError("say what to fetch: wheels, or baselines and extractors by name")
    named = [each for each in given.paths if each != _WHEELS]
    models = {name: model for name in named if (model := _model_of(name))}
    names = [each for each in named if each not in models]
    chosen = baselines(names, more=[_WHEELS]) if names else []
    is_dry = given.is_true("dry_run")
    whole = [download_parts(name, adapter, is_dry) for name, adapter in chosen]
    for name, model in models.items():
        download_model(name, model, is_dry)
    if _WHEELS in given.paths:
        if is_dry:
            print(f"{_WHEELS}: the tables of {REPOSITORY}, 0.0 GB")
        else:
            _fetch_wheels(given)
    return cli.FINE if all(whole) else cli.FAILED


def _model_of(name: str) -> str | None:
    """The language model that an extractor of this name asks; None where it asks none."""
    model = shipped_extractor(name).get("model")
    return str(model) if model and "/" in str(model) and ":" not in str(model) else None


def _fetch_wheels(given: Arguments) -> None:
    to = Path(given.settings["to"]).expanduser() if "to" in given.settings else None
    folder = download_tables(to, given.settings.get("url", f"{REPOSITORY}/{COMMIT}"))
    for edition in EDITIONS:
        print(f"{edition}: {len(load_vocabulary(folder, edition).rows)} word forms")
    where = f"set metric.wheel_root={folder}" if to else "metric.wheel_root=auto finds them"
    print(f"the tables are in {folder}; {where}")
