"""One job from beginning to end: describe -> extract -> score, each going on where it stopped."""

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from ovmer.adapters.base import Adapter
from ovmer.adapters.embeddings import FILE, WithEmbeddings, collect
from ovmer.adapters.mllm import Mllm
from ovmer.baselines.errors import ClipError, PrerequisiteError, Status
from ovmer.runners.config import settings_as_json
from ovmer.runners.counts import clip_count
from ovmer.runners.data import in_clusters, read_dataset
from ovmer.runners.describing.failures import CrashedAlike
from ovmer.runners.describing.launchers import make_launcher
from ovmer.runners.describing.pipeline_settings import PipelineSettings
from ovmer.runners.describing.requests import clip_seed
from ovmer.runners.extraction import ExtractedLabels, Extractor
from ovmer.runners.folder.exchange import write_exchange_files
from ovmer.runners.folder.identity import richer
from ovmer.runners.folder.provenance import provenance
from ovmer.runners.folder.records import LabelRecord
from ovmer.runners.folder.run_folder import MINIATURE, RunFolder
from ovmer.runners.folder.run_json import ANSWERED, RunInfo, identity_digest
from ovmer.runners.folder.scores_json import finite, stored_scores
from ovmer.runners.job import Job
from ovmer.runners.parts import make
from ovmer.runners.progress import Progress, say
from ovmer.runners.scoring.parsing import shared
from ovmer.runners.scoring.result import Scores, mean_scores
from ovmer.runners.sweeping.costs import money
from ovmer.runners.sweeping.hint import faster_engine
from ovmer.runners.sweeping.hooks import run_ended
from ovmer.runners.sweeping.state import ExtractionState, JobState, look

_SHOWN = 5  # failed clips that a summary names for each status


def work(job: Job) -> JobState:
    """Do what is left of `job`; returns its state then.

    Raises PrerequisiteError where it cannot start, and ClipError for a clip that fails under
    `on_error=raise`.
    """
    started = time.monotonic()
    clips = read_dataset(job.settings.dataset)
    make(job.settings, clips, job.adapter.modalities, job.label)
    with RunFolder(job.folder) as folder:
        if job.at is None and folder.is_stale(job.identity):
            say(f"{job.label}: its settings have changed and no clip was described; begun anew")
            folder.clear()
        state = look(job, clips)
        missing = len(state.to_describe)
        with _session(folder, state) as info:
            _describe(folder, state, info)
            try:
                _extract(folder, state)
            finally:
                for reading in state.readings:
                    reading.extractor.close()
            _conclude(folder, state, info)
    run_ended(folder.path)
    seconds = time.monotonic() - started
    say(
        f"{job.label}: {clip_count(len(clips))}, {missing} described now in {seconds:.1f} s "
        f"({missing / seconds:.1f} clips/s): {_count_words(state.counts)} -> {job.folder}"
    )
    for line in _failure_lines(state):
        say(line)
    return state


def reread(job: Job, extractors: Sequence[Extractor]) -> JobState:
    """Find the labels of the descriptions that are there already; score them if all are.

    The extractors stay open. Raises PrerequisiteError where one cannot go on.
    """
    clips = read_dataset(job.settings.dataset)
    with RunFolder(job.folder) as folder:
        state = look(job, clips, extractors)
        with _session(folder, state) as info:
            _extract(folder, state)
            if not state.to_describe:
                _conclude(folder, state, info)
    return state


def _conclude(folder: RunFolder, state: JobState, info: RunInfo) -> None:
    """Score, and write what others read."""
    _score(folder, state)
    results = state.records(range(len(state.clips)))
    name = state.job.settings.baseline["name"]
    column = None if state.has_truth else state.job.settings.dataset.get("submission")
    write_exchange_files(folder, name, results, state.readings[0].found, column)
    state.exported = info.exported = state.results


