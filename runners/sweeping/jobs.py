"""The jobs of a sweep: announced, run, then summarised in one table.

What is finished is skipped. Of several jobs each is a process of its own, or a job of a cluster
(submit.py): one that dies is reported at once, its memory is freed, and the others go on. A single
job runs in this process.
"""

import gc
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing import forkserver
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from ovmer.adapters.base import MEDIA, VIDEO
from ovmer.adapters.mllm import Mllm
from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners import cli
from ovmer.runners.counts import clip_count
from ovmer.runners.data import Clip, read_dataset
from ovmer.runners.data.finder import looser_matches
from ovmer.runners.data.reader import dataset_root, understood
from ovmer.runners.describing.requests import make_request
from ovmer.runners.foreign_text import visible
from ovmer.runners.job import Job
from ovmer.runners.progress import say
from ovmer.runners.sweeping.costs import estimate
from ovmer.runners.sweeping.read_ahead import reading_ahead
from ovmer.runners.sweeping.state import JobState, look
from ovmer.runners.sweeping.submit import as_planned, submit
from ovmer.runners.sweeping.summary import summary
from ovmer.runners.sweeping.work import work

_SECONDS_TO_END = 30.0  # that a job has when its sweep is stopped; its records are safe anyway

MODEL_MODULES = (
    "ovmer.baselines.decoding.transformers_engine",
    "transformers.models.auto.modeling_auto",
)
"""With what they import, most of torch and transformers."""


@dataclass
class _Planned:
    """A job of this sweep: how far it has come, or why it cannot start."""

    job: Job
    state: JobState | None = None
    is_done: bool = False
    problem: str | None = None

    def take(self, state: JobState) -> None:
        """Note how far the job is; asked once, as it takes a tenth of a second for 20,000 clips."""
        self.state, self.is_done = state, state.is_done


def run_jobs(jobs: Sequence[Job], launcher: Sequence[str] = ()) -> int:
    """Plan, run and tabulate; returns the exit status. `launcher` holds submitit's settings.

    Raises PrerequisiteError where no job can start, and what a single job raises.
    """
    # Tens of thousands of records are read and live on; a collector that walks over them again and
    # again, only to find no garbage, is a fifth of the time that a finished sweep takes.
    gc.disable()
    try:
        plan = _plan([as_planned(job, launcher) for job in jobs])
        gc.freeze()
    finally:
        gc.enable()
    _announce(plan)
    status = cli.FAILED if any(each.problem for each in plan) else cli.FINE
    if jobs and jobs[0].settings.estimate:
        for each in plan:
            if each.state is not None:
                print(visible(estimate(each.state)))
        return status
    left = [each for each in plan if each.state is not None and not each.is_done]
    if len(plan) == 1 and left and not launcher:
        left[0].state = None  # `work` looks again, and one of 100,000 clips is much to keep twice
        left[0].take(work(left[0].job))
    elif left:
        todo = [each.job for each in left]
        for index, code in submit(todo, launcher) if launcher else _one_by_one(todo):
            ended = left[index]
            assert ended.state is not None
            once = replace(ended.job, settings=replace(ended.job.settings, redo=False))
            ended.take(look(once, ended.state.clips))
            if code != cli.FINE:
                status = cli.FAILED
                if ended.job.settings.on_error == "raise":
                    break
    states = [each.state for each in plan if each.state is not None]
    print(visible(summary(states)))
    for state in states:
        if state.all_failed and not state.is_fine:
            say(f"{state.job.label}: no clip was answered; the reasons are in {state.job.folder}")
    fine = all(each.is_done for each in plan) and all(state.is_fine for state in states)
    return status if fine else cli.FAILED


def _plan(jobs: Sequence[Job]) -> list[_Planned]:
    """How far each job has come; a job that is asked for twice appears once.

    A job that takes its clues from other runs stands behind them. Raises PrerequisiteError where
    none of them can start.
    """
    plan: list[_Planned] = []
    data_sets: dict[str, Sequence[Clip]] = {}
    seen: set[str] = set()
    for job in sorted(jobs, key=_has_sources):
        planned = _Planned(job)
        try:
            settings = job.settings
            what = _key([str(job.folder), settings.subtitle, settings.extractor, settings.metric])
            if what in seen:
                continue
            seen.add(what)
            key = _key(job.settings.dataset)
            if key not in data_sets:
                data_sets[key] = read_dataset(job.settings.dataset)
                _warn_of_gaps(job.settings.dataset, data_sets[key])
            awaited = list[Path]()
            if _has_sources(job):
                awaited = [each.job.folder.resolve() for each in plan if not each.is_done]
            state = look(job, data_sets[key], awaited=awaited)
            _require_media(state)
            planned.take(state)
        except PrerequisiteError as error:
            planned.problem = str(error)
        plan.append(planned)
    if all(each.problem for each in plan):
        raise PrerequisiteError("\n".join(dict.fromkeys(str(each.problem) for each in plan)))
    return plan


def _has_sources(job: Job) -> bool:
    try:
        return bool(job.adapter.sources())
    except PrerequisiteError:  # named when it is planned
        return False


