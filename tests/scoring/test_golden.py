"""Every figure of the authors' code, to 1e-12: the tolerance that the goldens state, since the
order of a sum may differ. Ours are exactly rounded sums, so the difference is one unit at most."""

import math
from pathlib import Path
from typing import Any

import pytest

from ovmer.runners.scoring import Scores, make_metric, score
from ovmer.runners.scoring.classes import read_preference
from ovmer.runners.scoring.parsing import listlist_to_list, string_to_list
from ovmer.runners.scoring.vocabulary import MAPPINGS, load_vocabulary
from tests.scoring.conftest import EDITIONS, read_openset

RULE = {"mer2025": "undefined", "mer2026": "zero"}
"""Without overlap the editions' codes differ too."""


def close(value: float, expected: float | str) -> bool:
    if expected == "nan":
        return math.isnan(value)
    return abs(value - float(expected)) <= 1e-12


def assert_wheel_figures(scores: Scores, expected: dict[str, Any], names: dict[str, str]) -> None:
    figures = scores.figures
    parts = {"fscore": "", "precision": "/precision", "recall": "/recall"}
    for case, values in expected["metrics"].items():
        for key, part in parts.items():
            assert close(figures[names[case] + part], values[key]), (case, key)
        if "n_counted" in values:
            column = scores.contributions.columns.index(f"{names[case]}/counted")
            assert scores.contributions.values[:, column].sum() == values["n_counted"]
    for level in ("level1", "level2"):
        for key, part in parts.items():
            assert close(figures[level + part], expected[level][key]), (level, key)
    assert close(figures["M-avg"], expected["m_avg_12"])
    if "track2_avg_of_levels" in expected:
        assert close(figures["level-mean"], expected["track2_avg_of_levels"])


@pytest.mark.parametrize("edition", EDITIONS)
@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("openset", "realistic"),
        ("openset", "nasty"),
        ("openset", "sparse"),
        ("degenerate", "no_overlap"),
        ("degenerate", "all_gt_unknown"),
        ("degenerate", "all_pred_empty"),
        ("degenerate", "perfect"),
        ("degenerate", "gt_subset_names"),
    ],
)
def test_wheel_metrics(
    cases: dict[str, Any], official: str, group: str, name: str, edition: str
) -> None:
    case = cases[group][name]
    metric = make_metric(
        {
            "name": "wheel",
            "wheel_root": official,
            "edition": edition,
            "no_overlap": RULE[edition],
        }
    )
    scores = metric.score(case["name2pred"], case["name2gt"])
    assert_wheel_figures(scores, case["expected"][edition], cases["metric_names"])


@pytest.mark.parametrize("edition", EDITIONS)
def test_label_map(cases: dict[str, Any], official: str, edition: str) -> None:
    vocabulary = load_vocabulary(official, edition)
    for label, targets in cases["label_map"][edition].items():
        found = [vocabulary.group(label, mapping) for mapping in MAPPINGS]
        assert found == list(targets.values()), label


def test_sizes_of_the_vocabularies(official: str) -> None:
    """As the authors' loaders print them."""
    assert len(load_vocabulary(official, "mer2025").rows) == 7386
    assert len(load_vocabulary(official, "mer2026").rows) == 7356


def test_mapped_sets_of_single_samples(cases: dict[str, Any], official: str) -> None:
    vocabulary = load_vocabulary(official)
    for case in cases["openset"].values():
        for name, sample in case["per_sample_mer2025"].items():
            for side in ("gt", "pred"):
                assert string_to_list(case[f"name2{side}"][name]) == sample[f"{side}_list"]
                labels = [label.lower().strip() for label in sample[f"{side}_list"]]
                for mapping, key in zip(MAPPINGS, cases["metric_names"], strict=True):
                    groups = {vocabulary.group(label, mapping) for label in labels} - {""}
                    assert sorted(groups) == sample[key][side]


def test_parsers(cases: dict[str, Any]) -> None:
    for each in cases["parser"]["string_to_list"]:
        assert string_to_list(each["in"]) == each["out"], each
    for each in cases["parser"]["listlist_to_list"]:
        assert listlist_to_list(each["in"]) == each["out"], each


def test_where_the_authors_parser_throws_ours_reads_no_labels(cases: dict[str, Any]) -> None:
    assert [string_to_list(each["in"]) for each in cases["parser"]["raises"]] == [[]]


@pytest.mark.parametrize("name", ["six_mer", "seven_meld", "four_iemocap"])
def test_hit_rate(cases: dict[str, Any], official: str, name: str) -> None:
    case = cases["hit_rate"][name]
    expected = case["expected_mer2025"]
    scores = score(case["name2pred"], case["name2gt"], "hit_rate", wheel_root=official)
    assert close(scores.figures["hit-rate"], expected["hitrate"])
    assert close(scores.figures["mscore"], expected["mscore"])
    for wheel, values in enumerate(expected["per_wheel"].values(), start=1):
        assert close(scores.figures[f"hit-rate/W{wheel}"], values["hitrate"])
        assert close(scores.figures[f"mscore/W{wheel}"], values["mscore"])


