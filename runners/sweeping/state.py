"""How far a job has come: what its run folder holds that still holds, and what is left to do.

The sweep looks to say what is done, partial and to do, the job itself to know where to go on; both
ask here, and neither torch nor a model is touched.

In memory are, for each clip, its status, the place of its record in the file, and its labels.
Clips, requests and records are made or read where they are used, as those of 100,000 clips would
take hundreds of megabytes.
"""

import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import Any

from ovmer.baselines.errors import PrerequisiteError, Status
from ovmer.runners.data import Clip
from ovmer.runners.describing import inputs
from ovmer.runners.describing.requests import ClipRequest, current_fingerprint, make_request
from ovmer.runners.extraction import ClipDescription, Extractor, make_extractors
from ovmer.runners.folder.exchange import has_exchange_files
from ovmer.runners.folder.records import Prediction, digest_of, identity_text, label_key
from ovmer.runners.folder.run_folder import RunFolder
from ovmer.runners.folder.run_json import ANSWERED
from ovmer.runners.folder.scores_json import StoredScores
from ovmer.runners.job import Job
from ovmer.runners.lazy import LazySequence
from ovmer.runners.parts import with_parts
from ovmer.runners.scoring import Metric, make_metric
from ovmer.runners.scoring.parsing import shared

_LASTING = (*ANSWERED, Status.UNREADABLE, Status.MISSING_MODALITY)
"""Answers, and failures caused by the clip's files: asked again only when those have changed. The
cause of the others may have passed (memory, a server, a bug since fixed), so each new run asks."""

_INTERVALS = 2  # version of the intervals: scores with others are made anew
_NOWHERE = -1
_KEY = 12  # bytes of a label_key
_NO_KEY = bytes(_KEY).hex()


class ExtractionState:
    """One extractor's labels for the descriptions, by the numbers of the clips."""

    def __init__(self, extractor: Extractor, names: Mapping[str, int]) -> None:
        """`names` maps a clip's name to its number."""
        self.extractor = extractor
        self._identity = identity_text(extractor.identity)
        self._names = names
        self._keys = bytearray(_KEY * len(names))
        self.labels: list[tuple[str, ...] | None] = [None] * len(names)
        """The labels of the descriptions as they are now."""

    def expect(self, number: int, item: ClipDescription | None) -> None:
        """Take a clip's description, or that it has none; labels of another one are dropped."""
        key = _NO_KEY
        if item is not None:
            made_from = item.name, item.text, item.subtitle, item.is_labels
            key = label_key(*made_from, self._identity, item.truth)
        if key != self.key(number):
            self._keys[number * _KEY : (number + 1) * _KEY] = bytes.fromhex(key)
            self.labels[number] = None

    def key(self, number: int) -> str:
        """The key in labels.jsonl of a description's labels; zeros without a description."""
        return self._keys[number * _KEY : (number + 1) * _KEY].hex()

    @property
    def left(self) -> list[int]:
        """The clips whose descriptions have no labels yet."""
        without = (number for number, found in enumerate(self.labels) if found is None)
        return [number for number in without if self.key(number) != _NO_KEY]

    @property
    def found(self) -> dict[str, tuple[str, ...]]:
        """Name -> labels, as the metric and the exchange files take them."""
        pairs = zip(self._names, self.labels, strict=True)
        return {name: labels for name, labels in pairs if labels is not None}


