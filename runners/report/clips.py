"""Data of the gallery, in two kinds of parts.

The index is small and holds what filters and the list need: names, subtitles, truth, labels, each
answer's status and score, and what every label counts as under each mapping of the metric. Shards
hold the words of the models for some hundred clips each; the page unpacks one when a clip of it is
looked at, and all of them, in idle time, for the search.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ovmer.baselines.errors import Status
from ovmer.runners.data import Clip
from ovmer.runners.folder.records import LabelRecord, Prediction
from ovmer.runners.report.boards import Leaderboard
from ovmer.runners.report.entries import LeaderboardEntry
from ovmer.runners.scoring.parsing import PARSERS
from ovmer.runners.scoring.vocabulary import MAPPINGS, WHEELS, Vocabulary
from ovmer.runners.scoring.words import WordMetric

_SHARD_CHARACTERS = 1_500_000
_SHARD_CLIPS = 500
SEPARATOR = "\0"
_STATUSES = list(Status)
_NOT_DONE = -1
_NO_SCORE = -1
_AS_WRITTEN = "as written"


Media = Callable[[Path], str]
"""The address of a video or sound file, as the page finds it."""


def index(board: Leaderboard, starts: Sequence[int], media: Media) -> dict[str, Any]:
    """The index of a board's gallery; `starts` are those of its shards."""
    words = _Words()
    parse = PARSERS[getattr(board.metric, "parser", "strict")]
    truth = [words.ids(parse(list(clip.labels))) for clip in board.clips]
    rows = [_columns(row, words) for row in board.rows]
    return {
        "names": [clip.name for clip in board.clips],
        "subtitles": [clip.subtitle or "" for clip in board.clips],
        "media": [_media(clip, media) for clip in board.clips],
        "truth": truth,
        "statuses": [str(status) for status in _STATUSES],
        "rows": rows,
        "disagreement": _disagreement([row for row in rows if row["contends"]], words.words, board),
        "starts": list(starts),
        **_meanings(words.words, board),
    }


class _Words:
    """Numbers the distinct labels, lower-case and stripped as all metrics read them."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    @property
    def words(self) -> list[str]:
        return list(self._numbers)

    def ids(self, labels: list[str]) -> list[int]:
        clean = dict.fromkeys(label.lower().strip() for label in labels)
        return [self._numbers.setdefault(label, len(self._numbers)) for label in clean]


def _columns(row: LeaderboardEntry, words: _Words) -> dict[str, Any]:
    """One row's answers, clip by clip."""
    run, labels = row.run, row.run.readings[0]
    statuses, found = [], []
    for clip in run.clips:
        done = run.predictions.get(clip.name)
        statuses.append(_NOT_DONE if done is None else _STATUSES.index(done.status))
        ours = None if done is None or done.failed else labels.get(clip.name)
        found.append([] if ours is None else words.ids(list(ours.labels)))
    percent = np.where(np.isnan(row.per_clip), _NO_SCORE, np.rint(100 * row.per_clip))
    return {
        "status": statuses,
        "labels": found,
        "score": percent.astype(int).tolist(),
        "contends": not (run.is_bound or run.is_dry),
    }


def _meanings(labels: list[str], board: Leaderboard) -> dict[str, Any]:
    """Group of each label under each mapping, as a number; -1 if it is dropped.

    A metric without a vocabulary takes labels as written.
    """
    if not isinstance(board.metric, WordMetric):
        return {
            "labels": labels,
            "mappings": [_AS_WRITTEN],
            "groups": [labels],
            "codes": [[number] for number in range(len(labels))],
        }
    vocabulary = board.metric.vocabulary
    codes = vocabulary.codes[[vocabulary.row(label) for label in labels]].reshape(-1, len(MAPPINGS))
    groups = []
    for column, names in zip(codes.T, vocabulary.groups, strict=True):
        # Only the groups that occur: a vocabulary has thousands of word forms.
        used, numbers = np.unique(column, return_inverse=True)
        dropped = int(used[0] < 0) if len(used) else 0
        column[:] = numbers - dropped
        groups.append([names[code] for code in used[dropped:]])
    return {
        "labels": labels,
        "mappings": list(MAPPINGS),
        "groups": groups,
        "codes": codes.tolist(),
    }