@contextmanager
def _session(folder: RunFolder, state: JobState) -> Iterator[RunInfo]:
    """Keep run.json: whose folder it is before the first record, and at the end what was done.

    Yields what it will hold, to add to.
    """
    job, before = state.job, folder.find_info()
    session: dict[str, Any] = {
        "started": _now(),
        "process": os.getpid(),
        "overrides": list(job.overrides),
        "batch_size": job.settings.batch_size,  # can change a word in half precision
    }
    if before is None or job.at is None:
        identity = richer(before.identity if before else {}, job.identity)
    else:  # only its labels are made anew, maybe on another machine
        identity = before.identity
    info = RunInfo(
        identity=identity,
        settings=settings_as_json(job.settings),
        answers="labels" if job.adapter.answers_with_labels else "descriptions",
        clips=len(state.clips),
        sessions=[*(before.sessions if before else ()), session],
    )
    started, missing = time.monotonic(), len(state.to_describe)
    folder.write_info(info)
    try:
        yield info
    except PrerequisiteError as error:
        info.problem = str(error)  # for tables, which say why a figure is missing
        raise
    finally:
        session |= {
            "ended": _now(),
            "seconds": round(time.monotonic() - started, 2),
            "described": missing - len(state.to_describe),
            **provenance(),
        }
        info.status = dict(state.counts)
        folder.write_info(info)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _describe(folder: RunFolder, state: JobState, info: RunInfo) -> None:
    job, requests = state.job, state.to_describe
    if state.touched:
        say(
            f"{job.label}: the files of {clip_count(len(state.touched))} have another date but the "
            "same content as when they were described, so their answers are kept (redo=true asks "
            "again)"
        )
        for record in state.touched.values():
            state.keep(record, folder.predictions.append(record))
        state.touched.clear()
    if not requests:
        return
    if job.dtype_warning:
        say(f"{job.label}: {job.dtype_warning}")
        info.sessions[-1]["dtype"] = job.dtype_warning
    adapter = job.adapter.miniature(folder.path / MINIATURE) if job.is_dry else job.adapter
    if not job.is_dry and job.settings.launcher.get("name", "local") == "local":
        if isinstance(adapter, Mllm):
            parts = {name: adapter.checkpoint[name] for name in adapter.needed_parts}
            sizes = {n: f" ({p.gb:g} GB)" if p.gb and not p.path else "" for n, p in parts.items()}
            say(f"{job.label}: loading {', '.join(name + size for name, size in sizes.items())}")
        info.identity = _with_weights(folder, job, adapter, info)
    made_by = identity_digest(info.identity)
    if job.settings.embeddings:
        _check_embeddings(job)
        adapter = WithEmbeddings(adapter, folder.path)
    launcher = make_launcher(job.settings.launcher, PipelineSettings.of(job, adapter))
    begun, first = time.monotonic(), None
    crashes = None if state.counts[Status.OK] else CrashedAlike()
    try:
        with Progress(len(requests), job.label) as progress:
            for found in launcher.describe(requests):
                first = first or time.monotonic() - begun
                prediction = replace(found, made_by=made_by)
                state.keep(prediction, folder.predictions.append(prediction))
                if prediction.failed:
                    sentence = f"{prediction.name} is {prediction.status}: {prediction.error}"
                    progress.add(prediction.status, sentence)
                else:
                    progress.add()
                if crashes is not None:
                    crashes.add(prediction)
    finally:
        speed, price = launcher.speed, job.settings.price
        info.sessions[-1]["speed"] = speed.as_json()
        if first is not None:  # loading included
            info.sessions[-1]["speed"]["seconds_to_first_clip"] = round(first, 2)
        cost = money(price, speed.prompt_tokens, speed.new_tokens)
        if cost is not None:
            info.sessions[-1]["cost"] = {"amount": round(cost, 6), "currency": price.currency}
        if adapter.load_notes:
            info.sessions[-1]["weights"] = list(adapter.load_notes)
        if job.settings.embeddings:
            _keep_embeddings(folder, state)
    if launcher.speed.new_tokens:  # for other models the last line is enough
        spent = "" if cost is None else f", {cost:.2f} {price.currency}"
        say(f"{job.label}: {launcher.speed}, the first clip after {first or 0.0:.1f} s{spent}")
        if hint := faster_engine(job, adapter, launcher.speed.clips):
            say(f"{job.label}: {hint}")


def _check_embeddings(job: Job) -> None:
    """Raises PrerequisiteError where hidden states cannot be had."""
    for group, name in (("engine", "transformers"), ("launcher", "local")):
        if (given := getattr(job.settings, group).get("name", name)) != name:
            raise PrerequisiteError(
                f"embeddings=true needs {group}={name}, as {group}={given} keeps hidden states to "
                "itself; leave one of them out"
            )


def _keep_embeddings(folder: RunFolder, state: JobState) -> None:
    job = state.job
    kept = collect(folder.path, {c.name: clip_seed(job.settings.seed, c.name) for c in state.clips})
    lacking = state.counts[Status.OK] + state.counts[Status.EMPTY] - kept
    if lacking > 0:
        say(
            f"{job.label}: {FILE} lacks {clip_count(lacking)} that were described without "
            "embeddings=true; redo=true asks them again"
        )


