"""The papers' tables: what is said of a figure, and whether it is beside print."""

from pathlib import Path

import pytest

from ovmer.runners.config import shipped_baselines
from tests.runners.folders import EXTRACTOR, write_run
from tests.runners.tables import WHEEL, cell, table_of, weights, why

PUBLISHED = shipped_baselines()["otter"]["checkpoint"]["model"]
OTTER, PINNED = PUBLISHED["repo"], PUBLISHED["revision"]


def test_another_question_than_print_is_not_beside_print(outputs: Path) -> None:
    figures = {"humanomni/WAR": 0.5}
    write_run(outputs, "r1_omni", "dfew", figures, "dfew", clips=11697, task="dfew")
    found = cell(table_of(outputs, "dfew"), "R1-Omni", "WAR")
    assert "asked as task=dfew, print as task=dfew_r1_omni" in why(found)
    assert found.difference is None
    asked = {"task": "dfew_r1_omni", "generation": "greedy", "clips": 11697}
    write_run(outputs, "r1_omni", "dfew", figures, "dfew", name="as-print", **asked)
    found = cell(table_of(outputs, "dfew"), "R1-Omni", "WAR")  # the one that matches print best
    assert not any("asked as" in text for text in why(found))
    assert found.difference == pytest.approx(50 - 65.83)


def test_ours_is_beside_print(outputs: Path) -> None:
    write_run(outputs, "chat_univi", "ovmerd", WHEEL, subtitle="merge")
    found = cell(table_of(outputs), "Chat-UniVi")
    assert found.ours == pytest.approx(47.22)
    assert found.interval == pytest.approx((44.22, 50.22))
    assert found.published is not None
    assert found.published.value == 46.75
    assert found.difference == pytest.approx(0.47)
    assert why(found) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dry_run": True}, "dry run on a random miniature"),
        ({"extractor": {"name": "qwen25", "model": "miniature"}}, "dry run on a random miniature"),
        ({"vocabulary": "shipped"}, "shipped vocabulary"),
        ({"vocabulary": "mer2026"}, "vocabulary mer2026, print's is mer2025"),
        ({"generation": "greedy"}, "other decoding: generation=greedy"),
        ({"subtitle": "prompt"}, "asked with the subtitle; print: two steps"),
        ({"subtitle": "none"}, "asked without the subtitle; print: two steps"),
        ({"clips": 4}, "4 clips, not the whole data set"),
        ({"extractor": {"name": "lexicon"}}, "labels by rule"),
        ({"fields": {"frames": 4}}, "other settings: frames=4 (print: 16)"),
        (
            {"fields": {"prompt": {"without_subtitle": "Why?"}}},
            "other settings: prompt.without_subtitle=Why? (print: ",
        ),
        ({"fields": {"generation": {"paper": {"num_beams": 1}}}}, "other decoding: num_beams=1 (p"),
        ({"extractor": EXTRACTOR | {"model": "me/Other"}}, "labels by Other, print's by Qwen2.5"),
        ({"extractor": EXTRACTOR | {"parser": "friendly"}}, "labels read by the friendly parser"),
        ({"extractor": EXTRACTOR | {"translate": "english"}}, "translated before the label step"),
        ({"identity": weights(repo="me/x", revision="main")}, "other weights: model is me/x"),
        (
            {"identity": weights(revision="v2", repo=OTTER)},
            f"other weights: model is {OTTER} at v2",
        ),
        ({"identity": weights(ignore=["lm.*"])}, "other weights: model without lm.*"),
        ({"identity": {"engine.quantization": "4bit"}}, "other decoding: engine.quantization=4bit"),
        ({"identity": {"dataset.visual": "face"}}, "faces were looked at, print's run had frames"),
        (
            {"overrides": ("dataset.language=chinese",), "language": "chinese"},
            "subtitles in chinese",
        ),
        ({"identity": {"inputs": "no_subtitle"}}, "other inputs: no_subtitle"),
        ({"identity": {"asr": {"model": "x"}}}, "subtitles by a speech recogniser"),
        ({"identity": {"faces": {"finder": "x"}}}, "faces found here"),
        ({"extractor": EXTRACTOR | {"labels": "labels_mer2024"}}, "labels by the prompt labels_me"),
        (
            {"extractor": EXTRACTOR | {"temperature": 0.3, "top_p": 0.8}},
            "other drawing of labels: temperature=0.3 (print: 0.7)",
        ),
    ],
)
def test_what_cannot_be_compared_says_why_and_has_no_difference(outputs, changes, said) -> None:
    write_run(outputs, "otter", "ovmerd", WHEEL, **{"subtitle": "merge", **changes})
    found = cell(table_of(outputs), "Otter")
    assert found.ours is not None
    assert found.difference is None
    assert any(text.startswith(said) for text in why(found))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"extractor": {"name": "qwen25", "temperature": 0}}, "label step greedy"),
        ({"status": {"ok": 330, "crashed": 2}}, "2 clips failed"),
        ({"fields": {"bug_compat": False}}, "without the accidents of the authors' code"),
        ({"identity": weights(content="ab12")}, "weights of a folder, not known to be"),
        (
            {"identity": weights(repo=OTTER, revision=PINNED, content="ab12")},
            "weights of a folder, not known to be",
        ),
        ({"identity": {"machine.dtype": "bfloat16"}}, "in bfloat16, print's run in float32"),
        ({"identity": {"media.reader": "pyav"}}, "frames read by pyav, print's by decord"),
    ],
)
def test_what_is_only_to_be_known_leaves_the_difference(outputs, changes, said) -> None:
    write_run(outputs, "otter", "ovmerd", WHEEL, subtitle="merge", **changes)
    found = cell(table_of(outputs), "Otter")
    assert found.difference is not None
    assert not any(mark.is_grave for mark in found.marks)
    assert any(text.startswith(said) for text in why(found))