def _require_media(state: JobState) -> None:
    """Raise PrerequisiteError where no clip has any of the media that the baseline uses."""
    job, settings = state.job, state.job.settings.dataset
    uses = job.adapter.modalities & MEDIA
    if not uses or not state.to_describe:
        return
    if any(each.video or each.audio for each in (make_request(job, clip) for clip in state.clips)):
        return
    if settings.get("source"):
        raise PrerequisiteError(
            f"no clip of {settings['source']} has the {' or '.join(sorted(uses))} that {job.label} "
            "needs; choose another baseline, or name the column by columns.video= or "
            "columns.audio="
        )
    root = dataset_root(settings)
    looked = [p for kind in ("video", "audio") if kind in uses for p in settings[kind]]
    if settings.get("visual") == "face" and VIDEO in uses:
        looked += settings["face"]
    folder = (root / looked[0]).parent if looked else root
    while "{name}" in folder.name:
        folder = folder.parent
    there = sorted(each.name for each in islice(folder.iterdir(), 1000)) if folder.is_dir() else []
    example = f"such as {', '.join(there[:3])}" if there else "nothing"
    raise PrerequisiteError(
        f"no clip of {settings['name']} has the {' or '.join(sorted(uses))} that {job.label} "
        f"needs: looked in {root} for {', '.join(looked) or 'nothing'}, with names such as "
        f"{state.clips[0].name!r}; {folder} holds {example}; correct the names in the "
        f"table, the files', or dataset.{sorted(uses)[-1]}"
    )


def _warn_of_gaps(settings: Mapping[str, Any], clips: Sequence[Clip]) -> None:
    """Warn of an incomplete data set; `ovmer check` lists the clips."""
    if settings.get("source"):
        say(f"  {settings['source']}: {understood(settings)}")
        return
    if not settings.get("check_files", True):
        return
    lacking = {
        kind: sum(file is None for file in files)
        for kind, files in (
            ("video", [clip.video for clip in clips]),
            ("sound", [clip.audio for clip in clips]),
        )
    }
    gaps = [f"{n} of {len(clips)} have no {kind} file" for kind, n in lacking.items() if n]
    if gaps:
        say(f"  of the clips of {settings['name']}, {', '.join(gaps)}")
    files = [
        (kind, clip.name, path)
        for clip in clips
        for kind, path in (("video", clip.video), ("audio", clip.audio), ("face", clip.face))
        if path is not None and not (kind == "audio" and path == clip.video)
    ]
    for sentence in looser_matches(dataset_root(settings), settings, files):
        say(f"  {sentence}")


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _announce(plan: Sequence[_Planned]) -> None:
    """Say first what is done, partial and to do."""
    for each in plan:
        if each.state is None:
            settings = each.job.settings
            what = f"{settings.baseline['name']} on {settings.dataset['name']}"
            say(f"  cannot start  {what}: {each.problem}")
            continue
        total, left = len(each.state.clips), len(each.state.to_describe)
        if each.is_done:
            say(f"  done          {each.job.folder}, {clip_count(total)}")
        elif left < total:
            say(f"  partial       {each.job.folder}, {total - left} of {total} clips described")
        else:
            say(f"  to do         {each.job.folder}, {clip_count(total)}")


def _one_by_one(jobs: Sequence[Job]) -> Iterator[tuple[int, int]]:
    """The index of each job as it ends, and its exit status."""
    # A server imports once what the jobs share, which takes longer than a small job, and is forked
    # for each; a fork of this process would take CUDA and threads along.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_shared_modules(jobs))
    _start_server()
    for index, (job, following) in enumerate(zip(jobs, [*jobs[1:], None], strict=True)):
        with reading_ahead(job, following):
            code = _in_a_process(job, context)
        yield index, code


def _start_server() -> None:
    """Start the server so that Ctrl-C, which reaches it too, does not end it with a stack trace.

    It ignores that itself, but only once it has imported what the jobs share.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # which alone may set handlers, and alone is interrupted
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as inherited by what is started now
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


def _shared_modules(jobs: Sequence[Job]) -> list[str]:
    """None of them touches a device when it is imported: what has seen CUDA cannot be forked."""
    if any(isinstance(job.adapter, Mllm) for job in jobs):
        return ["ovmer.runners.sweeping.work", *MODEL_MODULES]
    return ["ovmer.runners.sweeping.work"]


def _in_a_process(job: Job, context: ForkServerContext) -> int:
    """Run a job in a process of its own; returns its exit status; prints how it died."""
    process = context.Process(target=_child, args=(replace(job),))
    process.start()
    try:
        process.join()
    except KeyboardInterrupt:
        process.terminate()
        process.join(_SECONDS_TO_END)
        process.kill()
        raise
    code = process.exitcode or 0
    if code < 0:
        name = signal.Signals(-code).name
        hint = " (was there too little memory?)" if name == "SIGKILL" else ""
        say(f"{job.label} died of {name}{hint}; the others go on, the same command resumes it")
    return code


def _child(job: Job) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    raise SystemExit(
        cli.run(lambda: cli.FINE if work(job).is_fine else cli.FAILED, f"{job.label}: ")
    )


def _end_with_parent() -> None:
    """A job whose sweep was killed must not go on: its folder would be taken."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(cli.STOPPED)
