"""Benchmarks in their releases' layouts: what is read, what is asked, and bad input."""

import json
import shutil
from pathlib import Path

import pytest

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.data import Clip, read_dataset
from ovmer.runners.data.rows import Rows, read_rows
from ovmer.runners.job import Job
from tests.data import benchmark_layouts as layouts
from tests.runners.jobs import job


def read(dataset: str, data_root: Path, *overrides: str) -> tuple[Job, list[Clip]]:
    made = job(f"dataset={dataset}", f"data_root={data_root}", "baseline=scripted", *overrides)
    return made, read_dataset(made.settings.dataset)


@pytest.mark.parametrize("dataset", layouts.LAYOUTS)
def test_each_layout_is_read_asked_about_and_scored(dataset: str, tmp_path: Path) -> None:
    from ovmer.runners.scoring import make_metric

    folder, write = layouts.LAYOUTS[dataset]
    write(tmp_path / folder)
    made, clips = read(dataset, tmp_path)
    assert clips
    for clip in clips:
        assert clip.video is not None
        assert clip.video.is_file()
        assert clip.labels
        asked = made.task.ask(clip, clip.subtitle)
        assert asked
        assert "{" not in asked.replace("{'", "")
        assert "<video>" not in asked
    metric = make_metric(made.settings.metric)
    truth = {clip.name: metric.truth_of(clip) for clip in clips}
    scores = metric.score(dict.fromkeys(truth, "happy, sad <answer>B</answer>"), truth)
    assert scores.n_clips == len(clips)


def test_folds_of_dfew(tmp_path: Path) -> None:
    layouts.dfew(tmp_path / "DFEW")
    _, everything = read("dfew", tmp_path)
    assert len(everything) == 15
    _, third = read("dfew", tmp_path, "dataset.rows.fold=3")
    assert [(clip.name, clip.labels) for clip in third] == [
        ("7", ("happy",)), ("8", ("sad",)), ("9", ("fear",)),
    ]  # fmt: skip


def test_ravdess_takes_speech_with_sound_and_folds_by_actor(tmp_path: Path) -> None:
    layouts.ravdess(tmp_path / "RAVDESS")
    _, everything = read("ravdess", tmp_path)
    assert len(everything) == 16
    assert all(clip.name.startswith("01-01-") for clip in everything)
    _, second = read("ravdess", tmp_path, "dataset.rows.fold=2")
    assert {clip.name[-2:] for clip in second} == {"05"}
    assert [clip.labels[0] for clip in second][:3] == ["neutral", "calm", "happy"]


def test_the_question_of_a_clip_and_of_its_type(tmp_path: Path) -> None:
    layouts.intentbench(tmp_path / "IntentBench")
    made, clips = read("intentbench", tmp_path)
    asked = [made.task.ask(clip, None) for clip in clips]
    assert asked[0] == (
        "Why does she smile? Options:\nA. A joke\nB. A gift\n Please provide only the single "
        "option letter (e.g., A, B, C, D, etc.) within the <answer> </answer> tags."
    )
    assert asked[1] == "Is he lying? Please answer Yes or No within the <answer> </answer> tags."
    layouts.mmla(tmp_path / "MMLA", "MELD", "emotion", ["joy"])
    made, (clip,) = read("mmla_meld", tmp_path)
    assert made.task.ask(clip, clip.subtitle) == (
        "You are presented with a video in which the speaker says: These are words 0.. Based on "
        "the text, video, and audio content, what is the emotion of this speaker?\nThe candidate "
        "labels for emotion are: [neutral, surprise, fear, sadness, joy, anger, disgust].Respond "
        "in the format: 'emotion: [label]'.  Only one label should be provided."
    )


def test_a_fold_without_its_videos_is_read_and_says_so(tmp_path: Path) -> None:
    layouts.dfew(tmp_path / "DFEW")
    for video in (tmp_path / "DFEW/Clip/original").iterdir():
        video.unlink()
    _, clips = read("dfew", tmp_path)
    assert all(clip.video is None for clip in clips)


@pytest.mark.parametrize(
    ("dataset", "moves"),
    [
        ("dfew", {"DFEW/Clip/original/1.mp4": "DFEW/Clip/clip_224x224_avi/00001.avi"}),
        ("mafw", {"MAFW/clips": "MAFW/data/clips"}),
        ("ravdess", {"RAVDESS/Actor_01": "RAVDESS/Video_Speech_Actor_01/Actor_01"}),
        (
            "emobench_m_mosi",
            {"EmoBench-M/dataset/MOSI/videos": "EmoBench-M/videos"},  # one folder for all sets
        ),
    ],
)
def test_another_version_of_the_archive(
    dataset: str, moves: dict[str, str], tmp_path: Path
) -> None:
    folder, write = layouts.LAYOUTS[dataset]
    write(tmp_path / folder)
    for old, new in moves.items():
        (tmp_path / new).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / old).rename(tmp_path / new)
    if dataset == "ravdess":
        shutil.rmtree(tmp_path / "RAVDESS/Actor_05")
    _, clips = read(dataset, tmp_path)
    assert clips[0].video is not None


def test_a_label_of_another_file(tmp_path: Path) -> None:
    layouts.dfew(tmp_path / "DFEW", labels=(0,))
    with pytest.raises(PrerequisiteError, match=r"row 1: the label is '0', but .* happy, sad"):
        read("dfew", tmp_path)


def test_fields_that_were_not_seen_before_are_named(tmp_path: Path) -> None:
    layouts.mme_emotion(tmp_path / "MME-Emotion")
    path = tmp_path / "MME-Emotion/ER-Lab.json"
    (item,) = json.loads(path.read_text())
    del item["question"]
    path.write_text(json.dumps([item | {"instruction": "What?"}]))
    with pytest.raises(PrerequisiteError, match="no question: none of question, prompt; it has"):
        read("mme_emotion_er_lab", tmp_path)
    _, clips = read("mme_emotion_er_lab", tmp_path, "dataset.rows.question=[instruction]")
    assert clips[0].question == "What?"


def test_a_line_of_json_may_hold_a_line_separator(tmp_path: Path) -> None:
    row = {"clip": "a.mp4", "question": "Why?\u2028Say it."}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", "utf-8")
    wanted = Rows(file=["rows.jsonl"], media=["clip"], question=["question"])
    (found,) = read_rows(tmp_path, wanted, [])
    assert (found.name, found.question) == ("a", row["question"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("dataset.rows.fold=6",), r"dataset.rows.fold is '6'; it is 1, 2, 3, 4, 5, all"),
        (("dataset.rows.file=[other.csv]",), "holds no other.csv; is dataset.root the folder"),
        (("dataset.rows.media=[clip]",), "no media: none of clip; it has video_name, label"),
    ],
)
def test_mistakes_are_one_sentence(
    overrides: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    layouts.dfew(tmp_path / "DFEW")
    with pytest.raises(PrerequisiteError, match=message):
        read("dfew", tmp_path, *overrides)