class JobState:
    """The state of one job; a clip's number is its place in the data set's order."""

    def __init__(
        self,
        job: Job,
        clips: Sequence[Clip],
        extractors: Sequence[Extractor],
        clues: Sequence[Mapping[str, str]],
    ) -> None:
        """`clues` are descriptions by other runs, by the clips' names."""
        self.job, self.clips, self._clues = job, clips, clues
        self._asked = inputs.give(job.settings.inputs, clips, job.settings.seed)
        self.metric: Metric = make_metric(job.settings.metric)
        self.names: dict[str, int] = {}
        """Name of a clip -> its number."""
        self._truth: list[Any] = []
        for number, clip in enumerate(clips):
            self.names[clip.name] = number
            self._truth.append(self.metric.truth_of(clip) if clip.labels else None)
        self.statuses: list[Status | None] = [None] * len(clips)
        """Of the last record of each clip whose files and words are still the same."""
        self._places = array("q", [_NOWHERE]) * len(clips)
        self.readings = [ExtractionState(each, self.names) for each in extractors]
        """One, or one for each seed where extraction is repeated."""
        self.all_scores: dict[str, StoredScores] = {}
        """The entries of scores.json, by their key."""
        self.touched: dict[str, Prediction] = {}
        """Records of clips whose files have another date and the same content, with the new date,
        which those on disk do not have yet."""
        self.exported: str | None = None
        """The `results` that the exchange files were last written from; None where one is gone."""

    def keep(self, record: Prediction, place: int) -> None:
        """Take a clip's record, which is at that place of the file."""
        number = self.names[record.name]
        self.statuses[number], self._places[number] = record.status, place
        item = None if record.failed else self._described(number, record)
        for reading in self.readings:
            reading.expect(number, item)

    def forget(self, name: str) -> None:
        """Take a clip as one that was never described."""
        number = self.names[name]
        self.statuses[number], self._places[number] = None, _NOWHERE
        self.touched.pop(name, None)
        for reading in self.readings:
            reading.expect(number, None)

    def records(self, numbers: Iterable[int]) -> Iterator[Prediction]:
        """The records of clips that have one, read from the disk."""
        places = (self._places[number] for number in numbers)
        return RunFolder(self.job.folder).predictions_at(places)

    @property
    def predictions(self) -> dict[str, Prediction]:
        """All of these, by the clips' names."""
        known = (number for number, place in enumerate(self._places) if place != _NOWHERE)
        return {each.name: each for each in self.records(known)}

    def request(self, number: int) -> ClipRequest:
        """What the baseline is asked about a clip."""
        clip = self._asked[number]
        return make_request(self.job, clip, [each.get(clip.name) for each in self._clues])

    @property
    def to_describe(self) -> Sequence[ClipRequest]:
        left = [n for n, status in enumerate(self.statuses) if status not in _LASTING]
        return LazySequence(left, self.request)

    def to_extract(self, reading: ExtractionState) -> Iterator[ClipDescription]:
        """The descriptions that have no labels yet."""
        left = reading.left
        return map(self._described, left, self.records(left))

    @property
    def asks_for_labels(self) -> bool:
        """Whether an extractor finds the labels; False where the baseline names them itself."""
        adapter = self.job.adapter
        return not adapter.answers_with_labels or adapter.labels_in_sentence

    def _described(self, number: int, record: Prediction) -> ClipDescription:
        adapter, settings = self.job.adapter, self.job.settings
        item = ClipDescription(
            record.name,
            record.description,
            is_labels=adapter.answers_with_labels or self.job.task.form == "labels",
            in_sentence=adapter.labels_in_sentence,
        )
        if settings.subtitle == "merge" and inputs.keeps_subtitle(settings.inputs):
            item = replace(item, subtitle=self.clips[number].subtitle)
        if settings.extractor.get("kind") == "judge":
            clip = self.clips[number]
            item = replace(item, truth=clip.labels, video=clip.video)
        return item

    @property
    def truth(self) -> dict[str, Any]:
        """True labels of the clips that have any; the others cannot be scored."""
        pairs = zip(self.names, self._truth, strict=True)
        return {name: labels for name, labels in pairs if labels is not None}

    @property
    def has_truth(self) -> bool:
        return any(labels is not None for labels in self._truth)

    @property
    def scores(self) -> StoredScores | None:
        """The entry of scores.json, if it was made from just these labels."""
        entry = self.all_scores.get(f"{self.job.extraction}/{self.metric.name}")
        return entry if entry and entry.digest == self.score_digest else None

    @property
    def score_digest(self) -> str:
        """Hash of all that the scores follow from: the metric's settings, labels and truth."""
        # Not the tables' location: the conditions name them, and their content is checked.
        settings = {key: v for key, v in self.job.settings.metric.items() if key != "wheel_root"}
        clusters = self.job.settings.dataset.get("cluster")
        metric = [settings, self.metric.conditions, clusters, _INTERVALS]
        labels = [reading.labels for reading in self.readings]
        clips = zip(self.names, self._truth, *labels, strict=True)
        return digest_of(chain([json.dumps(metric, sort_keys=True)], map(repr, clips)), size=12)

    @property
    def results(self) -> str:
        """Hash of what the exchange files hold: each clip's status and labels, in order."""
        first = self.readings[0]
        clips = zip(self.names.items(), self.statuses, first.labels, strict=True)
        kept = (
            f"{name} {status} {None if labels is None else first.key(number)}"
            for (name, number), status, labels in clips
        )
        return digest_of(kept, size=12)

    @property
    def counts(self) -> Counter[Status]:
        return Counter(status for status in self.statuses if status is not None)

    @property
    def failed(self) -> int:
        """How many clips failed."""
        return sum(number for status, number in self.counts.items() if status not in ANSWERED)

    @property
    def all_failed(self) -> bool:
        """Whether no clip was answered; then figures say nothing of the model."""
        return 0 < self.failed == len(self.clips)

    @property
    def is_done(self) -> bool:
        return (
            not self.to_describe
            and not self.touched
            and not any(reading.left for reading in self.readings)
            and (not self.has_truth or self.scores is not None)
            and self.exported == self.results
        )

    @property
    def is_fine(self) -> bool:
        """Done, and no clip failed; that one lacks what the model uses is no failure of the run."""
        return self.is_done and self.failed == self.counts[Status.MISSING_MODALITY]


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
    clues = [
        {} if path.resolve() in awaited else _descriptions(path) for path in job.adapter.sources()
    ]
    inputs.check(job.settings.inputs, job.adapter.modalities, job.settings.baseline["name"])
    clips = with_parts(job.settings, clips, job.adapter.modalities)
    state = JobState(job, clips, extractors, clues)
    if state.metric.reads_replies and state.has_truth:
        # A truth that the task cannot score is reported before anything runs.
        state.metric.score({}, state.truth, missing="zero")
    if job.at is not None or not folder.is_stale(job.identity):
        _take_records(state, folder)
    if job.task.asks:
        for _ in state.to_describe:  # a task that cannot be asked, too
            pass
    _take_labels(state, folder)
    state.all_scores = folder.read_scores()
    info, settings = folder.find_info(), job.settings
    submission = None if state.has_truth else settings.dataset.get("submission")
    if info is not None and has_exchange_files(folder, settings.baseline["name"], submission):
        state.exported = info.exported
    return state


