"""Intervals: right on average, the same for everyone, and honest about nothing."""

import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.scoring import Contributions, score
from ovmer.runners.scoring.intervals import wilson
from ovmer.runners.scoring.result import mean_scores
from ovmer.runners.scoring.significance import compare
from ovmer.runners.scoring.variance import rerun_half_width, variance_parts
from ovmer.runners.scoring.vocabulary import SHIPPED
from tests.scoring.runs import accuracy, graded, speakers


def test_the_interval_is_that_of_the_binomial() -> None:
    """For a share the bootstrap has a known answer: p +- 1.96 sqrt(p (1 - p) / n)."""
    low, high = accuracy(np.arange(1000) % 10 < 3).with_intervals(20_000).intervals["accuracy"]
    half = 1.96 * math.sqrt(0.3 * 0.7 / 1000)
    assert low == pytest.approx(0.3 - half, abs=0.001)
    assert high == pytest.approx(0.3 + half, abs=0.001)


def test_replicates_are_seeded() -> None:
    run = accuracy(np.arange(100) % 3 == 0)
    first, again = (run.with_intervals(200, seed=1).intervals for _ in range(2))
    assert first == again
    assert run.with_intervals(200, seed=2).intervals != first


@pytest.mark.parametrize(("largest", "bits"), [(1, 0), (9, 4)])
def test_resampled_sums_are_exact(largest: int, bits: int) -> None:
    """Whole multiples of a power of two: any order of the sum gives the same bits."""
    values = largest * np.random.default_rng(0).random((300, 2))
    clips = tuple(map(str, range(300)))
    straight = Contributions(clips, ("a", "b"), values).resampled(20, seed=3)
    counts = [
        np.bincount(row, minlength=300)
        for row in np.random.Generator(np.random.PCG64(3)).integers(0, 300, size=(20, 300))
    ]
    scale = 2.0 ** (52 - (300).bit_length() - bits)
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


def test_few_resamples_make_no_interval() -> None:
    with pytest.raises(PrerequisiteError, match="bootstrap is 1; give at least 200"):
        accuracy(np.ones(3)).with_intervals(1)


