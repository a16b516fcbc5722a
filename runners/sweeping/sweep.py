"""The jobs that a sweep consists of, as Hydra composes them, and the sweep as a function."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.config import (
    CONF,
    CONFIG_NAME,
    VERSION_BASE,
    Settings,
    as_typed,
    register,
    search_path,
    settings_of,
)
from ovmer.runners.data.reader import dataset_root
from ovmer.runners.job import Job
from ovmer.runners.progress import say
from ovmer.runners.sweeping import of_one, submit

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ovmer.runners.folder.frames import RunFrames

_LONG = 20
"""Jobs beyond which composing takes so many seconds that it is announced."""
_SHOWS = frozenset("-h --help --hydra-help --version -c --cfg -i --info".split())
"""Hydra's options that show something instead of running jobs."""


class SweepPlan(NamedTuple):
    """The jobs and options of a command line."""

    jobs: list[Job]
    launcher: Sequence[str]
    """Settings of submitit, where the jobs go to a cluster."""
    experiments: set[tuple[str, str]]
    """Output folders, each with the experiment whose table can be made of it."""


def compose(arguments: Sequence[str]) -> SweepPlan:
    """Compose the jobs of a command line; all of them before any is run.

    There are none where it asks for something to be shown, as `--cfg job`.
    """
    import hydra

    launcher, rest = submit.taken_out(list(arguments))
    own, rest = of_one.taken_out(rest)
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("--config-dir", type=Path)
    parser.add_argument("settings", nargs="*")
    # argparse would take Hydra's -c for the beginning of -cd.
    spelled = ["--config-dir" if each == "-cd" else each for each in rest]
    given, others = parser.parse_known_intermixed_args(spelled)
    paths = [search_path(given.config_dir)] if given.config_dir else []
    register()
    if others:
        _show(rest)
        return SweepPlan([], [], set())
    overrides, of_all = as_typed(given.settings), list[str]()
    if given.multirun or any(each.lstrip("+").startswith("experiment=") for each in overrides):
        of_all, overrides = of_one.of_all(overrides)
    jobs, unused, experiments = list[Job](), set(own), set[tuple[str, str]]()
    with hydra.initialize_config_dir(str(CONF), version_base=VERSION_BASE):
        combinations = _combinations([*paths, *overrides], given.multirun)
        if is_long := len(combinations) > _LONG:
            say(f"  composing {len(combinations)} jobs")
        roots = set[Path]()
        for each in combinations:
            config = hydra.compose(CONFIG_NAME, each, return_hydra_config=True)
            choices = config.hydra.runtime.choices
            chosen = str(choices.get("baseline"))
            unused.discard(chosen)
            if experiment := choices.get("experiment"):
                experiments.add((str(config.outputs), str(experiment)))
            jobs.append(_job(config, (*of_all, *own.get(chosen, ()))))
            if is_long:
                _say_if_missing(jobs[-1].settings.dataset, roots)
    if unused:
        name = min(unused)
        raise PrerequisiteError(
            f"{name}.{own[name][0].partition('.')[2]} is for baseline={name}, which no job has"
        )
    # submitit's settings are composed once more for each job, of the same folders.
    return SweepPlan(jobs, [*launcher, *paths] if launcher else [], experiments)


def _say_if_missing(dataset: Mapping[str, Any], seen: set[Path]) -> None:
    """Name a data set that is not there while the other jobs are composed, once for each folder."""
    if "root" not in dataset or dataset.get("source") or (root := dataset_root(dataset)) in seen:
        return
    seen.add(root)
    if not root.is_dir():
        say(f"  {dataset['name']} is missing: there is no folder {root}")


