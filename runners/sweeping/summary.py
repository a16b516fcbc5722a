"""The table at the end of a sweep: one row a job, figures in percent, and what they rest on."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from ovmer.baselines.errors import Status
from ovmer.runners.ablation import AblationRun, changes
from ovmer.runners.counts import clip_count
from ovmer.runners.describing.inputs import ALL
from ovmer.runners.folder.run_json import is_dry
from ovmer.runners.folder.scores_json import StoredScores
from ovmer.runners.job import preset_of
from ovmer.runners.scoring.base import headlines
from ovmer.runners.scoring.result import percent_interval
from ovmer.runners.sweeping.state import JobState
from ovmer.runners.trained_on import COLUMN, MEANING, NO_MODEL, seen_by

_NO_EXTRACTOR = "none (labels)"
"""Shown instead of an extractor for a baseline that names the labels itself."""
_SHOWN = 3  # rows that a note names
_LABELS = 8  # labels that are counted by name

_Scored = tuple[JobState, StoredScores | None]
"""A job and its figures, if it has some that hold."""


def summary(states: Sequence[JobState]) -> str:
    """The table over jobs, with the notes that a reader of its figures needs."""
    rows = [(state, None if state.all_failed else state.scores) for state in states]
    figures = _figure_names([scores for _, scores in rows if scores is not None])
    protocols = [_protocol(state) for state in states]
    varying = [key for key in protocols[0] if len({each[key] for each in protocols}) > 1]
    header = [
        "baseline",
        "data set",
        COLUMN,
        *varying,
        "clips",
        "ok",
        "empty",
        "failed",
        *figures,
    ]
    body = [
        [
            _name(state),
            state.job.folder.parent.name,
            seen_by(state.job.settings).answer,
            *(protocol[key] for key in varying),
            *_counts(state),
            *(_percent(scores, name) for name in figures),
        ]
        for (state, scores), protocol in zip(rows, protocols, strict=True)
    ]
    align = ["left"] * (3 + len(varying)) + ["right"] * (4 + len(figures))
    table = tabulate(body, header, colalign=align, disable_numparse=True)
    common = {key: value for key, value in protocols[0].items() if key not in varying}
    return "\n".join([table, *_notes(rows, common), *_input_lines(states)])


def _input_lines(states: Sequence[JobState]) -> list[str]:
    """The ablation of inputs, if a sweep has runs with fewer."""
    if all(state.job.settings.inputs == ALL for state in states):
        return []
    found = changes([_row(state) for state in states])
    if not found:
        return []
    figure = next((each.figure for each in found if each.figure), "")
    header = [
        "baseline",
        "inputs",
        f"loss in {figure}" if figure else "loss",
        "interval",
        "changed",
    ]
    body = [
        [
            each.whole,
            each.inputs,
            "-" if each.difference is None else f"{100 * each.difference:+.2f}",
            "-" if each.interval is None else percent_interval(*each.interval),
            f"{len(each.changed)} of {each.both}",
        ]
        for each in found
    ]
    align = ["left", "left", "right", "right", "right"]
    table = tabulate(body, header, colalign=align, disable_numparse=True)
    return ["", "what each input brings, paired by clip:", table]


def _row(state: JobState) -> AblationRun:
    said = {n: each.description for n, each in state.predictions.items() if not each.failed}
    scores = None
    if state.scores is not None and not is_dry(state.job.identity) and not state.all_failed:
        scores = state.metric.score(state.readings[0].found, state.truth, missing="zero")
    return AblationRun(state.job.label, state.job.settings, said, scores)


def _protocol(state: JobState) -> dict[str, str]:
    """Settings that a row's figures depend on, beside its model; columns where rows differ."""
    settings = state.job.settings
    return {
        "generation": preset_of(settings),
        "subtitle": settings.subtitle,
        "extractor": state.job.extraction if state.asks_for_labels else _NO_EXTRACTOR,
        "metric": settings.metric["name"],
    }


def _counts(state: JobState) -> list[str]:
    counts = state.counts
    numbers = (len(state.clips), counts[Status.OK], counts[Status.EMPTY], state.failed)
    return [str(number) for number in numbers]


def _name(state: JobState) -> str:
    return state.job.label + ("*" if is_dry(state.job.identity) else "")


