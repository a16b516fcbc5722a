"""Runs beside each other: differences, tests and ranks, and what cannot be compared."""

import math
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.scoring import Scores, make_metric
from ovmer.runners.scoring.maxt import step_down
from ovmer.runners.scoring.result import mean_scores
from ovmer.runners.scoring.significance import compare
from ovmer.runners.scoring.swap import swap_test
from ovmer.runners.scoring.vocabulary import SHIPPED
from tests.scoring.runs import accuracy, graded, speakers


def test_a_run_does_not_differ_from_itself() -> None:
    run = accuracy(np.arange(200) % 2 == 0)
    (found,) = compare({"one": run, "other": run}, replicates=200).pairs
    assert (found.difference, found.interval) == (0.0, (0.0, 0.0))
    assert (found.p, found.p_alone, found.differing) == (1.0, 1.0, 0)


def test_false_alarms_are_as_rare_as_promised() -> None:
    """Two runs of equal skill, 300 times: p <= 0.05 in about 15 of them (binomial: 5 to 26)."""
    random = np.random.default_rng(11)
    alarms = 0
    for seed in range(300):
        one, other = (accuracy(random.random(250) < 0.6) for _ in range(2))
        found = swap_test(one.contributions, other.contributions, share_of, 400, seed)
        alarms += found.p <= 0.05
    assert 5 <= alarms <= 26


def share_of(sums: np.ndarray[Any, Any]) -> Any:
    return sums[..., 0] / sums[..., 1]


@pytest.mark.parametrize("differing", [1, 2, 4, 5, 9])
@pytest.mark.parametrize("behind", [0, 1])
def test_few_differing_clips_have_the_exact_p_of_the_sign_test(differing: int, behind: int) -> None:
    from scipy.stats import binomtest

    base = np.arange(300) % 2 == 0
    first, second = base.copy(), base.copy()
    first[:differing], second[:differing] = True, False
    first[:behind], second[:behind] = False, True
    found = swap_test(accuracy(first).contributions, accuracy(second).contributions, share_of)
    assert found.differing == differing
    assert found.p == pytest.approx(binomtest(behind, differing).pvalue)


def test_a_permutation_of_many_clips_agrees_with_the_normal() -> None:
    """For a share the null variance of the difference is the number of differing clips over n2."""
    first, second = np.arange(2000) % 2 == 0, np.arange(2000) % 2 == 0
    first[1:241:2], second[0:180:2] = True, False  # 120 won, 90 lost the other way
    found = swap_test(accuracy(first).contributions, accuracy(second).contributions, share_of)
    z = (first.sum() - second.sum() - 0.5) / math.sqrt(210)  # the difference has steps of one clip
    assert found.p == pytest.approx(2 * NormalDist().cdf(-abs(z)), abs=0.004)


def test_pairing_sees_what_two_intervals_do_not() -> None:
    """A run that is right wherever the other is, and six times more."""
    hits = np.arange(400) % 2 == 0
    better = hits.copy()
    better[1:13:2] = True
    runs = {"better": accuracy(better), "base": accuracy(hits)}
    first, second = (run.with_intervals().intervals["accuracy"] for run in runs.values())
    assert first[0] < second[1]  # the intervals overlap
    (found,) = compare(runs).pairs
    assert found.interval[0] > 0
    assert found.p == 2 / 2**6


def test_many_pairs_can_still_be_significant() -> None:
    """36 runs, 630 pairs: Holm's least p would be 0.13, that of maxT is 1 / (B + 1)."""
    family = compare(graded(36), replicates=2000)
    assert len(family.pairs) == 630
    assert min(each.p for each in family.pairs) == pytest.approx(1 / 2001)
    assert sum(each.p < 0.05 for each in family.pairs) > 150
    assert all(each.p >= each.p_alone for each in family.pairs)


def test_step_down_by_hand() -> None:
    """Three runs, four replicates: the counts of Ge, Dudoit and Speed (2003), box 2."""
    figures = np.array([0.9, 0.5, 0.5])
    drawn = figures[:, None] + np.array(
        [[0.1, -0.1, 0.0, 0.0], [0.0, 0.0, 0.1, -0.1], [0.0, 0.0, -0.1, 0.1]]
    )
    tests = step_down(figures, drawn, units=10**9)
    sd = [math.sqrt(0.01), math.sqrt(0.01), math.sqrt(0.02)]
    assert tests.error == pytest.approx(sd)
    assert tests.difference == pytest.approx([0.4, 0.4, 0.0])
    assert tests.p == pytest.approx([1 / 5, 1 / 5, 1.0])
    assert tests.p_alone == pytest.approx([1 / 5, 1 / 5, 1.0])
    assert tests.critical == pytest.approx(math.sqrt(2), abs=1e-6)


def test_the_correction_is_between_none_and_bonferroni() -> None:
    family = compare(graded(6, step=0.01), replicates=4000)
    swaps_error = 0.03  # p_alone is another test, of another 2,000 draws
    for each in family.pairs:
        assert each.p_alone <= each.p <= min(1, len(family.pairs) * each.p_alone + swaps_error)
        assert each.simultaneous[0] < each.interval[0] < each.interval[1] < each.simultaneous[1]


