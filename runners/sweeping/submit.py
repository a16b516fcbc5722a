"""The jobs of a sweep as jobs of a Slurm cluster, each with the machine that its baseline needs.

    ovmer sweep -m baseline=video_llava,salmonn,lexicon hydra/launcher=submitit_slurm \\
        hydra.launcher.partition=gpu

The presets (conf/hydra/launcher/) speak the language of Hydra's submitit launcher. That launcher
asks the same of Slurm for all jobs of a sweep and starts the finished ones too; so Hydra composes
the preset once for each job, and the jobs that are left are handed to submitit here. A job that
reaches its time limit is queued again by submitit as often as `max_num_timeout` says, and goes on
where it stopped.
"""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners import cli
from ovmer.runners.config import CONF, CONFIG_NAME, NEEDS, VERSION_BASE
from ovmer.runners.job import Job
from ovmer.runners.progress import say
from ovmer.runners.sweeping import queue

if TYPE_CHECKING:
    import submitit

_CHOICE = "hydra/launcher=submitit_"
_ENDINGS = {
    "CANCELLED": "was cancelled",
    "TIMEOUT": "ran out of time",
    "OUT_OF_MEMORY": "ran out of memory",
    "NODE_FAIL": "lost its node",
}
"""Meaning of Slurm's states (man sacct, "JOB STATE CODES")."""
_POLL_SECONDS = 0.5
_BESIDE_FILES_GB = 16
"""Main memory that a job takes beside its model's files: torch, decoded clips."""
_RESULT_SECONDS = 5.0


