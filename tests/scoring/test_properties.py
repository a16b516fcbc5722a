"""What holds for any predictions, checked against a scorer that follows the rules word by word."""

import json
import math
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovmer.runners.scoring import Scores, make_metric
from ovmer.runners.scoring.parsing import string_to_list
from ovmer.runners.scoring.vocabulary import MAPPINGS, SHIPPED, load_vocabulary
from tests.scoring.conftest import ROOT

WORDS = ["happy", "joyful", "Sad", "sadness", "scared", "angry", "mad", "neutral", "开心", " calm "]
cell = st.one_of(
    st.none(),
    st.just(math.nan),
    st.lists(st.sampled_from(WORDS), max_size=5),
    st.lists(st.sampled_from(WORDS), max_size=5).map(lambda words: f"[{', '.join(words)}]"),
    st.text("ab[]'\",，、 ", max_size=8),
)
samples = st.dictionaries(st.sampled_from("abcdefgh"), st.tuples(cell, cell), min_size=1)


def wheel_metric(no_overlap: str = "zero") -> Any:
    return make_metric({"name": "wheel", "wheel_root": SHIPPED, "no_overlap": no_overlap})


def by_the_rules(pairs: dict[str, tuple[Any, Any]], mapping: str) -> tuple[float, float, float]:
    """F, precision and recall with sets and plain sums (rules: the module's docstring)."""
    vocabulary = load_vocabulary(SHIPPED)
    precisions, recalls = [], []
    for predicted, true in pairs.values():
        p, g = (
            {vocabulary.group(each.lower().strip(), mapping) for each in string_to_list(side)}
            - {""}
            for side in (predicted, true)
        )
        if g:
            precisions.append(len(p & g) / len(p) if p else 0.0)
            recalls.append(len(p & g) / len(g))
    if not precisions:
        return 0.0, 0.0, 0.0
    precision, recall = (sum(each) / len(each) for each in (precisions, recalls))
    total = precision + recall
    return (2 * precision * recall / total if total else 0.0), precision, recall


def split(pairs: dict[str, tuple[Any, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    return {n: p for n, (p, _) in pairs.items()}, {n: t for n, (_, t) in pairs.items()}


@given(samples)
@settings(max_examples=200, deadline=None)
def test_agrees_with_the_rules(pairs: dict[str, tuple[Any, Any]]) -> None:
    figures = wheel_metric().score(*split(pairs)).figures
    for mapping in MAPPINGS:
        f, precision, recall = by_the_rules(pairs, mapping)
        assert figures[mapping] == pytest.approx(f, abs=1e-12)
        assert figures[f"{mapping}/precision"] == pytest.approx(precision, abs=1e-12)
        assert figures[f"{mapping}/recall"] == pytest.approx(recall, abs=1e-12)


@given(samples, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_order_and_repetition_do_not_matter(pairs: dict[str, tuple[Any, Any]], random: Any) -> None:
    predictions, truth = split(pairs)
    straight = wheel_metric().score(predictions, truth).with_intervals(200)
    names = list(pairs)
    random.shuffle(names)
    shuffled: dict[str, Any] = {}
    for name in names:
        labels = string_to_list(predictions[name]) * 2
        random.shuffle(labels)
        shuffled[name] = labels
    again = wheel_metric().score(shuffled, {name: truth[name] for name in reversed(names)})
    assert again.figures == straight.figures  # to the last bit
    assert again.with_intervals(200).intervals == straight.intervals


@given(samples)
@settings(max_examples=50, deadline=None)
def test_figures_are_between_zero_and_one(pairs: dict[str, tuple[Any, Any]]) -> None:
    predictions, truth = split(pairs)
    scores = wheel_metric().score(predictions, truth).with_intervals(200)
    assert all(0 <= value <= 1 for value in scores.figures.values())
    sums = dict(zip(scores.contributions.columns, scores.contributions.sums, strict=True))
    for name, (low, high) in scores.intervals.items():
        if scores.n_counted and sums.get(f"{name}/counted", 1):
            assert 0 <= low <= high <= 1
        elif not scores.n_counted or name in MAPPINGS:
            assert math.isnan(low)
            assert math.isnan(high)
    perfect = wheel_metric().score(truth, truth)
    counted = dict(zip(perfect.contributions.columns, perfect.contributions.sums, strict=True))
    for mapping in MAPPINGS:
        assert perfect.figures[mapping] == (1.0 if counted[f"{mapping}/counted"] else 0.0)


def test_contributions_can_be_aggregated_again(cases: dict[str, Any]) -> None:
    """The figures of a part of the clips follow from the rows of those clips."""
    case = cases["openset"]["realistic"]
    scores: Scores = wheel_metric().score(case["name2pred"], case["name2gt"])
    part = [name for i, name in enumerate(scores.contributions.clips) if i % 3 == 0]
    sums = scores.contributions.values[::3].sum(axis=0)
    alone = wheel_metric().score(case["name2pred"], {name: case["name2gt"][name] for name in part})
    for name, value in scores.aggregate(sums).items():
        assert alone.figures[name] == pytest.approx(float(value), abs=1e-12)


_CHILD = """
import json, sys
from ovmer.runners.scoring import score
case = json.load(open(sys.argv[1], encoding="utf-8"))["openset"]["nasty"]
out = {}
for name, more in (("wheel", {}), ("hit_rate", {}), ("grouping", {"replies": {
        clip: "[['happy', 'sad'], ['angry', 'happy']]" for clip in case["name2gt"]}})):
    if name != "grouping":
        more = {"wheel_root": sys.argv[2]}
    truth = case["name2gt"] if name != "hit_rate" else dict.fromkeys(case["name2gt"], "sad")
    out[name] = score(case["name2pred"], truth, name, **more).as_json()
assert not {"torch", "pandas"} & sys.modules.keys()
print(json.dumps(out))
"""


def test_hash_seeds_do_not_matter_and_torch_stays_out(cases: dict[str, Any]) -> None:
    path = str(ROOT / "tests" / "golden" / "scorer" / "cases.json")
    outputs = set()
    for seed in ("0", "4242"):
        child = subprocess.run(
            [sys.executable, "-c", _CHILD, path, SHIPPED],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.add(child.stdout)
    assert len(outputs) == 1
    assert json.loads(outputs.pop())["wheel"]["figures"]["M-avg"] > 0
