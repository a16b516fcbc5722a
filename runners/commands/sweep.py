"""Describe, extract and score: one baseline, or a sweep over several.

    ovmer sweep baseline=lexicon
    ovmer sweep -m baseline=random,lexicon,video_llava dry_run=true

Hydra says which jobs there are; running them is ours (runners/sweeping/): as processes here, or as
jobs of a cluster. With another launcher of Hydra's than the basic one and submitit each job runs
where that launcher puts it.
"""

import os
import sys
from collections.abc import Sequence

from ovmer.runners import cli
from ovmer.runners.commands.report import write_report
from ovmer.runners.config import CONF, CONFIG_NAME, VERSION_BASE, register, settings_of
from ovmer.runners.job import Job
from ovmer.runners.sweeping import submit


@cli.command
def main() -> int:
    """The command: compose the jobs, run them, print the table."""
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import DictConfig

    composed: list[tuple[DictConfig, tuple[str, ...]]] = []
    tables: set[tuple[str, str]] = set()
    launcher, sys.argv[1:] = submit.taken_out(sys.argv[1:])

    def enter(config: DictConfig) -> None:
        """Hydra calls this for each job; its basic launcher does so here, one after the other."""
        told = HydraConfig.get()
        overrides = tuple(told.overrides.task)
        if experiment := told.runtime.choices.get("experiment"):
            tables.add((str(config.outputs), str(experiment)))
        if told.mode is RunMode.RUN or told.runtime.choices["hydra/launcher"] == "basic":
            composed.append((config, overrides))
        else:
            from ovmer.runners.sweeping.work import work

            work(Job(settings_of(config, overrides), overrides))

    register()
    _compose_once()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to cli.run instead of Hydra's own printer
    hydra.main(str(CONF), CONFIG_NAME, VERSION_BASE)(enter)()
    if not composed:  # it was about the configuration, or another launcher has run the jobs
        return cli.FINE
    from ovmer.runners.sweeping.jobs import (
        run_jobs,  # not before: --help need not wait for what runs a job
    )

    jobs = [Job(settings_of(config, overrides), overrides) for config, overrides in composed]
    status = run_jobs(jobs, launcher)
    for folder in dict.fromkeys(str(job.folder.parent) for job in jobs if job.settings.clips):
        write_report([folder])
    for outputs, experiment in sorted(tables):
        print(f"the paper's table: ovmer tables {outputs} layout={experiment}")
    return status


def _compose_once() -> None:
    """Keep Hydra from composing all jobs beforehand just to see whether it can be done.

    A mistake in the last one shall not show after the first have run; here none runs before all are
    composed, unless another launcher of Hydra's runs them.
    """
    from hydra.plugins.sweeper import Sweeper

    whole = Sweeper.validate_batch_is_legal

    def validate(sweeper: Sweeper, batch: Sequence[Sequence[str]]) -> None:
        assert sweeper.config is not None
        if sweeper.config.hydra.runtime.choices["hydra/launcher"] != "basic":
            whole(sweeper, batch)

    setattr(Sweeper, whole.__name__, validate)
