"""What a file of golden figures is compared with, by the form of the file."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from ovmer.runners.scoring import Scores, make_metric
from ovmer.runners.tasks.parsers import answer_or_reply, make_parser
from ovmer.runners.tasks.readers import LOGICAL, MULTIMODAL, steps

TOLERANCE = 1e-9
MMSA_TOLERANCE = 1e-4  # rounded to 4 decimals, float32 in the authors' code

Check = Callable[[Any], None]
CHECKS: dict[str, Check] = {}
"""By a key that only files of that form have."""


def check(key: str) -> Callable[[Check], Check]:
    def register(function: Check) -> Check:
        CHECKS[key] = function
        return function

    return register


def keys_in(content: Any) -> set[str]:
    if isinstance(content, dict):
        return set(content).union(*map(keys_in, content.values()))
    return set().union(*map(keys_in, content)) if isinstance(content, list) else set()


def check_of(content: Any) -> Check:
    """The check of a file's form, whatever it is called."""
    found = CHECKS.keys() & keys_in(content)
    assert found, f"no check has this form; one of these keys tells it: {', '.join(CHECKS)}"
    assert len(found) == 1, f"keys of several forms: {', '.join(sorted(found))}"
    return CHECKS[found.pop()]


def close(ours: float, theirs: Any, tolerance: float = TOLERANCE) -> bool:
    if theirs == "nan":
        return math.isnan(ours)
    return math.isclose(ours, theirs, rel_tol=0, abs_tol=tolerance)


def scored(
    replies: Sequence[str | None],
    truths: Sequence[Any],
    labels: Sequence[str] = (),
    **protocol: Any,
) -> Scores:
    """The scores of replies in their order, under one protocol called `p`."""
    settings = {"kind": "protocols", "name": "golden", "labels": list(labels)}
    metric = make_metric(settings | {"primary": "p/unknown", "protocols": {"p": protocol}})
    names = [f"{i:06d}" for i in range(len(replies))]
    predictions = dict(zip(names, replies, strict=True))
    return metric.score(predictions, dict(zip(names, truths, strict=True)))


def agree(
    scores: Scores, expected: Mapping[str, Any], names: Mapping[str, str], scale: float = 1.0
) -> None:
    """Each of our figures (name -> theirs) against what was expected."""
    for ours, theirs in names.items():
        value = scale * scores.figures[f"p/{ours}"]
        assert close(value, expected[theirs]), f"{ours}: {value} != {expected[theirs]}"


WEIGHTED = ["accuracy", "weighted-precision", "weighted-recall", "weighted-F1"]


@check("predicted_value")
def emobench_m_classification(golden: Any) -> None:
    names = dict(zip(WEIGHTED, ("accuracy", "precision", "recall", "f1_score"), strict=True))
    for case in golden.values():
        truths = [item.get("expected_value") or "" for item in case["items"]]
        labels = sorted({truth.strip().lower() for truth in truths} - {""})
        found = scored(
            [item.get("predicted_value") for item in case["items"]],
            truths,
            [*labels, "-"],  # a closed set has two labels at least
            parser="plain",
            unknown="drop",
            figures=WEIGHTED,
        )
        if case["expected"] is None:
            assert not found.n_counted
            continue
        assert found.n_counted == case["expected"]["n_counted"]
        agree(found, case["expected"], names)


@check("joint_accuracy")
def emobench_m_joint(golden: Any) -> None:
    def both(item: Any, side: str) -> str:
        parts = [item[f"{side}_{part}"].strip() for part in ("emotion", "intent")]
        return "_".join(parts) if all(parts) else ""

    truths = [both(item, "expected") for item in golden["items"]]
    found = scored(
        [both(item, "predicted") for item in golden["items"]],
        truths,
        sorted({truth.lower() for truth in truths} - {""}),
        parser="plain",
        unknown="drop",
        figures=WEIGHTED,
    )
    assert found.n_counted == golden["expected"]["total"]
    theirs = ("joint_accuracy", "joint_precision", "joint_recall", "joint_f1")
    agree(found, golden["expected"], dict(zip(WEIGHTED, theirs, strict=True)))