def _with_weights(
    folder: RunFolder, job: Job, adapter: Adapter, info: RunInfo
) -> Mapping[str, Any]:
    """The run's identity once its weights are on this machine, and with it what is in them.

    Raises PrerequisiteError where they are not to be had, or differ from those of an earlier
    session.
    """
    if not isinstance(adapter, Mllm):
        return info.identity
    _ = adapter.parts  # fetches those that are missing
    identity = replace(job).identity
    folder.check(identity)
    return richer(info.identity, identity)


def _extract(folder: RunFolder, state: JobState) -> None:
    for reading in state.readings:
        _read(folder, state, reading)


def _read(folder: RunFolder, state: JobState, reading: ExtractionState) -> None:
    """Find the labels of the descriptions that have none yet, with one extractor."""
    total = len(reading.left)
    if not total:
        return
    label, noted, unanswered = state.job.label, dict[str, list[int]](), ""
    with Progress(total, f"{label}: labels") as progress:
        for found in reading.extractor.extract(state.to_extract(reading)):
            number = state.names[found.name]
            folder.labels.append(_labelled(found, reading.key(number)))
            if found.error is None:
                reading.labels[number] = shared(found.labels)
                for note in found.notes:
                    noted.setdefault(note, []).append(number)
            elif state.job.settings.on_error == "raise":
                raise ClipError(f"{found.name}: {found.error}")
            else:
                unanswered = f"{found.name}: {found.error}"
            progress.add()
    left = len(reading.left)
    for note, numbers in noted.items():
        names = [state.clips[number].name for number in sorted(numbers)[:_SHOWN]]
        more = ", ..." if len(numbers) > _SHOWN else ""
        say(
            f"{label}: {len(numbers)} of {total - left} descriptions: {note} "
            f"({', '.join(names)}{more}; see labels.jsonl)"
        )
    if left:
        say(f"{label}: {left} descriptions have no labels yet; {unanswered}")


def _labelled(found: ExtractedLabels, key: str) -> LabelRecord:
    return LabelRecord(
        found.name, found.labels, found.raw, key, found.notes, found.trail, found.error
    )


def _score(folder: RunFolder, state: JobState) -> None:
    """A clip that failed counts as one without labels; beside that, the clips answered alone."""
    if not state.has_truth or state.scores is not None:
        return
    scores = mean_scores([_scored(state, reading, "zero") for reading in state.readings])
    scores = in_clusters(scores, state.clips, state.job.settings.dataset.get("cluster"))
    answered = None
    if state.failed and all(each.found.keys() & state.truth.keys() for each in state.readings):
        skipping = [_scored(state, reading, "skip") for reading in state.readings]
        answered = finite(mean_scores(skipping).figures)
    entry = stored_scores(
        scores.with_intervals(),
        extraction=state.job.extraction,
        extractor=dict(state.readings[0].extractor.identity),
        digest=state.score_digest,
        answered_only=answered,
    )
    parser = entry.extractor.get("parser")
    if parser is not None:  # `parser` itself is the metric's
        entry = replace(entry, conditions={**entry.conditions, "extractor.parser": parser})
    state.all_scores[entry.key] = entry
    folder.write_scores(state.all_scores.values())


def _scored(state: JobState, reading: ExtractionState, missing: str) -> Scores:
    scores = state.metric.score(reading.found, state.truth, missing=missing)
    unknown = scores.unknown()
    # The tables, which nobody asks for here, hold the labels of all clips.
    return replace(scores, unknown=lambda: unknown, tables=dict)


def _count_words(counts: Counter[Status]) -> str:
    """`14 ok, 2 unreadable`, in the order of the enum."""
    return ", ".join(f"{counts[status]} {status}" for status in Status if counts[status])


def _failure_lines(state: JobState) -> list[str]:
    """Name the clips that failed and why, the first few of each status."""
    lines = []
    for status in Status:
        if status in ANSWERED:
            continue
        of_kind = [number for number, each in enumerate(state.statuses) if each is status]
        shown = state.records(of_kind[:_SHOWN])
        lines += [f"  {status} {each.name}: {each.error}" for each in shown]
        if len(of_kind) > _SHOWN:
            lines.append(f"  {status}: {len(of_kind) - _SHOWN} more, see predictions.csv")
    return lines
