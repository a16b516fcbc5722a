"""The jobs of a sweep as jobs of a Slurm cluster, each with the machine that its baseline needs.

    ovmer sweep -m baseline=video_llava,salmonn,lexicon hydra/launcher=submitit_slurm \\
        hydra.launcher.partition=gpu

The presets (conf/hydra/launcher/) speak the language of Hydra's submitit launcher. That launcher
asks the same of Slurm for all jobs of a sweep and starts the finished ones too; so Hydra composes
the preset once for each job, and the jobs that are left are handed to submitit here. A job that
reaches its time limit is queued again by submitit as often as `max_num_timeout` says, and goes on
where it stopped.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners import cli
from ovmer.runners.config import CONF, CONFIG_NAME, VERSION_BASE
from ovmer.runners.job import Job
from ovmer.runners.progress import say

if TYPE_CHECKING:
    import submitit

_CHOICE = "hydra/launcher=submitit_"
_POLL_SECONDS = {"slurm": 10.0, "local": 0.5}  # Slurm's database is not to be asked too often


def taken_out(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """What the command line says of submitit, and the rest, which is Hydra's.

    >>> taken_out(["-m", "seed=0,1", "hydra/launcher=submitit_slurm", "hydra.launcher.qos=low"])
    (['hydra/launcher=submitit_slurm', 'hydra.launcher.qos=low'], ['-m', 'seed=0,1'])
    """
    if not any(each.startswith(_CHOICE) for each in arguments):
        return [], list(arguments)
    ours = [each for each in arguments if each.startswith(_CHOICE)]
    ours += [each for each in arguments if each.lstrip("+").startswith("hydra.launcher.")]
    return ours, [each for each in arguments if each not in ours]


def submit(jobs: Sequence[Job], launcher: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Hand jobs to submitit; yields the place of each as it ends, and its exit status.

    Stopping this stops them, too. Raises PrerequisiteError where none can be handed over.
    """
    try:
        version("hydra-submitit-launcher")  # its keys are the preset's
        from submitit.helpers import as_completed
    except ImportError:
        raise PrerequisiteError(
            f"{launcher[0]} needs submitit; pip install 'ovmer[slurm]'"
        ) from None

    cluster = launcher[0].removeprefix(_CHOICE)
    handed = {}
    try:
        for place, job in enumerate(jobs):
            handed[_submit(job, launcher, cluster)] = place
        for done in as_completed(list(handed), poll_frequency=_POLL_SECONDS[cluster]):
            place = handed.pop(done)
            yield place, _status(jobs[place], done)
    finally:
        for each in handed:
            each.cancel()


@dataclass(frozen=True)
class _Task:
    """What runs on the cluster."""

    job: Job

    def __call__(self) -> int:
        from ovmer.runners.sweeping.work import work

        told = f"{self.job.label}: "
        return cli.run(lambda: cli.FINE if work(self.job).is_fine else cli.FAILED, told)

    def checkpoint(self) -> "submitit.helpers.DelayedSubmission":
        """Called by submitit before the time is over: the same job again, which goes on."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def _submit(job: Job, launcher: Sequence[str], cluster: str) -> "submitit.Job[int]":
    import submitit

    asked = _asked(job, launcher)
    folder, timeouts = asked.pop("submitit_folder"), asked.pop("max_num_timeout", 0)
    shared = {"timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes"}
    shared |= {"name", "stderr_to_stdout"}
    try:
        executor = submitit.AutoExecutor(
            folder, cluster=cluster, **{f"{cluster}_max_num_timeout": timeouts}
        )
        executor.update_parameters(
            **{key if key in shared else f"{cluster}_{key}": asked[key] for key in asked}
        )
        handed = executor.submit(_Task(replace(job)))
    except (RuntimeError, submitit.core.utils.FailedJobError) as error:
        reason = " ".join(str(error).split())
        raise PrerequisiteError(
            f"{job.label} cannot be handed to {cluster} ({reason}); try hydra/launcher="
            "submitit_local, or leave it out to run here"
        ) from error
    needs = f"{asked['gpus_per_node']} GPUs, {asked['mem_gb']} GB, {asked['timeout_min']} minutes"
    say(f"  submitted     {job.label} as {cluster} job {handed.job_id}: {needs}")
    return handed


def _asked(job: Job, launcher: Sequence[str]) -> dict[str, Any]:
    """The preset as composed for this job, without what it leaves open."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(CONF), version_base=VERSION_BASE):
        config = compose(CONFIG_NAME, [*job.overrides, *launcher], return_hydra_config=True)
    found = OmegaConf.to_container(config.hydra.launcher, resolve=True)
    assert isinstance(found, Mapping)
    return {
        str(key): value for key, value in found.items() if value is not None and key != "_target_"
    }


def _status(job: Job, done: "submitit.Job[int]") -> int:
    error = done.exception()
    if error is None:
        return done.result()
    log = done.paths.stderr
    last = next(reversed(str(error).strip().splitlines()), "")
    say(f"{job.label} died on the cluster ({last}); see {log}; the same command resumes it")
    return cli.FAILED