EMOTIONS = ["happy", "surprise", "sad", "disgust", "anger", "fear", "neutral"]
INTENTS = [
    "questioning", "agreeing", "acknowledging", "encouraging", "consoling", "suggesting", "wishing",
    "neutral",
]  # fmt: skip


@check("mc_eiu")
def emobench_m_parse(golden: Any) -> None:
    for case in golden["classification"].values():
        parse = make_parser("regex_first", case["categories"])
        for item in case["items"]:
            assert parse(item["reply"]) == item["parsed"], item
    items = golden["mc_eiu"]["items"]
    for item in items:
        for part, labels in (("emotion", EMOTIONS), ("intent", INTENTS)):
            parse = make_parser("substring_in_order", labels)
            assert parse(item["reply"]) == item[f"predicted_{part}"], item
            assert parse(item["truth"]) == item[f"expected_{part}"], item
    found = scored(
        [item["reply"] for item in items],
        [item["truth"] for item in items],
        family="joint",
        parser="substring_in_order",
        parts={"emotion": EMOTIONS, "intent": INTENTS},
    )
    assert found.n_counted == golden["mc_eiu"]["n_valid"]
    for part, expected in golden["mc_eiu"]["expected"].items():
        ours = [f"{part}-{name}" for name in WEIGHTED]
        agree(
            found, expected, dict(zip(ours, ("accuracy", "precision", "recall", "f1"), strict=True))
        )


@check("avg_bleu")
def emobench_m_generation(golden: Any) -> None:
    names = {"BLEU": "avg_bleu", "ROUGE-L": "avg_rouge"}

    def measured(items: Sequence[Any]) -> Scores:
        replies, references = (
            [item[side] for item in items] for side in ("prediction", "reference")
        )
        return scored(replies, references, family="text")

    found = measured(golden["items"])
    assert found.n_counted == golden["expected"]["total"]
    agree(found, golden["expected"], names)
    for item, expected in zip(golden["items"], golden["per_item"], strict=True):
        alone = measured([item])
        if not expected or not expected.get("total"):
            assert not alone.n_counted
        else:
            agree(alone, expected, names)


@check("avg_logical")
def emobench_m_laughter(golden: Any) -> None:
    for case in golden["parser"]:
        assert LOGICAL(case["reply"]) == case["logical"], case
        assert MULTIMODAL(case["reply"]) == case["multimodal"], case
    scores = list[list[int]]()
    for item in golden["items"]:
        pair = [LOGICAL(item["logical_reply"]) or 0, MULTIMODAL(item["multimodal_reply"]) or 0]
        assert [*pair, sum(pair)] == [item["logical"], item["multimodal"], item["total"]], item
        scores.append(pair)
    replies = [
        f"Logical Judgment Dimension: {a}\nMultimodal Content Association Dimension: {b}"
        for a, b in scores
    ]
    found = scored(replies, ["-"] * len(replies), family="judged_text")
    agree(found, golden["expected"], {"logical": "avg_logical", "multimodal": "avg_multimodal"}, 5)
    agree(found, golden["expected"], {"total": "avg_total"}, 10)


@check("pred_processed")
def mmla(golden: Any) -> None:
    names = {
        "accuracy": "ACC", "macro-F1": "F1", "macro-precision": "Precision",
        "macro-recall": "Recall", "weighted-F1": "WF1", "weighted-precision": "WP",
    }  # fmt: skip
    for case in golden.values():
        replies = [item["Pred"] for item in case["items"]]
        parse = make_parser("exactly_one", case["labels"])
        assert [parse(reply or "") or "unknown" for reply in replies] == case["pred_processed"]
        truths = [item["Label"] for item in case["items"]]
        found = scored(replies, truths, case["labels"], parser="exactly_one", figures=list(names))
        agree(found, case["unrounded"], names)
        for ours, theirs in names.items():
            assert round(100 * found.figures[f"p/{ours}"], 2) == case["expected_rounded"][theirs]