def test_undefined_resamples_are_left_out_with_a_note() -> None:
    """A clip in 20 counts: some resamples hold none, and the interval is of the others."""
    counts = (np.arange(60) % 20 == 0).astype(float)
    run = accuracy(counts * (np.arange(60) % 40 == 0))
    run.contributions.values[:, 1] = counts

    def share(sums: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        with np.errstate(invalid="ignore"):
            return {"accuracy": sums[..., 0] / sums[..., 1]}

    found = replace(run, aggregate=share).with_intervals(1000)
    low, high = found.intervals["accuracy"]
    assert 0 <= low < 2 / 3 < high <= 1
    assert any(
        "undefined in up to" in note and "of 1,000 resamples" in note for note in found.notes
    )


def test_wilson_is_that_of_scipy() -> None:
    from scipy.stats import binomtest

    for hits, of in ((0, 30), (30, 30), (4, 30), (290, 300), (5, 10)):
        expected = binomtest(hits, of).proportion_ci(0.95, method="wilson")
        assert wilson(hits, of) == pytest.approx((expected.low, expected.high))
    assert all(map(math.isnan, wilson(0, 0)))


def test_near_the_ends_the_poisson_is_used() -> None:
    """Brown, Cai and DasGupta (2001), 4.1.1: half of the 5 % quantile of chi squared over n."""
    from scipy.stats import chi2

    assert wilson(3, 100)[0] == pytest.approx(chi2.ppf(0.05, 6) / 2 / 100)
    assert wilson(97, 100)[1] == pytest.approx(1 - chi2.ppf(0.05, 6) / 2 / 100)
    assert wilson(97, 100)[1] > 0.99


def test_all_right_is_not_certain() -> None:
    found = accuracy(np.ones(30)).with_intervals(200)
    low, high = found.intervals["accuracy"]
    assert (round(low, 4), high) == (0.8865, 1.0)
    assert any(note.startswith("accuracy is 100 %") for note in found.notes)
    assert any("only 30 clips count" in note for note in found.notes)


def test_no_clip_that_counts_has_no_figure() -> None:
    scores = score({"a": "sad"}, {"a": "qwerty"}, wheel_root=SHIPPED)
    assert "undefined" in str(scores)
    assert scores.as_json()["figures"]["M-avg"] is None
    assert scores.as_json()["intervals"]["M-avg"] == [None, None]


def test_readings_are_averaged_and_clips_drawn_with_all_of_them() -> None:
    runs = list(graded(3, step=0.0).values())
    found = mean_scores(runs)
    values = [run.figures["accuracy"] for run in runs]
    assert found.figures["accuracy"] == pytest.approx(np.mean(values))
    assert found.spread["accuracy"] == pytest.approx(np.std(values, ddof=1))
    assert [each["accuracy"] for each in found.repeats] == values
    low, high = found.with_intervals().intervals["accuracy"]
    mean = np.mean([run.contributions.values[:, 0] for run in runs], axis=0)
    half = 1.96 * mean.std() / math.sqrt(400)
    assert (high - low) / 2 == pytest.approx(half, rel=0.05)
    assert mean_scores(runs[:1]) is runs[0]


def test_a_rerun_is_farther_off_than_two_deviations() -> None:
    """t(0.975, 2) = 4.3027 of three readings."""
    assert rerun_half_width(0.1, 3) == pytest.approx(4.3027 * 0.1 * math.sqrt(4 / 3), rel=1e-4)
    assert math.isnan(rerun_half_width(0.1, 1))


def test_variance_falls_into_its_parts() -> None:
    random = np.random.default_rng(5)
    seeds = random.normal(0, 0.03, size=(400, 1))
    figures = 0.5 + seeds + random.normal(0, 0.01, size=(400, 3))
    parts = variance_parts(figures.tolist(), 0.02)
    assert parts.label == pytest.approx(0.01, rel=0.1)
    assert parts.generation == pytest.approx(0.03, rel=0.1)
    assert variance_parts([[0.5, 0.6]], 0.02).generation is None
    assert variance_parts([[0.5], [0.6]], 0.02).label is None


def test_clusters_widen_the_interval_and_say_how_much() -> None:
    run = speakers(50, 20)
    found = run.with_intervals()
    low, high = found.intervals["accuracy"]
    hits = run.contributions.values[:, 0].reshape(50, 20).mean(axis=1)
    assert (high - low) / 2 == pytest.approx(1.96 * hits.std() / math.sqrt(50), rel=0.05)
    effect = hits.var() / 50 / (hits.mean() * (1 - hits.mean()) / 1000)
    (note,) = (each for each in found.notes if "speaker" in each)
    assert "over 50 of them" in note
    assert float(note.rpartition(" ")[2]) == pytest.approx(effect, rel=0.15)


def test_few_clusters_have_an_interval_by_t() -> None:
    run = speakers(10, 30)
    low, high = run.with_intervals().intervals["accuracy"]
    hits = run.contributions.values[:, 0].reshape(10, 30).mean(axis=1)
    assert (high - low) / 2 == pytest.approx(2.2622 * hits.std(ddof=1) / math.sqrt(10), rel=0.03)


def test_one_cluster_has_none_and_says_nothing_of_wilson() -> None:
    run = accuracy(np.ones(60, dtype=bool))
    notes = (
        run.in_clusters(dict.fromkeys(run.contributions.clips, "a"), "speaker")
        .with_intervals()
        .notes
    )
    assert notes == ["clips of one speaker are not independent, and there is only one: no interval"]


def test_three_clusters_have_none() -> None:
    runs = {name: speakers(3, 40, seed) for seed, name in enumerate("ab")}
    found = runs["a"].with_intervals()
    assert all(map(math.isnan, found.intervals["accuracy"]))
    assert any("there are only 3: no interval" in note for note in found.notes)
    family = compare(runs)
    assert math.isnan(family.pairs[0].p)
    assert family.ranks == {}
    assert any("no test" in note for note in family.notes)
