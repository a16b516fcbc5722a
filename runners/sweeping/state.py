"""How far a job has come: what its run folder holds that still holds, and what is left to do.

The sweep looks to say what is done, partial and to do, the job itself to know where to go on; both
ask here, and neither torch nor a model is touched.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from ovmer.adapters.base import AUDIO, SUBTITLE, VIDEO
from ovmer.baselines.errors import PrerequisiteError, Status
from ovmer.runners.data import Clip
from ovmer.runners.describing import inputs
from ovmer.runners.describing.requests import ClipRequest, with_content
from ovmer.runners.extraction import ClipDescription, Extractor, make_extractors
from ovmer.runners.folder.exchange import has_exchange_files
from ovmer.runners.folder.records import LabelRecord, Prediction, digest, identity_text, label_key
from ovmer.runners.folder.run_folder import RunFolder
from ovmer.runners.folder.scores_json import StoredScores
from ovmer.runners.job import Job
from ovmer.runners.parts import with_parts
from ovmer.runners.scoring import Metric, make_metric

_LASTING = frozenset({Status.UNREADABLE, Status.MISSING_MODALITY})
"""Failures caused by the clip's files: tried again only when those have changed. The cause of the
others may have passed (memory, a server, a bug since fixed), so each new run tries them again."""

_INTERVALS = 2  # of how intervals are made: scores made otherwise are made anew
_UNCHECKED = "?"
_NONE: Mapping[str, str] = {}


@dataclass
class ExtractionState:
    """One extractor's labels for the descriptions."""

    extractor: Extractor
    labels: dict[str, LabelRecord] = field(default_factory=dict)
    """The labels of the descriptions as they are now."""

    @cached_property
    def _identity(self) -> str:
        return identity_text(self.extractor.identity)

    def key(self, item: ClipDescription) -> str:
        """The key of one description's labels in labels.jsonl."""
        return label_key(
            item.name, item.text, item.subtitle, item.is_labels, self._identity, item.truth
        )

    @property
    def found(self) -> dict[str, tuple[str, ...]]:
        """Name -> labels, as the metric and the exchange files take them."""
        return {name: each.labels for name, each in self.labels.items()}


@dataclass
class JobState:
    """The state of one job."""

    job: Job
    clips: Sequence[Clip]
    requests: Sequence[ClipRequest]
    """One for each clip that is to be described, in the data set's order."""
    readings: Sequence[ExtractionState]
    """One, or one for each seed where extraction is repeated."""
    metric: Metric
    predictions: dict[str, Prediction] = field(default_factory=dict)
    """The last record of each selected clip whose files and words are still the same."""
    all_scores: dict[str, StoredScores] = field(default_factory=dict)
    """The entries of scores.json, by their key."""
    touched: list[Prediction] = field(default_factory=list)
    """Of these the files have another date and the same content; the record here has the new date,
    the one on disk not yet."""
    exported: str | None = None
    """The `results` that the exchange files were last written from; None where one is gone."""

    def keep(self, prediction: Prediction) -> None:
        """Take a clip's record; the file holds from what it was made, which is not asked again."""
        self.predictions[prediction.name] = replace(prediction, fingerprint=_NONE, made_by="")

    @property
    def to_describe(self) -> list[ClipRequest]:
        return [
            each
            for each in self.requests
            if each.name not in self.predictions or _passing(self.predictions[each.name])
        ]

    def to_extract(self, reading: ExtractionState) -> list[ClipDescription]:
        """The descriptions that have no labels yet."""
        return [
            self._described(clip, self.predictions[clip.name])
            for clip in self.clips
            if clip.name in self.predictions
            and not self.predictions[clip.name].failed
            and clip.name not in reading.labels
        ]

    @property
    def asks_for_labels(self) -> bool:
        """Whether an extractor finds the labels; False where the baseline names them itself."""
        adapter = self.job.adapter
        return not adapter.answers_with_labels or adapter.labels_in_sentence

    def _described(self, clip: Clip, prediction: Prediction) -> ClipDescription:
        adapter, settings = self.job.adapter, self.job.settings
        merges = settings.subtitle == "merge" and inputs.keeps_subtitle(settings.inputs)
        subtitle = clip.subtitle if merges else None
        is_judged = settings.extractor.get("kind") == "judge"
        return ClipDescription(
            clip.name,
            prediction.description,
            subtitle,
            is_labels=adapter.answers_with_labels or self.job.task.form == "labels",
            truth=clip.labels if is_judged else (),
            video=clip.video if is_judged else None,
            in_sentence=adapter.labels_in_sentence,
        )

    @property
    def truth(self) -> dict[str, Any]:
        """True labels of the clips that have any; the others cannot be scored."""
        return {clip.name: self.metric.truth_of(clip) for clip in self.clips if clip.labels}

    @property
    def scores(self) -> StoredScores | None:
        """The entry of scores.json, if it was made from just these labels."""
        entry = self.all_scores.get(f"{self.job.extraction}/{self.metric.name}")
        return entry if entry and entry.digest == self.score_digest else None

    @property
    def score_digest(self) -> str:
        """Hash of everything that the scores follow from."""
        # Not the tables' location: the conditions name them, and their content is checked.
        settings = {key: v for key, v in self.job.settings.metric.items() if key != "wheel_root"}
        clusters = self.job.settings.dataset.get("cluster")
        metric = [settings, self.metric.conditions, clusters, _INTERVALS]
        found = [reading.found for reading in self.readings]
        return digest(json.dumps([found, self.truth, metric], sort_keys=True), size=12)

    @property
    def results(self) -> str:
        """Hash of what the exchange files hold: each clip's status and labels, in order."""
        lines = []
        for clip in self.clips:
            done, labels = self.predictions.get(clip.name), self.labels.get(clip.name)
            lines.append(f"{clip.name} {done and done.status} {labels and labels.key}")
        return digest(*lines, size=12)

    @property
    def labels(self) -> dict[str, LabelRecord]:
        """The first reading's labels, which the exchange files hold."""
        return self.readings[0].labels

    @property
    def counts(self) -> Counter[Status]:
        return Counter(each.status for each in self.predictions.values())

    @property
    def failed(self) -> list[Prediction]:
        return [each for each in self.predictions.values() if each.failed]

    @property
    def is_done(self) -> bool:
        return (
            not self.to_describe
            and not self.touched
            and not any(self.to_extract(reading) for reading in self.readings)
            and (not self.truth or self.scores is not None)
            and self.exported == self.results
        )

    @property
    def is_fine(self) -> bool:
        """Done, and no clip failed; that one lacks what the model uses is no failure of the run."""
        lacking = self.counts[Status.MISSING_MODALITY]
        return self.is_done and len(self.failed) == lacking