@check("uar_r1omni")
def war_uar(golden: Any) -> None:
    names = {"WAR": "war", "UAR": "uar_r1omni", "UAR-replies": "uar_humanomni"}
    for case in golden.values():
        found = scored(
            [item["response"] for item in case["items"]],
            [item["gt"] for item in case["items"]],
            case["classes"],
            parser="exact",
            figures=[*names, "accuracy"],
        )
        agree(found, case["expected"], names, 100)
        agree(found, case["expected"], {"accuracy": "accuracy_fraction"})


@check("confusion_last_column_unknown")
def erv_dfew_mafw(golden: Any) -> None:
    for case in golden.values():
        labels = sorted(case["classes"], key=case["classes"].get)
        name, uar = ("MAFW", "UAR-read") if "contempt" in labels else ("DFEW", "UAR-labels")
        found = scored(
            [item["reply"] for item in case["items"]],
            [labels[item["label"] - 1] for item in case["items"]],
            labels,
            parser=f"erv_{name.lower()}",
            figures=["WAR", uar],
        )
        expected = case["expected"]
        agree(found, expected, {"WAR": "WAR", uar: "UAR"}, 100)
        assert round(found.figures["p/unknown"] * found.n_clips) == expected["unknown"]
        assert found.n_clips == expected["n"]
        _, *confusion = found.tables()["p-confusion"]
        counts = [row[1:] for row in confusion]
        assert sum(row[i] for i, row in enumerate(counts)) == expected["correct"]
        if name == "MAFW":
            counts = unknown_under_the_clip_before(counts, labels, found)
        for row, theirs in zip(counts, expected["confusion_last_column_unknown"], strict=True):
            total = sum(row) or 1
            assert all(close(100 * a / total, b) for a, b in zip(row, theirs, strict=True)), row


def unknown_under_the_clip_before(
    counts: Sequence[Sequence[int]], labels: Sequence[str], found: Scores
) -> list[list[int]]:
    """The confusion as ERV's code for MAFW has it: its loop books an unknown reply under the class
    of the clip before. WAR and UAR do not come from it, so the metric does not repeat that."""
    moved = [[*row[:-1], 0] for row in counts]
    _, *readings = found.tables()["readings"]
    for before, (_, _, _, reading) in pairwise(readings):
        if not reading:
            moved[labels.index(before[1])][-1] += 1
    return moved


@check("uar")
def emotion_qwen_dfew(golden: Any) -> None:
    for case in golden.values():
        found = scored(
            [item["reply"] for item in case["items"]],
            [case["classes"][item["label"] - 1] for item in case["items"]],
            case["classes"],
            parser="word_in_reply",
            figures=["WAR", "UAR-replies"],
        )
        agree(found, case["expected"], {"WAR": "war", "UAR-replies": "uar"})


@check("target")
def emotion_llama_mer(golden: Any) -> None:
    items, classes = golden["items"], golden["classes"]
    parse = make_parser("last_word", classes)
    assert [parse(item["reply"]) for item in items] == [item["class"] for item in items]
    found = scored(
        [item["reply"] for item in items],
        [item["target"] for item in items],
        classes,
        parser="last_word",
        figures=WEIGHTED,
    )
    theirs = ("accuracy", "precision", "recall", "f1")
    agree(found, golden["expected"], dict(zip(WEIGHTED, theirs, strict=True)))


WILD = {
    "angry": "anger", "disgusted": "disgust", "happy": "happiness", "sad": "sadness",
    "surprised": "surprise",
}  # fmt: skip


