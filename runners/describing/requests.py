"""Requests: a clip as the adapter gets it, with its fingerprint and its seed."""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from ovmer.adapters.base import AUDIO, SUBTITLE, VIDEO
from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.config import Settings
from ovmer.runners.content import file_hash
from ovmer.runners.data import Clip
from ovmer.runners.folder.records import digest
from ovmer.runners.job import Job

_UNCHECKED = "?"
_STAT = re.compile(r"\d+-\d+")
"""Size and time of change of a file in a fingerprint."""


@dataclass(frozen=True, slots=True)
class ClipRequest:
    """An adapter's input for one clip; None for what it does not use or the clip lacks."""

    name: str
    video: Path | None
    audio: Path | None
    subtitle: str | None
    truth: tuple[str, ...]
    fingerprint: Mapping[str, str]
    clues: tuple[str | None, ...] = ()
    question: str | None = None
    """The task's question; None: the adapter's own."""
    blank: frozenset[str] = frozenset()
    """Media that are read as blank, see inputs.py."""
    notes: tuple[str, ...] = ()
    """For the clip's record."""
    answers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What a task may be answered with (`Prepared.answers`)."""
    lacks_face: str = ""
    """The error of a model that needs the picture, where face crops are to be shown and the clip
    has none."""


def clip_seed(seed: int, name: str) -> int:
    """Start of a clip's random stream: 63 bits of a hash of (seed, name), the same everywhere."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def with_content(request: ClipRequest) -> Mapping[str, str]:
    """The request's fingerprint, in which size and date of each file have its content behind them:
    by it a later run knows a file that was copied or touched. An unreadable file stays without."""
    found = request.fingerprint
    for kind, path in ((VIDEO, request.video), (AUDIO, request.audio)):
        if path is not None and _STAT.fullmatch(found.get(kind, "")):
            with suppress(OSError):
                stat = os.stat(path)
                content = file_hash(path, stat.st_size, stat.st_mtime_ns)
                found = {**found, kind: f"{found[kind]}-{content}"}
    return found


def make_request(job: Job, clip: Clip, clues: Sequence[str | None] = ()) -> ClipRequest:
    """The request for a clip: the modalities that this job's adapter uses, and no others."""
    uses, settings = job.adapter.modalities, job.settings
    picture = clip.face if settings.dataset.get("visual") == "face" else clip.video
    video = picture if VIDEO in uses else None
    audio = clip.audio if AUDIO in uses else None
    subtitle = clip.subtitle if SUBTITLE in uses and settings.subtitle == "prompt" else None
    truth = clip.labels if job.adapter.sees_truth else ()
    answers = _answers(job, clip)
    question = None if answers else _question(job, clip)
    if question is not None:
        subtitle = None  # the question contains it, if the task uses it
    checked = bool(settings.dataset.get("check_files", True))
    made_from = fingerprint(video, audio, subtitle, truth, checked)
    if question is not None:
        made_from["question"] = digest(question)
    if answers:
        made_from["answers"] = digest(*chain(answers, *answers.values()))
    if clues:
        made_from["clues"] = digest(*(f"{clue is None}{clue}" for clue in clues))
    return ClipRequest(
        clip.name,
        video,
        audio,
        subtitle,
        truth,
        made_from,
        tuple(clues),
        question,
        clip.blank,
        clip.notes,
        answers,
        _lacks_face(settings) if VIDEO in uses and clip.face is None else "",
    )


def _lacks_face(settings: Settings) -> str:
    if settings.dataset.get("visual") != "face":
        return ""
    given = settings.faces.get("name", "given") == "given"
    remedy = "add faces=detect, which makes them" if given else "set faces.missing=frame"
    return f"the clip has no face crops; {remedy}, or dataset.visual=frame"


def _answers(job: Job, clip: Clip) -> Mapping[str, tuple[str, ...]]:
    """What a rule that draws from a task's labels draws from; empty for all other baselines.

    Raises PrerequisiteError where the task has no labels.
    """
    if not (job.task.asks and job.adapter.chooses):
        return {}
    if answers := job.task.answers(clip):
        return answers
    raise PrerequisiteError(
        f"baseline={job.settings.baseline['name']} draws from a task's labels, and "
        f"task={job.task.name} has none to choose from; leave it out, or say task=describe"
    )


def _question(job: Job, clip: Clip) -> str | None:
    """The task's question for a clip; PrerequisiteError where the baseline can be put none."""
    if not job.task.asks:
        return None
    if "asking" not in job.adapter.defines:
        raise PrerequisiteError(
            f"baseline={job.settings.baseline['name']} puts no question, so task={job.task.name} "
            "cannot be asked of it; leave it out, or say task=describe"
        )
    return job.task.ask(clip, clip.subtitle if job.settings.subtitle == "prompt" else None)


def fingerprint(
    video: Path | None,
    audio: Path | None,
    subtitle: str | None,
    truth: Sequence[str],
    check_files: bool,
) -> dict[str, str]:
    """An answer's inputs: size and time of change of the files, hash of the words."""
    found = {
        kind: _of_file(path) if check_files else _UNCHECKED
        for kind, path in ((VIDEO, video), (AUDIO, audio))
        if path is not None
    }
    if subtitle is not None:
        found[SUBTITLE] = digest(subtitle)
    if truth:
        found["truth"] = digest(*truth)
    return found


def _of_file(path: Path) -> str:
    try:
        stat = os.stat(path)
    except OSError:
        return "absent"
    return f"{stat.st_size}-{stat.st_mtime_ns}"


def current_fingerprint(made_from: Mapping[str, str], asked: ClipRequest) -> dict[str, str] | None:
    """An answer's fingerprint with today's dates of its files; None where its clip has changed.

    A file of the same size and date is taken to be the same. Where the date is another one, the
    content decides, which is read.
    """
    now = asked.fingerprint
    if made_from.keys() != now.keys():
        return None
    current = dict(made_from)
    for key, known in made_from.items():
        size, date, content = (*known.split("-"), "", "")[:3]
        if _UNCHECKED in (known, now[key]) or now[key] in (known, f"{size}-{date}"):
            continue
        if not content or not now[key].startswith(f"{size}-"):
            return None
        current[key] = with_content(asked)[key]
        if not current[key].endswith(f"-{content}"):
            return None
    return current
