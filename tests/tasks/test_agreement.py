"""Krippendorff's alpha over readings of the same clips."""

from collections.abc import Mapping

import pytest

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.scoring import Scores, make_metric
from ovmer.runners.tasks.agreement import agreement
from ovmer.runners.tasks.metric import ProtocolMetric

CLASSES = {"p": {"parser": "exactly_one", "labels": ["happy", "sad"]}}
STEPS = {"p": {"family": "steps"}}


def scored(
    protocols: Mapping[str, Mapping[str, object]], *runs: list[str]
) -> tuple[ProtocolMetric, dict[str, Scores]]:
    metric = make_metric({"kind": "protocols", "primary": "p/unknown", "protocols": protocols})
    assert isinstance(metric, ProtocolMetric)
    truth = {f"{i}": "happy" for i in range(len(runs[0]))}
    each = [dict(zip(truth, run, strict=True)) for run in runs]
    return metric, {f"r{i}": metric.score(run, truth) for i, run in enumerate(each)}


def test_classes_are_nominal() -> None:
    # Krippendorff (2011), two observers, binary data, no missing value: alpha = 0.095.
    observers = ("0100000010", "1110010000")
    runs = [["happy" if mark == "1" else "sad" for mark in each] for each in observers]
    (found,) = agreement(*scored(CLASSES, *runs))
    assert found.alpha == pytest.approx(0.095, abs=5e-4)
    assert (found.level, found.clips) == ("nominal", 10)


def test_a_reply_in_which_nothing_is_read_is_missing() -> None:
    (found,) = agreement(*scored(CLASSES, ["happy", "sad", "?"], ["happy", "sad", "sad"]))
    assert (found.alpha, found.clips) == (1, 2)


def test_a_word_that_is_no_label_is_missing() -> None:
    by_rule = {"p": {"parser": "exact", "labels": ["happy", "sad"]}}
    (found,) = agreement(*scored(by_rule, ["happy", "sad", "Sad."], ["happy", "sad", "bored"]))
    assert (found.alpha, found.clips) == (1, 2)


def test_grades_are_of_an_interval() -> None:
    ratings = ["<score>Step 1: 1/1</score>", "<score>Step 1: 0/1</score>", "prose"]
    (found,) = agreement(*scored(STEPS, ratings, ratings))
    assert (found.alpha, found.level, found.clips) == (1, "interval", 2)


def test_one_run_agrees_with_nobody() -> None:
    with pytest.raises(PrerequisiteError, match="at least two runs"):
        agreement(*scored(CLASSES, ["happy"]))