@pytest.mark.parametrize("name", ["mosi_like", "sims_like"])
def test_sentiment(cases: dict[str, Any], name: str) -> None:
    case = cases["sentiment"][name]
    expected = case["expected"]
    scores = score(case["name2sentiment"], case["name2gt"], "sentiment")
    assert close(scores.figures["WAF"], expected["waf"])
    assert close(scores.figures["accuracy"], expected["acc"])
    assert scores.n_counted == expected["n_counted"]
    assert any(note.startswith(f"{expected['n_odd']} replies") for note in scores.notes)


def test_track1(cases: dict[str, Any]) -> None:
    case = cases["track1_waf"]
    truth = {str(i): word for i, word in enumerate(case["gt"])}
    predictions = {str(i): word for i, word in enumerate(case["pred"])}
    scores = score(predictions, truth, "single_label")
    assert close(scores.figures["WAF"], case["expected_waf"])
    assert close(scores.figures["accuracy"], case["expected_acc"])


def test_track3(cases: dict[str, Any]) -> None:
    case = cases["track3_preference"]
    found = [("a1", "a2", "same")[read_preference(reply)] for reply in case["responses"]]
    assert found == case["expected_labels"]
    truth = {str(i): word for i, word in enumerate(case["gt"])}
    replies = {str(i): reply for i, reply in enumerate(case["responses"])}
    figures = score(replies, truth, "preference").figures
    for task in ("two_class", "three_class"):
        prefix = task.replace("_", "-")
        assert close(figures[f"{prefix}/WAF"], case[task]["waf"])
        assert close(figures[f"{prefix}/accuracy"], case[task]["acc"])


@pytest.mark.parametrize("edition", EDITIONS)
def test_released_outputs_of_ten_models(
    replay: dict[str, Any], cases: dict[str, Any], official: str, edition: str
) -> None:
    truth = replay["ovmerd"]["name2gt"]
    metric = make_metric({"name": "wheel", "wheel_root": official, "edition": edition})
    assert len(replay["ovmerd"]["predictions"]) == 10
    for run in replay["ovmerd"]["predictions"].values():
        scores = metric.score(run["name2pred"], truth)
        assert_wheel_figures(scores, run["expected"][edition], cases["metric_names"])


def test_affectgpt_on_meld(replay: dict[str, Any], official: str) -> None:
    """Published: 55.65."""
    (run,) = replay["meld"]["checkpoints"].values()
    truth = replay["meld"]["name2gt"]
    scores = score(run["name2pred"], truth, "hit_rate", wheel_root=official)
    assert close(scores.figures["hit-rate"], run["expected"]["hitrate"])
    assert close(scores.figures["mscore"], run["expected"]["mscore"])
    assert f"{100 * scores.figures['hit-rate']:.2f}" == "55.65"


def test_affectgpt_on_mosi(replay: dict[str, Any]) -> None:
    """Published: 81.30 and 81.25."""
    (run,) = replay["cmumosi"]["checkpoints"].values()
    scores = score(run["name2sentiment"], replay["cmumosi"]["name2gt"], "sentiment")
    assert close(scores.figures["WAF"], run["expected"]["waf"])
    assert close(scores.figures["accuracy"], run["expected"]["acc"])
    assert [f"{100 * value:.2f}" for value in scores.figures.values()] == ["81.30", "81.25"]


def test_recorded_groups(replay: dict[str, Any]) -> None:
    published = replay["mer2024_grouping"]["published_replies"]
    truth, predictions = published["name2gt"], published["name2pred"]
    second = list(truth)[::2]
    for replies, case in (
        (published["replies"], published),
        (dict.fromkeys(truth, "[]"), replay["mer2024_grouping"]["empty_replies"]),
        (
            {name: published["replies"][name] for name in second},
            replay["mer2024_grouping"]["swapped"],
        ),
    ):
        figures = score(predictions, truth, "grouping", replies=replies).figures
        for name, expected in case["expected"].items():
            assert close(figures[name], expected)


def test_published_example_of_mer2024_to_the_last_digit(mer2024_ov: Path) -> None:
    figures = score(
        read_openset(mer2024_ov / "predict-openset.csv"),
        read_openset(mer2024_ov / "check-openset.csv"),
        "grouping",
        replies=str(mer2024_ov / "openset-synonym.zip"),
    ).figures
    assert figures["accuracy"] == 0.581777108433735
    assert figures["recall"] == 0.4977911646586345
    assert figures["avg"] == 0.5397841365461847
