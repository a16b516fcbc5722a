"""Who has seen which clips in training, and that it stands in the tables."""

import csv
from importlib.resources import files
from pathlib import Path

import pytest

from ovmer.runners.config import CONF
from ovmer.runners.papers.layout import read_layout
from ovmer.runners.papers.render import markdown, tidy
from ovmer.runners.papers.results import read_results
from ovmer.runners.papers.table import make_table
from ovmer.runners.trained_on import over, seen, seen_by
from tests.runners.folders import write_run
from tests.runners.jobs import job


@pytest.mark.parametrize(
    ("baseline", "dataset", "settings", "status"),
    [
        ("r1_omni", "dfew", None, "train"),
        ("r1_omni", "ravdess", None, "test"),
        ("r1_omni", "ovmerdplus", None, "train"),
        ("humanomni", "dfew", None, "unknown"),
        ("mafw_dfew", "dfew", None, "train"),
        ("emer_sft", "ovmerd", None, "train"),
        ("human_omni_v2", "ovmerd", None, "train"),
        ("saber_llm", "meld", None, "train"),
        ("affectgpt", "ovmerd", None, "unknown"),
        ("affectgpt", "ovmerd", {"release": "ovmerd_outputhybird"}, "train"),
        ("affectgpt", "meld", None, "test"),
        ("salmonn", "iemocap", None, "train"),
        ("salmonn_trained", "sample", {"trained_on": ["sample"]}, "train"),
        ("salmonn_trained", "meld", {"trained_on": ["sample"]}, "unknown"),
        ("salmonn", "meld", None, "unknown"),
        ("video_llava", "mafw", None, "test"),
        ("qwen2_5_omni", "ravdess", None, "unknown"),
        ("my_own_model", "ravdess", None, "unknown"),
        ("lexicon", "ravdess", None, "-"),
        ("salmonn+video_llava", "iemocap", None, "train"),
    ],
)
def test_what_is_known(
    baseline: str, dataset: str, settings: dict[str, str] | None, status: str
) -> None:
    assert seen(baseline, dataset, settings).status == status


def test_no_list_says_that_clips_of_ones_own_were_not_seen(tmp_path: Path) -> None:
    (tmp_path / "anna.mp4").touch()
    assert seen_by(job("baseline=video_llava", "dataset=ovmerd").settings).answer == "no"
    assert seen_by(job("baseline=video_llava", f"clips={tmp_path}").settings).answer == "unknown"
    assert seen_by(job("baseline=random", f"clips={tmp_path}").settings).answer == "-"


def test_several_data_sets_in_a_word() -> None:
    assert over("r1_omni", ["dfew", "mafw"]) == "yes"
    assert over("r1_omni", ["dfew", "ravdess"]) == "yes, 1 of 2"
    assert over("video_llava", ["dfew", "ravdess"]) == "no"
    assert over("humanomni", ["dfew", "mafw"]) == "unknown"
    assert over("lexicon", ["dfew"]) == "-"
    assert over(None, ["dfew"]) == ""


def test_every_line_has_a_source_and_names_what_exists() -> None:
    path = files("ovmer.runners.papers").joinpath("published", "trained_on.csv")
    baselines = {each.stem for each in (CONF / "baseline").glob("*.yaml")}
    datasets = {each.stem for each in (CONF / "dataset").glob("*.yaml")} | {"emer", "*"}
    for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
        assert row["source"]
        assert row["seen"] in ("train", "test", "unknown")
        assert {each.partition(":")[0] for each in row["baselines"].split()} <= baselines, row
        assert set(row["datasets"].split()) <= datasets, row


def test_a_row_that_saw_the_clips_is_marked_and_stays(tmp_path: Path) -> None:
    figures = {"humanomni/WAR": 0.6, "humanomni/UAR": 0.5}
    for baseline in ("r1_omni", "video_llava"):
        write_run(tmp_path, baseline, "dfew", figures, "dfew", clips=11697, generation="greedy")
    table = make_table(read_layout("dfew"), read_results([tmp_path]))
    text = markdown(table)
    line = next(each for each in text.splitlines() if "| yes " in each and "R1-Omni" in each)
    assert "60.00" in line
    assert "not zero-shot (HumanMLLM/R1-Omni README, RLVR)" in text
    rows = list(csv.DictReader(tidy(table).splitlines()))
    told = {row["baseline"]: row["trained_on"] for row in rows if row["ours"]}
    assert told == {"r1_omni": "yes", "video_llava": "no"}