def _disagreement(
    rows: Sequence[Mapping[str, Any]], labels: list[str], board: Leaderboard
) -> list[int | None]:
    """Disagreement on each clip, in percent: baselines without an emotion that another one names.

    Averaged over the emotions that are named at all, as groups of the first wheel at level 1 where
    the metric has wheels; 0 where all agree, None where none names any and where fewer than two
    have described the clip.
    """
    group = _first_wheel(labels, board)
    found = list[int | None]()
    for clip in range(len(board.clips)):
        done = [row["labels"][clip] for row in rows if row["status"][clip] != _NOT_DONE]
        named = [{group[label] for label in each} - {-1} for each in done]
        emotions = set[int]().union(*named)
        agreeing, all_named = sum(map(len, named)), len(emotions) * len(named)
        is_known = all_named and len(done) > 1
        found.append(round(100 * (1 - agreeing / all_named)) if is_known else None)
    return found


def _first_wheel(labels: list[str], board: Leaderboard) -> list[int]:
    if not isinstance(board.metric, WordMetric):
        return list(range(len(labels)))
    vocabulary: Vocabulary = board.metric.vocabulary
    column = MAPPINGS.index(f"M3-W{WHEELS[0]}-L1")
    return [int(vocabulary.codes[vocabulary.row(label), column]) for label in labels]


def _media(clip: Clip, media: Media) -> list[str | None]:
    """Addresses of video and sound; None for what the clip lacks."""
    sound = None if clip.audio == clip.video else clip.audio
    return [None if path is None else media(path) for path in (clip.video, sound)]


def shard_starts(board: Leaderboard) -> list[int]:
    """The number of the first clip of each shard: shards hold about equally many characters."""
    starts, size = [0], 0
    for number, clip in enumerate(board.clips):
        length = sum(_length(row.run.predictions.get(clip.name)) for row in board.rows)
        clips = number - starts[-1]
        if clips and (size + length > _SHARD_CHARACTERS or clips == _SHARD_CLIPS):
            starts.append(number)
            size = 0
        size += length
    return starts


def _length(done: Prediction | None) -> int:
    return 0 if done is None else len(done.description) + len(done.thinking)


def shard(board: Leaderboard, start: int, stop: int | None) -> dict[str, Any]:
    """Answers for the clips from `start` to before `stop`.

    Row by row: the texts of all these clips, joined by SEPARATOR (the page unpacks and searches one
    long string much faster than many short ones), and what else there is to say of some.
    """
    texts: list[str] = []
    more: list[dict[int, Mapping[str, Any]]] = []
    for row in board.rows:
        predictions, labels = row.run.predictions, row.run.readings[0]
        names = [clip.name for clip in board.clips[start:stop]]
        said = [predictions.get(name) for name in names]
        words = ("" if done is None else done.description for done in said)
        texts.append(SEPARATOR.join(text.replace(SEPARATOR, " ") for text in words))
        more.append(
            {
                number: extra
                for number, done in enumerate(said)
                if done is not None and (extra := _more(done, labels.get(done.name)))
            }
        )
    return {"texts": texts, "more": more}


def _more(done: Prediction, labelled: LabelRecord | None) -> Mapping[str, Any]:
    """Further fields of an answer, without empty ones."""
    found: dict[str, Any] = {
        "error": done.error,
        "thinking": done.thinking,
        "notes": [*done.notes, *(labelled.notes if labelled else ())],
        "seconds": round(done.seconds, 2),
        "tokens": done.new_tokens,
    }
    if labelled is not None and not done.failed:
        found["trail"] = dict(labelled.trail)
        found["raw"] = labelled.raw if labelled.raw != done.description else ""
    return {key: value for key, value in found.items() if value}
