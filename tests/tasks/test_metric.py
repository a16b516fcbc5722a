"""The metric of tasks: figures against scikit-learn, policies, notes, bad input."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.scoring import Scores, make_metric
from ovmer.runners.scoring.comparison import conclusion
from ovmer.runners.scoring.significance import compare

EMOTIONS = ["happy", "sad", "neutral", "angry"]
TRUTH = dict(
    zip(
        "abcdefgh",
        ["happy", "sad", "sad", "neutral", "happy", "angry", "sad", "happy"],
        strict=True,
    )
)
REPLIES = dict(
    zip(
        "abcdefgh",
        ["happy", "Sad.", "sad", "I cannot say", "happy, sad", "", "sad", "joyful"],
        strict=True,
    )
)
BOTH = {
    "exact": {"parser": "exact", "figures": ["WAR", "UAR", "UAR-replies"]},
    "mmla": {
        "parser": "exactly_one",
        "figures": ["accuracy", "macro-F1", "weighted-F1", "weighted-precision"],
    },
}


def scored(
    replies: Mapping[str, Any] = REPLIES,
    protocols: Mapping[str, Any] = BOTH,
    truth: Mapping[str, Any] = TRUTH,
    labels: list[str] = EMOTIONS,
    **more: Any,
) -> Scores:
    first = next(iter(protocols))
    settings = {"kind": "protocols", "primary": f"{first}/unknown", "labels": labels}
    metric = make_metric(settings | {"protocols": protocols} | more)
    return metric.score(replies, truth)


def test_figures_are_those_of_scikit_learn() -> None:
    found = scored().figures
    true = [TRUTH[name] for name in sorted(TRUTH)]
    read = ["happy", "sad", "sad", "unknown", "multi", "unknown", "sad", "unknown"]
    options: dict[str, Any] = {"average": "weighted", "zero_division": 0}
    assert found["mmla/accuracy"] == pytest.approx(accuracy_score(true, read), abs=1e-12)
    assert found["mmla/weighted-F1"] == pytest.approx(f1_score(true, read, **options), abs=1e-12)
    macro = f1_score(true, read, average="macro", zero_division=0)
    assert found["mmla/macro-F1"] == pytest.approx(macro, abs=1e-12)
    precision = precision_score(true, read, **options)
    assert found["mmla/weighted-precision"] == pytest.approx(precision, abs=1e-12)
    exact = [REPLIES[name] for name in sorted(REPLIES)]
    recalls = recall_score(true, exact, average=None, zero_division=0)
    assert found["exact/UAR-replies"] == pytest.approx(float(np.mean(recalls)), abs=1e-12)
    assert found["exact/UAR"] == pytest.approx(float(np.sum(recalls)) / 4, abs=1e-12)


def test_the_share_of_unknown_replies_is_beside_it_and_the_difference_is_explained() -> None:
    found = scored()
    assert found.figures["mmla/unknown"] == pytest.approx(4 / 8)
    assert "mmla: 4 of 8 replies unknown (50.0 %)" in found.notes
    assert "of 8 replies read differently from exact: mmla 1" in found.notes
    settings = {"kind": "protocols", "primary": "exact/WAR", "labels": EMOTIONS, "protocols": BOTH}
    told = make_metric(settings).explain(found)
    assert told[1].startswith("mmla: the one label in the reply, several being wrong (MMLA)")
    assert told[2] == "for instance 'Sad.' is Sad. by exact, sad by mmla"
    readings = found.breakdown()["readings"]
    assert readings[0] == ["name", "truth", "reply", "exact", "mmla"]
    assert readings[2] == ["b", "sad", "Sad.", "Sad.", "sad"]


def test_unknown_replies_are_wrong_or_left_out() -> None:
    rule = {"parser": "exactly_one", "figures": ["accuracy"]}
    found = scored(protocols={"wrong": rule, "drop": rule | {"unknown": "drop"}})
    assert found.figures["wrong/accuracy"] == pytest.approx(4 / 8)
    assert found.figures["drop/accuracy"] == pytest.approx(4 / 5)  # several labels stay wrong
    assert found.figures["wrong/unknown"] == found.figures["drop/unknown"] == pytest.approx(4 / 8)


def test_nothing_but_unknown_replies_is_no_figure_and_no_crash() -> None:
    found = scored(dict.fromkeys(TRUTH, ""), {"p": {"parser": "exactly_one", "unknown": "drop"}})
    assert not found.n_counted
    assert found.figures["p/unknown"] == 1
    assert any("no clip counts" in note for note in found.notes)


def test_replies_that_no_judge_has_rated_say_which_setting_helps() -> None:
    found = scored({"a": "Happy."}, {"p": {"family": "steps"}}, {"a": "happy"})
    assert found.shown["p/unknown"] == 1
    assert any("extractor=judge asks for it" in note for note in found.notes)
    assert any("no clip has a true label and a reply" in note for note in found.notes)


def test_a_clip_without_a_true_label_is_left_out() -> None:
    protocols = {"p": {"parser": "word_in_reply"}, "q": {"parser": "careful"}}
    found = scored({"a": "sad", "b": "sad"}, protocols, {"a": [], "b": ["sad"]})
    assert found.n_counted == 1
    with pytest.raises(PrerequisiteError, match="truth of clip 'a' is empty"):
        scored({"a": "B"}, {"p": {"family": "rewards"}}, {"a": []})


def test_what_a_rule_costs_on_choices_by_letter() -> None:
    protocols = {"p": {"family": "rewards"}, "careful": {"family": "rewards", "parser": "careful"}}
    truth = {"truth": "<answer>B</answer>", "group": "multiple choice"}
    found = scored({"a": "The answer is B. A gift"}, protocols, {"a": truth}).figures
    assert (found["p/reward"], found["careful/reward"], found["careful/unknown"]) == (0, 1, 0)


@pytest.mark.parametrize(
    ("family", "truth", "figure"),
    [
        ({"family": "rewards"}, {"truth": "<answer>A</answer>", "group": "judge"}, "reward"),
        ({"family": "judged_text"}, "a joke", "total"),
        ({"family": "set_f1", "labels": EMOTIONS}, ["happy"], "F1"),
    ],
)
def test_replies_that_earn_nothing_are_a_figure_of_0(
    family: dict[str, Any], truth: Any, figure: str
) -> None:
    found = scored({"a": "prose", "b": ""}, {"p": family}, {"a": truth, "b": truth})
    assert found.n_counted == 2
    assert found.figures[f"p/{figure}"] == 0


def test_a_class_that_never_occurs() -> None:
    figures = ["UAR", "UAR-labels"]
    found = scored(
        {"a": "happy", "b": "sad"}, {"p": {"parser": "exact", "figures": figures}},
        {"a": "happy", "b": "sad"},
    ).figures  # fmt: skip
    assert found["p/UAR"] == 1
    assert found["p/UAR-labels"] == pytest.approx(0.5)


def test_figures_take_part_in_intervals_and_paired_tests() -> None:
    better = scored(TRUTH)
    pair = {"first": scored().with_intervals(), "second": better.with_intervals()}
    low, high = pair["first"].intervals["mmla/macro-F1"][:2]
    assert low <= pair["first"].figures["mmla/macro-F1"] <= high
    (found,) = compare(pair, "mmla/accuracy").pairs
    assert abs(found.difference) == pytest.approx(4 / 8)


NUMBERS = {"p": {"family": "regression"}}


def rated(away: float, clips: int = 60) -> Scores:
    """Numbers from -1 to 1, each read as one that is farther from it the lower it is."""
    truth = {f"{i:02}": i % 5 / 2 - 1 for i in range(clips)}
    replies = {name: f"{away * (1.5 - true)}" for name, true in truth.items()}
    return scored(replies, NUMBERS, {name: str(true) for name, true in truth.items()}, [])


def test_figures_outside_0_and_1_have_intervals_around_them() -> None:
    found = rated(1.5).with_intervals(1000)
    assert found.figures["p/MAE"] > 1
    assert found.figures["p/Pearson"] == pytest.approx(-1)
    assert found.figures["p/CCC"] < 0
    for name, (low, high) in found.intervals.items():
        assert low <= found.figures[name] <= high, name
    low, high = found.intervals["p/MAE"]
    assert low < high
    said = "no shares, but shown times 100 as they are: p/CCC, p/MAE, p/Pearson, p/RMSE"
    assert said in found.notes


def test_of_an_error_less_is_better() -> None:
    family = compare({"far": rated(1.5), "near": rated(1.0)}, "p/MAE")
    assert list(family.figures) == ["near", "far"]
    (pair,) = family.pairs
    assert pair.difference < 0
    assert conclusion(pair, family) == "near is better"
    assert family.ranks == {"near": (1, 1), "far": (2, 2)}
    assert family.best == {"near": 1.0, "far": 0.0}
    with pytest.raises(PrerequisiteError, match=r"metric\.primary is 'p/MAE', of which less"):
        scored(protocols=NUMBERS, primary="p/MAE", labels=[])


def test_digits_without_an_end_are_no_number() -> None:
    long = "9" * 5000
    found = scored({"a": f"{long}", "b": "1"}, NUMBERS, {"a": "1", "b": "1"}, [])
    assert (found.figures["p/unknown"], found.figures["p/MAE"]) == (0.5, 0)
    judged = f"Logical Judgment Dimension: {long}\nMultimodal Content Association Dimension: 4"
    found = scored({"a": judged}, {"p": {"family": "judged_text"}}, {"a": "-"}, [])
    assert (found.figures["p/unknown"], found.figures["p/logical"]) == (1, 0)
    rating = {"family": "steps", "fractions": True}
    found = scored({"a": f"<score>S: {long}/1, S: 1/2</score>"}, {"p": rating}, {"a": "-"}, [])
    assert found.figures["p/recognition"] == 0.5


def test_several_labels_of_a_set() -> None:
    protocols = {"p": {"family": "set_f1"}}
    found = scored({"a": "happy and sad", "b": "none"}, protocols, {"a": ["happy"], "b": ["sad"]})
    assert found.figures["p/F1"] == pytest.approx((2 / 3) / 2)
    assert found.figures["p/unknown"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"truth": {"a": "bored"}}, "the truth of clip 'a' is 'bored', none of happy, sad"),
        ({"protocols": {"p": {"parser": "exactly"}}}, "there is no parser 'exactly'"),
        ({"protocols": {"p": {"family": "closed"}}}, "protocols.p.family is 'closed'"),
        ({"protocols": {"p": {"parser": "exact", "figures": ["UAE"]}}}, "no figure 'UAE'.*UAR"),
        ({"protocols": {"p": {"parser": "exact", "unkown": "drop"}}}, "no key 'unkown'.*unknown"),
        ({"protocols": {"p": {}}}, "protocols.p lacks parser"),
        ({"labels": [], "protocols": {"p": {"parser": "exact"}}}, r"choices=\[a,b\]"),
        ({"protocols": {"p": {"parser": "exact", "unknown": "zero"}}}, "unknown is 'zero'"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(change: dict[str, Any], message: str) -> None:
    with pytest.raises(PrerequisiteError, match=message):
        scored(**({"replies": {"a": "sad"}, "truth": {"a": "sad"}} | change))