def _figure_names(scored: Sequence[StoredScores]) -> list[str]:
    """The primary figures first, then those that belong beside them; only such as some row has."""
    known = list(dict.fromkeys(name for scores in scored for name in scores.figures))
    wanted = [name for scores in scored for name in headlines(scores.primary, known)]
    first = [scores.primary for scores in scored if scores.primary in known]
    return list(dict.fromkeys([*first, *wanted]))


def _percent(scores: StoredScores | None, name: str) -> str:
    """`45.12`, or `45.12 ± 0.31` where extraction was repeated."""
    value = None if scores is None else scores.figures.get(name)
    if scores is None or value is None:
        return "-"
    spread = scores.spread.get(name)
    return f"{100 * value:.2f}" + ("" if spread is None else f" ± {100 * spread:.2f}")


def _notes(rows: Sequence[_Scored], protocol: Mapping[str, str]) -> list[str]:
    said = [f"{key}={value}" for key, value in protocol.items() if value != "-"]
    notes = [", ".join(["in percent", *said])]
    asked = [
        scores.extractor
        for state, scores in rows
        if scores is not None and "model" in scores.extractor and state.asks_for_labels
    ]
    notes += dict.fromkeys(map(_model, asked))
    seeds = {len(state.readings) for state, _ in rows} - {1}
    if seeds:
        repeats = "/".join(map(str, sorted(seeds)))
        notes.append(f"±: standard deviation over {repeats} seeds of the extractor")
    if any(is_dry(state.job.identity) for state, _ in rows):
        notes.append("* dry run on a random miniature of the model: its figures mean nothing")
    if any(seen_by(state.job.settings).status != NO_MODEL for state, _ in rows):
        notes.append(MEANING)
    notes += _notes_of_scores(rows)
    if any(state.failed for state, _ in rows):
        notes.append("a clip that failed counts as one without labels")
    notes += [
        f"labels of {_place(state)}: {_label_counts(state)}"
        for state, scores in rows
        if scores is None and not state.has_truth and state.readings[0].found
    ]
    without: dict[str, list[str]] = {}
    for state, scores in rows:
        if scores is None:
            why = "not finished" if state.has_truth else "without true labels to score against"
            why = "every clip failed" if state.all_failed else why
            without.setdefault(why, []).append(_place(state))
    return notes + [f"{why}: {_some(runs)}" for why, runs in without.items()]


def _label_counts(state: JobState) -> str:
    """How often each label was given, the most frequent first: `happy 4, sad 1; 2 clips none`."""
    found = state.readings[0].found
    counts = Counter(label for labels in found.values() for label in dict.fromkeys(labels))
    words = ", ".join(f"{label} {number}" for label, number in counts.most_common(_LABELS))
    if len(counts) > _LABELS:
        words += f" and {len(counts) - _LABELS} others"
    empty = sum(not labels for labels in found.values())
    return "; ".join(filter(None, [words, f"{clip_count(empty)} without any" if empty else ""]))


def _model(extractor: Mapping[str, Any]) -> str:
    """The language model that made the labels, with its prompts."""
    name, revision = extractor["model"], extractor["revision"]
    if name == "miniature":
        return f"{extractor['name']}: a random miniature made the labels, so they mean nothing"
    drawn = "greedy"
    if extractor["temperature"]:
        drawn = f"temperature {extractor['temperature']:g}, top_p {extractor['top_p']:g}"
    return (
        f"{extractor['name']}: {name}{f'@{revision[:12]}' if revision else ''} on "
        f"{extractor['engine']}, {drawn}, repetition penalty {extractor['repetition_penalty']:g}"
    )


def _notes_of_scores(rows: Sequence[_Scored]) -> list[str]:
    """The notes of the metric, each once: what holds for all rows, then the rest and for which."""
    runs: dict[str, list[str]] = {}
    for state, scores in rows:
        for note in scores.notes if scores is not None else ():
            runs.setdefault(note, []).append(_place(state))
    scored = sum(scores is not None for _, scores in rows)
    common = [note for note, found in runs.items() if len(found) == scored]
    own = [f"{note}: {_some(found)}" for note, found in runs.items() if len(found) < scored]
    return common + own


def _place(state: JobState) -> str:
    return f"{state.job.label} on {state.job.folder.parent.name}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