@check("avg_step")
def mme_emotion(golden: Any) -> None:
    for name, case in golden.items():
        if not isinstance(case, dict):
            continue
        fractions = name in ("ML_ER", "FG_ER", "Overall")
        items = case["items"]
        read = [steps(item["score"], fractions) for item in items]
        for ours, theirs in zip(read, case["parsed"], strict=True):
            assert ours == theirs or all(map(close, ours or [], theirs or [])), (name, ours, theirs)
        found = scored(
            [item["score"] for item in items],
            [item["ground_truth"] for item in items],
            family="steps",
            fractions=fractions,
            fold=WILD if name == "ER_Wild" else None,
        )
        expected = case["expected"]
        names = {"recognition": "recognition", "reasoning": "reasoning", "CoT": "cot"}
        agree(found, expected["total"], names, 100)
        header, *rows = found.tables()["p-categories"]
        ours = {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows}
        wanted = {**expected.get("categories", {}), "total": expected["total"]}
        assert "categories" not in expected or ours.keys() == wanted.keys()
        for category, figures in wanted.items():
            for key, value in figures.items():
                assert close(ours[category][key], value), (name, category, key)


@check("problem_type")
def intentbench(golden: Any) -> None:
    items, expected = golden["items"], golden["expected"]
    for item in items:
        tagged = "" if item["prediction"] == "" else answer_or_reply(item["reply"])
        assert tagged == item["prediction"], item
    for fallback, reward, mean in (
        ("own", "reward_own", "mean_acc_own_fallback"),
        ("last", "reward_authors", "mean_acc_authors_one_process"),
    ):
        found = scored(
            [item["reply"] for item in items],
            [{"truth": item["solution"], "group": item["problem_type"]} for item in items],
            family="rewards",
            untagged=fallback,
        )
        agree(found, expected, {"reward": mean})
        values = found.contributions.values[:, found.contributions.columns.index("p/reward")]
        assert all(map(close, values, [item[reward] for item in items]))
        if fallback == "last":
            by_type = expected["by_type_authors"]
            agree(found, by_type, {each: each for each in by_type})


@check("Mult_acc_5")
def mmsa_regression(golden: Any) -> None:
    mosi = {
        "ACC-2-Has0": "Has0_acc_2", "F1-Has0": "Has0_F1_score", "ACC-2-Non0": "Non0_acc_2",
        "F1-Non0": "Non0_F1_score", "ACC-5": "Mult_acc_5", "ACC-7": "Mult_acc_7", "MAE": "MAE",
        "Pearson": "Corr",
    }  # fmt: skip
    sims = {
        "ACC-2": "Mult_acc_2", "ACC-3": "Mult_acc_3", "ACC-5": "Mult_acc_5", "F1": "F1_score",
        "MAE": "MAE", "Pearson": "Corr",
    }  # fmt: skip
    for name, case in golden["sets"].items():
        scale = "mosi" if name in ("MOSI", "MOSEI") else "sims"
        found = numbers(case["pred"], case["truth"], scale)
        for ours, theirs in (mosi if scale == "mosi" else sims).items():
            value = found.figures[f"p/{ours}"]
            assert close(value, case["expected"][theirs], MMSA_TOLERANCE), (name, ours, value)


@check("ccc")
def ccc(golden: Any) -> None:
    truth, predicted = (list(zip(*golden[side], strict=True)) for side in ("truth", "pred"))
    names = {"MAE": "mae", "RMSE": "rmse", "Pearson": "pcc", "CCC": "ccc"}
    each = [numbers(p, t, "mosi").figures for p, t in zip(predicted, truth, strict=True)]
    for ours, theirs in names.items():
        values = [figures[f"p/{ours}"] for figures in each]
        mean = sum(values) / len(values)
        assert close(values[0], golden["expected_valence_only"][theirs]), ours
        assert close(mean, golden["expected_mean_over_dimensions"][theirs]), ours


def numbers(predicted: Sequence[float], truth: Sequence[float], scale: str) -> Scores:
    replies, truths = ([repr(float(value)) for value in side] for side in (predicted, truth))
    return scored(replies, truths, family="regression", scale=scale)