def taken_out(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a command line into submitit's arguments and Hydra's.

    >>> taken_out(["-m", "seed=0,1", "hydra/launcher=submitit_slurm", "hydra.launcher.qos=low"])
    (['hydra/launcher=submitit_slurm', 'hydra.launcher.qos=low'], ['-m', 'seed=0,1'])
    """
    if not any(each.startswith(_CHOICE) for each in arguments):
        return [], list(arguments)
    ours = [each for each in arguments if each.startswith(_CHOICE)]
    ours += [each for each in arguments if each.lstrip("+").startswith("hydra.launcher.")]
    return ours, [each for each in arguments if each not in ours]


def as_planned(job: Job, launcher: Sequence[str]) -> Job:
    """The job as this machine sees it beforehand: on the GPUs that it asks the cluster for."""
    if not launcher or launcher[0] != f"{_CHOICE}slurm":
        return job
    return replace(job, on_gpu=bool(job.settings.baseline.get("needs", NEEDS)["gpus"]))


def submit(jobs: Sequence[Job], launcher: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Hand jobs to submitit; yields the index of each as it ends, and its exit status.

    Stopping this stops them, too. Raises PrerequisiteError where none can be handed over.
    """
    try:
        version("hydra-submitit-launcher")  # its keys are the preset's
        import submitit
    except ImportError:
        raise PrerequisiteError(
            f"{launcher[0]} needs submitit; pip install 'ovmer[slurm]'"
        ) from None

    cluster = launcher[0].removeprefix(_CHOICE)
    if cluster == "local":
        yield from _submit_here(jobs, launcher)
        return
    handed: dict[submitit.Job[JobOutcome], int] = {}
    try:
        ids = dict[int, str]()
        for index, job in enumerate(jobs):
            asked = options_for(job, launcher) | _after(ids[each] for each in awaited(job, jobs))
            handed[done := _submit(job, asked, cluster)] = index
            ids[index] = done.job_id
        for done, state in _ended(handed, jobs):
            index = handed.pop(done)
            yield index, _status(jobs[index], done, state)
    finally:
        for each in handed:
            each.cancel()


def _submit_here(jobs: Sequence[Job], launcher: Sequence[str]) -> Iterator[tuple[int, int]]:
    """The same with processes of this machine, whose GPUs are each given to one job at a time."""
    free = visible_gpus()
    waiting = [(index, job, options_for(job, launcher)) for index, job in enumerate(jobs)]
    total = len(free)
    handed: dict[submitit.Job[JobOutcome], tuple[int, list[str]]] = {}
    try:
        while waiting or handed:
            for each in list(waiting):
                index, job, asked = each
                running = {i for i, *_ in waiting} | {i for i, _ in handed.values()}
                if running.intersection(awaited(job, jobs)):
                    continue
                # A job that wants more GPUs than there are has all of them.
                wanted = min(asked["gpus_per_node"] or 0, total)
                if wanted <= len(free):
                    gpus, free = free[:wanted], free[wanted:]
                    handed[_submit(job, asked, "local", tuple(gpus))] = index, gpus
                    waiting.remove(each)
            time.sleep(_POLL_SECONDS)
            for done in [each for each in handed if each.done()]:
                index, gpus = handed.pop(done)
                free += gpus
                yield index, _status(jobs[index], done, "")
    finally:
        for each in handed:
            each.cancel()


def awaited(job: Job, jobs: Sequence[Job]) -> list[int]:
    """The indices of the jobs whose runs this one takes its clues from (baseline=combined)."""
    if not (sources := {path.resolve() for path in job.adapter.sources()}):
        return []
    return [index for index, each in enumerate(jobs) if each.folder.resolve() in sources]


def _after(ids: Iterable[str]) -> dict[str, Any]:
    """Options that make Slurm start a job after others, and cancel it if one of them fails."""
    if not (named := ":".join(ids)):
        return {}
    cancels = {"kill-on-invalid-dep": "yes"}
    return {"dependency": f"afterok:{named}", "additional_parameters": cancels}


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [each.strip() for each in named.split(",") if each.strip()]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


@dataclass(frozen=True)
class JobOutcome:
    """How a job ended, as it comes home from the cluster."""

    status: int
    sentences: tuple[str, ...]
    """The errors that the job named."""


@dataclass(frozen=True)
class ClusterTask:
    """The callable that runs on the cluster."""

    job: Job
    gpus: tuple[str, ...] | None = None
    """The job's CUDA_VISIBLE_DEVICES; None leaves it as the cluster sets it."""

    def __call__(self) -> "JobOutcome":
        """Raises SystemExit where the job was stopped.

        submitit stores what is returned as the job's result, and then neither it nor Slurm queues
        the job again; a job that exits without one was stopped, for Slurm alone to say why.
        """
        from ovmer.runners.sweeping.work import work

        if self.gpus is not None:  # submitit's own is 0, 1, ... for every job
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        sentences = list[str]()

        def tell(sentence: str) -> None:
            sentences.append(sentence)
            say(sentence)  # into the job's log

        def body() -> int:
            return cli.FINE if work(self.job).is_fine else cli.FAILED

        status = cli.run(body, f"{self.job.label}: ", tell)
        if status == cli.STOPPED:
            raise SystemExit(status)
        return JobOutcome(status, tuple(sentences))

    def checkpoint(self) -> "submitit.helpers.DelayedSubmission":
        """Called by submitit before the time is over: the same job again, which goes on."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def _submit(
    job: Job, asked: dict[str, Any], cluster: str, gpus: tuple[str, ...] | None = None
) -> "submitit.Job[JobOutcome]":
    import submitit

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
        handed = executor.submit(ClusterTask(replace(job, on_gpu=None), gpus))
    except (RuntimeError, submitit.core.utils.FailedJobError) as error:
        reason = " ".join(str(error).split())
        raise PrerequisiteError(
            f"{job.label} cannot be handed to {cluster} ({reason}); try hydra/launcher="
            "submitit_local, or leave it out to run here"
        ) from error
    needs = f"{asked['gpus_per_node']} GPUs, {asked['mem_gb']} GB, {asked['timeout_min']} minutes"
    say(f"  submitted     {job.label} as {cluster} job {handed.job_id}: {needs}")
    return handed


def options_for(job: Job, launcher: Sequence[str]) -> dict[str, Any]:
    """The preset as composed for this job, without what it leaves open."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(CONF), version_base=VERSION_BASE):
        config = compose(CONFIG_NAME, [*job.overrides, *launcher], return_hydra_config=True)
    found = OmegaConf.to_container(config.hydra.launcher, resolve=True)
    assert isinstance(found, Mapping)
    asked = {
        str(key): value for key, value in found.items() if value is not None and key != "_target_"
    }
    asked["name"] = asked.get("name") or job.label
    for least in (_needs_of_engine(job), _needs_of_extractor(job)):
        asked |= {key: max(asked.get(key) or 0, value) for key, value in least.items()}
    return asked


def _needs_of_engine(job: Job) -> dict[str, int]:
    """The least that the job's model needs: its GPUs, and memory for files of a known size.

    Files are read tensor by tensor, but what was read stays in the page cache of the job, which is
    counted too: a model beyond it is read again and again where several processes start.
    """
    parts = job.settings.baseline.get("checkpoint")
    if job.is_dry or not parts:
        return {}
    known = sum(part.get("gb") or 0 for part in parts.values())
    return {
        "gpus_per_node": int(job.settings.engine.get("gpus", 1)),
        "mem_gb": -(-int(known + _BESIDE_FILES_GB) // 16) * 16,
    }


def _needs_of_extractor(job: Job) -> dict[str, int]:
    """The least of each key that the job's extractor needs: the language model runs in this job."""
    extractor = job.settings.extractor
    runs_here = extractor.get("engine", {}).get("name") in ("transformers", "vllm")
    needs = extractor.get("needs", {})
    if not runs_here or extractor.get("dry_run"):
        return {}
    needs = {"gpus": 0, **needs}
    if needs["gpus"]:
        needs["gpus"] = max(needs["gpus"], int(extractor["engine"].get("gpus", 1)))
    keys = {"gpus": "gpus_per_node", "cpus": "cpus_per_task", "mem_gb": "mem_gb"}
    return {keys[key]: value for key, value in needs.items()}


def _ended(
    handed: "Mapping[submitit.Job[JobOutcome], int]", jobs: Sequence[Job]
) -> "Iterator[tuple[submitit.Job[JobOutcome], str]]":
    """Each job as it ends, and the last state that Slurm showed of it."""
    by_id = {each.job_id: each for each in handed}
    labels = {name: jobs[handed[each]].label for name, each in by_id.items()}
    for name, state in queue.ended(labels):
        yield by_id[name], state


def _status(job: Job, done: "submitit.Job[JobOutcome]", state: str) -> int:
    """The exit status of a job that has ended; prints its error."""
    known = _ENDINGS.get(state)
    # A shared file system may show the result some seconds after the job has ended.
    deadline = time.monotonic() + (_RESULT_SECONDS if not known else 0.0)
    while not done.paths.result_pickle.exists() and time.monotonic() < deadline:
        time.sleep(0.5)
    if state and not done.paths.result_pickle.exists():
        log = done.paths.stderr
        text = log.read_text("utf-8", "replace") if log.exists() else "no log"
        last = f"{state}, {_last_line_of(text)}"
    elif (error := done.exception()) is None:
        ending = done.result()
        for sentence in ending.sentences:
            say(f"{sentence} (log: {done.paths.stderr})")
        return ending.status
    else:
        last = _last_line_of(str(error))
    how = f"{known} on the cluster" if known else f"died on the cluster ({last})"
    say(f"{job.label} {how}; see {done.paths.stderr}; the same command resumes it")
    return cli.FAILED


def _last_line_of(text: str) -> str:
    return next(reversed(text.strip().splitlines()), "")