def _combinations(overrides: Sequence[str], is_sweep: bool) -> list[list[str]]:
    """The overrides of each job: all combinations of the values, as Hydra's basic sweeper has them.

    That sweeper composes each job twice, so only its settings are used.
    """
    from hydra import compose
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.types import RunMode

    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    parsed = parser.parse_overrides(list(overrides))
    fixed = [str(each.input_line) for each in parsed if not each.is_sweep_override()]
    settings = compose(CONFIG_NAME, fixed, return_hydra_config=True).hydra
    for kind in ("hydra/launcher", "hydra/sweeper"):
        if (name := settings.runtime.choices[kind]) != "basic":
            raise PrerequisiteError(
                f"{kind}={name} is none that runs jobs here; leave it out, or say "
                "hydra/launcher=submitit_local or submitit_slurm"
            )
    if not is_sweep and settings.mode is not RunMode.MULTIRUN:
        return [list(overrides)]
    params = (settings.sweeper.get("params") or {}).items()
    values: dict[str, list[str]] = {}
    for each in (*parser.parse_overrides([f"{key}={value}" for key, value in params]), *parsed):
        key = each.get_key_element()
        values[key] = [str(each.input_line)]
        if each.is_sweep_override():
            values[key] = [f"{key}={value}" for value in each.sweep_string_iterator()]
    return [list(each) for each in product(*values.values())]


def _job(config: "DictConfig", later: Sequence[str]) -> Job:
    """A job under the overrides that Hydra took, and those `later` (see `of_one`)."""
    from omegaconf import open_dict

    overrides = (*map(str, config.hydra.overrides.task), *later)
    with open_dict(config):
        del config["hydra"]
    of_one.apply(config, later)
    return Job(settings_of(config), overrides)


def _show(arguments: Sequence[str]) -> None:
    """Let Hydra do what an option asks for: --help, --cfg job, --info ..."""
    import hydra

    options = {each.partition("=")[0] for each in arguments if each.startswith("-")}
    if not options & _SHOWS:
        defaults = {each.name: each.default for each in fields(Settings)}
        for option in sorted(options):
            if (key := option.lstrip("-").replace("-", "_")) in defaults:
                value = "true" if isinstance(defaults[key], bool) else "VALUE"
                raise PrerequisiteError(f"{option}: settings have no dashes; say {key}={value}")
        raise PrerequisiteError(
            f"{' '.join(sorted(options))}: give -m to sweep, --config-dir FOLDER, or --help"
        )
    if options & {"-m", "--multirun"} and options & {"-c", "--cfg"}:
        raise PrerequisiteError("--cfg shows the settings of one job; leave out -m")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors are raised instead of printed by Hydra
    before = sys.argv
    # Settings last, since Hydra's parser takes them in one piece only.
    sys.argv = [before[0], *sorted(as_typed(arguments), key=_is_setting)]
    try:
        hydra.main(str(CONF), CONFIG_NAME, VERSION_BASE)(lambda config: None)()
    finally:
        sys.argv = before


def _is_setting(argument: str) -> bool:
    return argument.startswith("~") or ("=" in argument and not argument.startswith("-"))


def sweep(settings: Sequence[str]) -> "RunFrames":
    """Run what `ovmer sweep -m SETTINGS...` runs; returns what its run folders then hold.

    `settings` are as on the command line, `["baseline=random,lexicon", "dry_run=true"]`. Finished
    runs are read, interrupted ones go on. A clip that fails has its status in `predictions`. Raises
    PrerequisiteError for a wrong setting, and where no run can start.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from ovmer.runners.explain import explain
    from ovmer.runners.folder.frames import read_runs
    from ovmer.runners.sweeping.jobs import run_jobs

    try:
        composed = compose(["-m", *settings])
    except (HydraException, OmegaConfBaseException) as error:
        raise PrerequisiteError(explain(error)) from error
    if composed.jobs and composed.jobs[0].settings.estimate:
        raise PrerequisiteError("estimate=true runs nothing; say it to the command, ovmer sweep")
    run_jobs(composed.jobs, composed.launcher)
    folders = list(dict.fromkeys(job.folder for job in composed.jobs))
    return read_runs(*([each for each in folders if each.is_dir()] or folders))