def _take_records(state: JobState, folder: RunFolder) -> None:
    """Take the records of clips that are unchanged and are not to be done again."""
    redone = redo_of(state.job.settings.redo, list(state.names))
    for place, record in folder.placed_predictions():
        if record.name not in state.names:
            continue
        state.forget(record.name)  # the last record of a clip holds
        if redone(record):
            continue
        current = current_fingerprint(record.fingerprint, state.request(state.names[record.name]))
        if current is None:
            continue
        if current != record.fingerprint:
            state.touched[record.name] = replace(record, fingerprint=current)
        state.keep(record, place)


def _take_labels(state: JobState, folder: RunFolder) -> None:
    """Take the labels that belong to the descriptions as they are."""
    for record in folder.label_records():
        number = state.names.get(record.name, _NOWHERE)
        for reading in state.readings:
            if number != _NOWHERE and reading.key(number) == record.key:
                reading.labels[number] = shared(record.labels) if record.error is None else None


def _descriptions(path: Path) -> dict[str, str]:
    """What a run says of the clips that it has answered."""
    folder = RunFolder(path)
    if folder.find_info() is None:
        raise PrerequisiteError(f"there is no run folder {path} to take clues from; run it first")
    found = folder.read_predictions().values()
    return {each.name: each.description for each in found if not each.failed}


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