def look(
    job: Job,
    clips: Sequence[Clip],
    extractors: Sequence[Extractor] | None = None,
    awaited: Sequence[Path] = (),
) -> JobState:
    """Read how far `job` has come on `clips`; without `extractors`, by those of its settings.

    `awaited` are runs that the same sweep makes before this one, which takes its clues from them:
    what they hold now counts for nothing.

    Raises PrerequisiteError for a setting that is wrong and for a folder of another configuration.
    """
    folder = RunFolder(job.folder)
    if job.at is None:  # else the settings are the folder's own
        folder.check(job.identity)
    if extractors is None:
        extractors = make_extractors(job.extractor, job.settings.subtitle == "merge")
    others = [
        {} if path.resolve() in awaited else _predictions_of(path) for path in job.adapter.sources()
    ]
    clips = with_parts(job.settings, clips, job.adapter.modalities)
    inputs.check(job.settings.inputs, job.adapter.modalities, job.settings.baseline["name"])
    state = JobState(
        job,
        clips,
        [],
        [ExtractionState(each) for each in extractors],
        make_metric(job.settings.metric),
    )
    if state.metric.reads_replies and state.truth:
        # A truth that the task cannot score is reported before anything runs.
        state.metric.score({}, state.truth, missing="zero")
    asked = (
        request(job, clip, [_said(other.get(clip.name)) for other in others])
        for clip in inputs.give(job.settings.inputs, clips, job.settings.seed)
    )
    state.requests = _unanswered(asked, state, folder)
    labelled = folder.read_labels()
    for reading in state.readings:
        for item in state.to_extract(reading):
            known = labelled.get(reading.key(item))
            if known is not None and known.error is None:
                reading.labels[item.name] = known
    state.all_scores = folder.read_scores()
    info, settings = folder.find_info(), job.settings
    submission = None if state.truth else settings.dataset.get("submission")
    if info is not None and has_exchange_files(folder, settings.baseline["name"], submission):
        state.exported = info.exported
    return state


def _unanswered(
    requests: Iterable[ClipRequest], state: JobState, folder: RunFolder
) -> list[ClipRequest]:
    """The requests to be put; the state takes the records of clips that are unchanged and are not
    to be done again."""
    job = state.job
    found = {} if job.at is None and folder.is_stale(job.identity) else folder.read_predictions()
    redone = redo_of(job.settings.redo, [clip.name for clip in state.clips])
    left = []
    for each in requests:
        record = found.pop(each.name, None)
        current = None
        if record is not None and not redone(record):
            current = _current(record.fingerprint, each)
        if record is None or current is None:
            left.append(each)
            continue
        if current != record.fingerprint:
            record = replace(record, fingerprint=current)
            state.touched.append(record)
        state.keep(record)
        if _passing(record):
            left.append(each)
    return left


def _predictions_of(path: Path) -> dict[str, Prediction]:
    folder = RunFolder(path)
    if folder.find_info() is None:
        raise PrerequisiteError(f"there is no run folder {path} to take clues from; run it first")
    return folder.read_predictions()


def _said(prediction: Prediction | None) -> str | None:
    return None if prediction is None or prediction.failed else prediction.description


def request(job: Job, clip: Clip, clues: Sequence[str | None] = ()) -> ClipRequest:
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
    )


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


def _current(made_from: Mapping[str, str], asked: ClipRequest) -> dict[str, str] | None:
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


def redo_of(wish: Any, names: Sequence[str]) -> Callable[[Prediction], bool]:
    """Whether the setting `redo` asks for a clip again that has been answered.

    `true` is all, `failed` those that failed, anything else a pattern of names or a list of them.
    Raises PrerequisiteError for a pattern that is no clip's.
    """
    if isinstance(wish, bool):
        return lambda record: bool(wish)
    if wish == "failed":
        return lambda record: record.failed
    patterns = [str(each) for each in (wish if isinstance(wish, list) else [wish])]
    for each in patterns:
        if not any(fnmatchcase(name, each) for name in names):
            raise PrerequisiteError(
                f"redo={each} is the name of no clip; give true, failed, or a name or pattern of "
                f"clips such as {names[0]!r}"
            )
    return lambda record: any(fnmatchcase(record.name, each) for each in patterns)


def _passing(prediction: Prediction) -> bool:
    return prediction.failed and prediction.status not in _LASTING
