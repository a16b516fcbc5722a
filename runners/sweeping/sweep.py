"""The jobs that a sweep consists of, as Hydra composes them, and the sweep as a function."""

import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.config import (
    CONF,
    CONFIG_NAME,
    VERSION_BASE,
    as_typed,
    register,
    search_path,
    settings_of,
)
from ovmer.runners.job import Job
from ovmer.runners.sweeping import of_one, submit

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ovmer.runners.folder.frames import RunFrames


class SweepPlan(NamedTuple):
    """The jobs and options of a command line."""

    jobs: list[Job]
    launcher: Sequence[str]
    """Settings of submitit, where the jobs go to a cluster."""
    experiments: set[tuple[str, str]]
    """Output folders, each with the experiment whose table can be made of it."""


def compose(arguments: Sequence[str]) -> SweepPlan:
    """Compose the jobs of a command line with Hydra; all of them before any is run.

    There are none where the command line is about the configuration, as `--cfg job`, and where
    another launcher of Hydra's than the basic one and submitit has run them already.
    """
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    configs: list[tuple[DictConfig, tuple[str, ...], tuple[str, ...]]] = []
    experiments: set[tuple[str, str]] = set()

    def enter(config: "DictConfig") -> None:
        """Take in a job: Hydra's basic launcher calls this for each, one after the other."""
        about = HydraConfig.get()
        chosen = str(about.runtime.choices.get("baseline"))
        taken = config, tuple(about.overrides.task), (*of_all, *own.get(chosen, ()))
        unused.discard(chosen)
        if experiment := about.runtime.choices.get("experiment"):
            experiments.add((str(config.outputs), str(experiment)))
        if about.mode is RunMode.RUN or about.runtime.choices["hydra/launcher"] == "basic":
            configs.append(taken)
        else:
            from ovmer.runners.sweeping.work import work

            work(_job(*taken))

    if not {"-m", "--multirun"}.isdisjoint(arguments) and not {"-c", "--cfg"}.isdisjoint(arguments):
        raise PrerequisiteError("--cfg shows the settings of one job; leave out -m")
    launcher, rest = submit.taken_out(list(arguments))
    own, rest = of_one.taken_out(rest)
    of_all, rest = of_one.of_all(rest) if _is_sweep(rest) else ([], rest)
    paths = [search_path(folder) for folder in _config_folders(rest)]
    launcher += paths[-1:] if launcher else []  # which composes each job once more
    unused = set(own)
    register()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors are raised instead of printed by Hydra
    before = sys.argv
    sys.argv = [before[0], *_options_first(as_typed(rest))]
    try:
        hydra.main(str(CONF), CONFIG_NAME, VERSION_BASE)(enter)()
    finally:
        sys.argv = before
    if configs and unused:
        name = min(unused)
        raise PrerequisiteError(
            f"{name}.{own[name][0].partition('.')[2]} is for baseline={name}, which no job has"
        )
    jobs = [_job(*taken) for taken in configs]
    return SweepPlan(jobs, launcher, experiments)


def _is_sweep(arguments: Sequence[str]) -> bool:
    """Whether Hydra composes several jobs of them, and none just to show its settings."""
    shows = any(each.partition("=")[0] in ("-c", "--cfg", "-i", "--info") for each in arguments)
    is_experiment = any(each.lstrip("+").startswith("experiment=") for each in arguments)
    return not shows and (is_experiment or not {"-m", "--multirun"}.isdisjoint(arguments))


def _job(config: "DictConfig", overrides: tuple[str, ...], later: tuple[str, ...]) -> Job:
    """A job under the overrides that Hydra took, and those `later` (see `of_one`)."""
    of_one.apply(config, later)
    return Job(settings_of(config), (*overrides, *later))


def _options_first(arguments: Sequence[str]) -> list[str]:
    """The arguments with the settings last, since Hydra's parser takes them in one piece only."""
    after = ["", *arguments]
    is_setting = [
        not each.startswith("-")
        and ("=" in each or each.startswith("~"))
        and not before.startswith(("--config", "-c"))
        for before, each in pairwise(after)
    ]
    order = sorted(range(len(arguments)), key=is_setting.__getitem__)  # stable
    return [arguments[i] for i in order]


def _config_folders(arguments: Sequence[str]) -> list[Path]:
    """The values of --config-dir and -cd."""
    flags = ("--config-dir", "-cd")
    split = [argument.partition("=") for argument in arguments if argument.startswith(flags)]
    apart = [after for flag, after in pairwise(arguments) if flag in flags]
    return [Path(each) for each in [*apart, *(value for _, equals, value in split if equals)]]


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