@pytest.mark.parametrize(
    "changes",
    [
        {"fields": {"bug_compat": True, "frames": 16, "status": "golden"}},
        {"identity": weights(repo=OTTER, revision=PINNED, content="ab12", commit=PINNED)},
        {"identity": weights(repo=OTTER, revision=PINNED)},
        {"identity": {"machine.dtype": "float32", "dataset.visual": "frame"}},
        {"identity": {"machine.dtype": "bfloat16"}, "dry_run": True},
        {"identity": {"media.reader": "decord"}},
        {"extractor": EXTRACTOR | {"labels": "labels", "top_p": 0.8, "repetition_penalty": 1.05}},
    ],
)
def test_what_follows_print_has_no_mark(outputs, changes) -> None:
    write_run(outputs, "otter", "ovmerd", WHEEL, subtitle="merge", **changes)
    marks = why(cell(table_of(outputs), "Otter"))
    assert [each for each in marks if not each.startswith("dry run")] == []


def test_a_dry_run_that_was_asked_for_a_data_type_says_so(outputs) -> None:
    write_run(
        outputs, "otter", "ovmerd", WHEEL, subtitle="merge", dry_run=True,
        identity={"machine.dtype": "bfloat16"}, machine="bfloat16",
    )  # fmt: skip
    marks = why(cell(table_of(outputs), "Otter"))
    assert "in bfloat16, print's run in float32" in marks


@pytest.mark.parametrize("layout", ["ovmer", "mer_unibench"])
def test_secap_is_translated_and_merged_in_every_table(outputs, layout: str) -> None:
    dataset, metric, figure = ("ovmerd", "wheel", "M-avg")
    if layout == "mer_unibench":
        dataset, metric, figure = ("ovmerdplus", "unibench_ov", "level1")
    for translate, marked in (("english", False), ("none", True)):
        write_run(
            outputs / translate, "secap", dataset, {figure: 0.4}, metric, subtitle="merge",
            extractor=EXTRACTOR | {"translate": translate}, clips=532,
        )  # fmt: skip
        table = table_of(outputs / translate, layout)
        (found,) = (c for c in next(
            line for line in table.lines if line.row.model == "SECap"
        ).cells if c.folder)  # fmt: skip
        assert any(text.startswith("translated") for text in why(found)) == marked
        assert not any("two steps" in text for text in why(found))


