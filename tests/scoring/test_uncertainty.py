"""Intervals and comparisons: right on average, the same for everyone, and honest about nothing."""

import math
import warnings
from typing import Any

import numpy as np
import pytest

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.scoring import Contributions, Scores, make_metric, score
from ovmer.runners.scoring.significance import compare, holm
from ovmer.runners.scoring.vocabulary import SHIPPED


def accuracy(hits: np.ndarray[Any, Any], metric: str = "accuracy") -> Scores:
    """A run with one figure, the mean of its column."""
    clips = tuple(f"clip{i:04d}" for i in range(len(hits)))
    columns = np.stack([hits, np.ones(len(hits))], axis=1).astype(np.float64)
    return Scores(
        metric=metric,
        primary="accuracy",
        conditions={},
        comparable=True,
        contributions=Contributions(clips, ("hit", "counted"), columns),
        aggregate=lambda sums: {"accuracy": sums[..., 0] / sums[..., 1]},
        counted=np.ones(len(hits), dtype=bool),
        notes=[],
    )


def test_the_interval_is_that_of_the_binomial() -> None:
    """For a share the bootstrap has a known answer: p +- 1.96 sqrt(p (1 - p) / n)."""
    low, high = accuracy(np.arange(1000) % 10 < 3).with_intervals(20_000).intervals["accuracy"]
    half = 1.96 * math.sqrt(0.3 * 0.7 / 1000)
    assert low == pytest.approx(0.3 - half, abs=0.001)
    assert high == pytest.approx(0.3 + half, abs=0.001)


def test_replicates_are_seeded() -> None:
    run = accuracy(np.arange(100) % 3 == 0)
    first, again = (run.with_intervals(50, seed=1).intervals for _ in range(2))
    assert first == again
    assert run.with_intervals(50, seed=2).intervals != first


def test_resampled_sums_are_exact() -> None:
    """Whole multiples of a power of two: any order of the sum gives the same bits."""
    values = np.random.default_rng(0).random((300, 2))
    clips = tuple(map(str, range(300)))
    straight = Contributions(clips, ("a", "b"), values).resampled(20, seed=3)
    counts = [
        np.bincount(row, minlength=300)
        for row in np.random.Generator(np.random.PCG64(3)).integers(0, 300, size=(20, 300))
    ]
    scale = 2.0 ** (52 - (300).bit_length())
    whole = [[round(value * scale) for value in row] for row in values.tolist()]
    for count, sums in zip(counts, straight, strict=True):
        for column in range(2):
            total = sum(int(c) * row[column] for c, row in zip(count, whole, strict=True))
            assert sums[column] == total / scale


def test_every_figure_has_an_interval_around_it(cases: dict[str, Any]) -> None:
    case = cases["openset"]["realistic"]
    scores = score(case["name2pred"], case["name2gt"], wheel_root=SHIPPED, bootstrap=200)
    assert scores.intervals.keys() == scores.figures.keys()
    assert all(low < scores.figures[name] < high for name, (low, high) in scores.intervals.items())


def test_undefined_figures_stay_undefined_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = score({"a": "[sad]"}, {"a": "happy"}, wheel_root=SHIPPED, no_overlap="undefined")
    assert math.isnan(scores.figures["M-avg"])
    assert scores.figures["M1/precision"] == 0
    assert scores.as_json()["figures"]["M-avg"] is None
    assert scores.as_json()["intervals"]["M-avg"] == [None, None]


def test_a_run_does_not_differ_from_itself() -> None:
    run = accuracy(np.arange(200) % 2 == 0)
    (found,) = compare({"one": run, "other": run}, replicates=100)
    assert (found.difference, found.interval, found.p) == (0.0, (0.0, 0.0), 1.0)


def test_p_and_interval_agree() -> None:
    """The interval of 95 % leaves out zero just where p is below 0.05."""
    random = np.random.default_rng(7)
    for gap in (0.0, 0.02, 0.05, 0.1, 0.3):
        runs = {
            "a": accuracy(random.random(300) < 0.5 + gap),
            "b": accuracy(random.random(300) < 0.5),
        }
        (found,) = compare(runs, replicates=2000)
        low, high = found.interval
        assert (found.p < 0.05) == (low > 0 or high < 0)


def test_false_alarms_are_as_rare_as_promised() -> None:
    """Two runs of equal skill, 300 times: p < 0.05 in about 15 of them (binomial: 5 to 26)."""
    random = np.random.default_rng(11)
    alarms = 0
    for _ in range(300):
        runs = {name: accuracy(random.random(250) < 0.6) for name in "ab"}
        alarms += compare(runs, replicates=400)[0].p < 0.05
    assert 5 <= alarms <= 26


def test_pairing_sees_what_two_intervals_do_not() -> None:
    """A run that is right wherever the other is, and six times more."""
    hits = np.arange(400) % 2 == 0
    better = hits.copy()
    better[1:13:2] = True
    runs = {"better": accuracy(better), "base": accuracy(hits)}
    first, second = (run.with_intervals().intervals["accuracy"] for run in runs.values())
    assert first[0] < second[1]  # the intervals overlap
    (found,) = compare(runs)
    assert found.interval[0] > 0
    assert found.p < 0.05


def test_holm() -> None:
    """The example of Holm (1979), by hand: 0.01 * 4, 0.02 * 3, then never smaller than before."""
    assert holm([0.02, 0.01, 0.03, 0.03]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]


def test_pairs_and_against() -> None:
    runs = {name: accuracy(np.arange(50) % k == 0) for k, name in enumerate("abcd", start=2)}
    assert [(each.first, each.second) for each in compare(runs, replicates=50)] == [
        ("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d"),
    ]  # fmt: skip
    found = compare(runs, against="b", replicates=50)
    assert [each.first for each in found] == ["a", "c", "d"]
    assert all(each.p_corrected >= each.p for each in found)


def test_what_may_not_stand_side_by_side(cases: dict[str, Any], official: str) -> None:
    case = cases["openset"]["realistic"]

    def run(**settings: Any) -> Scores:
        metric = make_metric({"name": "wheel", "wheel_root": official, **settings})
        return metric.score(case["name2pred"], case["name2gt"])

    for other, words in (
        (run(edition="mer2026"), "differ in conditions.*mer2025.*mer2026"),
        (run(no_overlap="undefined"), "differ in conditions"),
        (run(wheel_root=SHIPPED), "differ in conditions.*shipped"),
        (accuracy(np.ones(3)), "differ in metric"),
    ):
        with pytest.raises(PrerequisiteError, match=words):
            compare({"a": run(), "b": other})
    with pytest.raises(PrerequisiteError, match="differ in clips"):
        compare({"a": accuracy(np.ones(3)), "b": accuracy(np.ones(4))})
    with pytest.raises(PrerequisiteError, match="at least two"):
        compare({"a": run()})
    with pytest.raises(PrerequisiteError, match="did you mean M-avg"):
        compare({"a": run(), "b": run()}, figure="M-av")
    with pytest.raises(PrerequisiteError, match="none of the runs"):
        compare({"a": run(), "b": run()}, against="c")