def test_ranks_say_what_is_open() -> None:
    runs = graded(4, clips=800, step=0.15)
    family = compare(runs)
    assert family.ranks == {"r3": (1, 1), "r2": (2, 2), "r1": (3, 3), "r0": (4, 4)}
    assert family.best["r3"] > 0.99
    twins = {"a": runs["r3"], "b": runs["r3"], "c": runs["r0"]}
    family = compare(twins)
    assert family.ranks == {"a": (1, 2), "b": (1, 2), "c": (3, 3)}
    assert family.best == {"a": 0.5, "b": 0.5, "c": 0.0}


def test_an_undefined_run_is_last_and_not_compared() -> None:
    runs = graded(3, step=0.2)
    broken = runs["r1"]
    broken.contributions.values[:, 0] = math.nan
    family = compare(runs)
    assert list(family.figures) == ["r2", "r0", "r1"]
    assert math.isnan(family.figures["r1"])
    (pair,) = family.pairs
    assert (pair.first, pair.second) == ("r2", "r0")
    assert pair.p < 0.05
    assert family.ranks == {"r2": (1, 1), "r0": (2, 2)}
    assert "r1" in family.notes[0]


def test_equivalence_needs_a_difference_that_is_known_to_be_small() -> None:
    base = np.arange(4000) % 2 == 0
    other = base.copy()
    other[:2] = ~base[:2]  # one way each
    (same,) = compare({"a": accuracy(base), "b": accuracy(other)}).pairs
    assert same.p_equivalent < 0.05
    assert same.differing == 2
    few = {"a": accuracy(base[:100]), "b": accuracy(~base[:100])}
    (open_,) = compare(few).pairs
    assert open_.p > 0.05
    assert open_.p_equivalent > 0.4


def test_what_could_be_detected() -> None:
    """2.8 standard errors: 1.96 + 0.84."""
    family = compare(graded(2, clips=900, step=0.0))
    (pair,) = family.pairs
    error = math.sqrt(pair.differing) / 900
    assert family.detectable == pytest.approx(2.8016 * error, rel=0.03)


def test_pairs_turn_round() -> None:
    family = compare(graded(3, step=0.1))
    straight, turned = family.pair("r2", "r0"), family.pair("r0", "r2")
    assert straight is not None
    assert turned is not None
    assert turned.difference == -straight.difference
    assert turned.simultaneous == tuple(-each for each in reversed(straight.simultaneous))
    assert turned.p == straight.p
    assert family.pair("r2", "r2") is None


def test_draws_are_shared_and_the_same_with_any_company() -> None:
    """A pair's bootstrap does not depend on which other runs are there."""
    runs = graded(4)
    alone = compare({name: runs[name] for name in ("r3", "r0")}).pair("r3", "r0")
    among = compare(runs).pair("r3", "r0")
    assert alone is not None
    assert among is not None
    assert alone.interval == among.interval


def test_runs_with_different_numbers_of_readings_are_compared() -> None:
    readings = list(graded(5, step=0.0).values())
    runs = {"three": mean_scores(readings[:3]), "two": mean_scores(readings[3:])}
    (pair,) = compare(runs).pairs
    difference = np.mean([r.figures["accuracy"] for r in readings[:3]]) - np.mean(
        [r.figures["accuracy"] for r in readings[3:]]
    )
    assert abs(pair.difference) == pytest.approx(abs(difference))
    assert 0 < pair.p <= 1


def test_clips_of_one_cluster_are_swapped_together() -> None:
    """Five speakers of which all favour the first run: 2 / 2**5, however many clips they have."""
    ones = {name: accuracy(np.full(100, value)) for name, value in (("a", 1.0), ("b", 0.0))}
    clusters = {name: f"s{i % 5}" for i, name in enumerate(ones["a"].contributions.clips)}
    runs = {name: each.in_clusters(clusters) for name, each in ones.items()}
    (pair,) = compare(runs).pairs
    assert pair.p == 2 / 2**5
    assert pair.differing == 100


def on_clips(run: Scores, clips: int) -> Scores:
    return run.restricted(run.contributions.clips[:clips])


def test_different_clips_are_compared_on_those_that_all_have() -> None:
    runs = graded(3, step=0.1)
    runs["r1"] = on_clips(runs["r1"], 370)
    wanted = r"r1 \(30\); missing=skip compares on the other 370"
    with pytest.raises(PrerequisiteError, match=wanted):
        compare(runs)
    family = compare(runs, missing="skip")
    assert family.clips == 370
    assert family.notes[0].startswith("compared on 370 clips")
    cut = {name: on_clips(run, 370) for name, run in graded(3, step=0.1).items()}
    assert family.pairs == compare(cut).pairs


def test_runs_that_are_not_comparable(cases: dict[str, Any], official: str) -> None:
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
    with pytest.raises(PrerequisiteError, match="clips that not all runs have: 1 of 4"):
        compare({"a": accuracy(np.ones(3)), "b": accuracy(np.ones(4))})
    with pytest.raises(PrerequisiteError, match="at least two"):
        compare({"a": run()})
    with pytest.raises(PrerequisiteError, match="did you mean M-avg"):
        compare({"a": run(), "b": run()}, figure="M-av")


def test_a_run_that_knows_no_clusters_gets_those_of_the_others() -> None:
    known = speakers(20, 10)
    plain = speakers(20, 10, seed=4)
    plain = replace(plain, contributions=replace(plain.contributions, clusters=()), cluster="")
    family = compare({"known": known, "plain": plain})
    assert family.units == 20
    names = known.contributions.clips
    other = known.in_clusters({name: name[-1] for name in names}, "speaker")
    with pytest.raises(PrerequisiteError, match="say cluster=PATTERN or cluster=none"):
        compare({"known": known, "other": other})