def test_of_affectgpts_releases_the_papers_is_the_one_in_print(outputs) -> None:
    shipped = shipped_baselines()
    for name in ("affectgpt", "affectgpt_paper"):
        fields = {"release": shipped[name]["release"]}
        write_run(
            outputs / name, name, "ovmerdplus", {"level1": 0.4}, "unibench_ov", clips=532,
            fields=fields,
        )  # fmt: skip
        table = table_of(outputs / name, "mer_unibench")
        found = cell(table, "AffectGPT", "OV-MERD+", inputs="VAT")
        assert found.ours == pytest.approx(40)
        assert bool(found.marks) == (name == "affectgpt"), why(found)
    assert (
        "other settings: release=mercaptionplus"
        in why(
            cell(
                table_of(outputs / "affectgpt", "mer_unibench"),
                "AffectGPT",
                "OV-MERD+",
                inputs="VAT",
            )
        )[0]
    )


def test_a_combination_names_its_unusual_parts(outputs) -> None:
    sources = ["ovmerd/secap-dry-bug_compat", "ovmerd/mplug_owl-apart-frames_8"]
    write_run(
        outputs, "combined", "ovmerd", {"F": 0.4}, "grouping", subtitle="merge",
        identity={"sources": sources},
    )  # fmt: skip
    found = cell(table_of(outputs, "ovmer_clues"), "SECap + mPLUG-Owl", "F")
    assert why(found) == [
        "dry run on a random miniature: the figure means nothing",
        "parts with other settings: mplug_owl-apart-frames_8",
    ]


def test_a_combination_has_the_marks_of_its_parts(outputs: Path) -> None:
    """Weights from a folder are in no run folder's name."""
    tuned = {"baseline.checkpoint": {"llm": {"content": "ab12"}}}
    runs = [
        write_run(outputs, "salmonn", "ovmerd", {}, identity=tuned),
        write_run(outputs, "mplug_owl", "ovmerd", {}, identity={"inputs": "silence"}),
    ]
    write_run(
        outputs, "combined", "ovmerd", {"F": 0.4}, "grouping", subtitle="merge",
        identity={"sources": ["ovmerd/salmonn", "ovmerd/mplug_owl"]},
        fields={"runs": [str(run) for run in runs]},
    )  # fmt: skip
    found = cell(table_of(outputs, "ovmer_clues"), "SALMONN + mPLUG-Owl", "F")
    assert why(found) == [
        "mplug_owl: other inputs: silence",
        "salmonn: weights of a folder, not known to be the published ones: llm",
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"problem": "there are no weights of Otter: get them"}, "there are no weights of Otter"),
        ({"status": {"ok": 12}}, "unfinished: 12 of 332 clips are described"),
        ({}, "not scored"),
    ],
)
def test_an_empty_cell_says_why(outputs, changes, said) -> None:
    if "problem" in changes:
        changes["status"] = {}
    write_run(outputs, "otter", "ovmerd", {}, **changes)
    table = table_of(outputs)
    assert why(cell(table, "Otter"))[0].startswith(said)
    assert why(cell(table, "SECap")) == ["not run"]
    assert cell(table, "SECap").published is not None


def test_another_metric_is_named(outputs: Path) -> None:
    write_run(outputs, "otter", "ovmerd", WHEEL, subtitle="merge")
    (said,) = why(cell(table_of(outputs), "Otter", "GPT"))
    assert said.startswith("scored with wheel, not with grouping")
    emer = table_of(outputs, "emer")
    assert why(cell(emer, "PandaGPT", "Clue overlap")) == ["no metric of this project"]
    assert why(cell(emer, "PandaGPT", "Recall")) == ["not run"]


def test_of_several_runs_the_one_that_fits_print_best_is_shown(outputs: Path) -> None:
    write_run(outputs, "otter", "ovmerd", {"M-avg": 0.1}, name="otter-dry", dry_run=True)
    write_run(outputs, "otter", "ovmerd", {"M-avg": 0.39}, name="otter-apart", subtitle="merge")
    write_run(outputs, "otter", "ovmerd", {"M-avg": 0.2}, name="otter")
    assert cell(table_of(outputs), "Otter").folder == outputs / "ovmerd" / "otter-apart"


def test_what_names_labels_by_itself_is_asked_nothing(outputs: Path) -> None:
    told = {"extractor": {"name": "lexicon"}, "answers": "labels"}
    write_run(outputs, "random", "ovmerd", {"F": 0.18}, "grouping", **told)
    found = cell(table_of(outputs, "ovmer_clues"), "Random", "F")
    assert (why(found), found.difference) == ([], pytest.approx(1))
