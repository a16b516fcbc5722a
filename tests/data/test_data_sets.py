"""Every shipped data set, in its authors' layout: what is read, and what is refused."""

import csv
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.config import CONF
from ovmer.runners.data import read_dataset
from ovmer.runners.object_arrays import read_member
from tests.data.layouts import names_of, settings_of, write_dataset, write_labels
from tests.runners.jobs import job

FILES = sorted((CONF / "dataset").glob("*.yaml"))
BY_ROWS = [path.stem for path in FILES if "rows:" in path.read_text("utf-8")]  # test_rows.py
NAMES = [path.stem for path in FILES if path.stem not in ("sample", *BY_ROWS)]
EMOTIONS = ("angry", "happy", "sad", "worried", "surprise", "neutral")


@pytest.mark.parametrize("name", NAMES)
def test_it_is_read_in_its_own_layout(name: str, tmp_path: Path) -> None:
    root = write_dataset(tmp_path, name)
    settings = settings_of(name) | {"root": str(root), "visual": "face"}
    clips = read_dataset(settings)
    assert [clip.name for clip in clips] == names_of(name, 6)
    for clip in clips:
        assert clip.video is not None
        assert clip.audio is not None
        assert clip.face is not None
    assert clips[-1].subtitle == ""
    assert clips[0].subtitle == ("你在开玩笑吗" if name == "mer2024" else "Are you kidding?")
    unlabelled = settings["labels"]["column"] is None
    assert all(bool(clip.labels) != unlabelled for clip in clips if name not in OPEN_AND_EMPTY)
    assert bool(settings["submission"]) == unlabelled


OPEN_AND_EMPTY = ("mer2025ov", "mer2026_human")  # no loader that fills empty lists is known


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("mer2023", EMOTIONS),
        ("mer2024", EMOTIONS),
        ("meld", ("anger", "joy", "sadness", "neutral", "disgust", "fear")),
        ("iemocap", ("happy", "sad", "neutral", "anger", "happy", "sad")),
        ("cmumosi", ("-3.0", "-1.5", "0.0", "1.5", "3.0", "-3.0")),
        ("sims", ("-1.0", "-0.5", "0.0", "0.5", "1.0", "-1.0")),
    ],
)
def test_labels_are_words_or_numbers(name: str, labels: tuple[str, ...], tmp_path: Path) -> None:
    settings = settings_of(name) | {"root": str(write_dataset(tmp_path, name))}
    assert tuple(clip.labels[0] for clip in read_dataset(settings)) == labels


@pytest.mark.parametrize(
    ("name", "metric", "target"),
    [
        ("ovmerd", "wheel", "labels"),
        ("ovmerdplus", "unibench_ov", "labels"),
        ("mer2023", "hit_rate", "labels"),
        ("meld", "hit_rate", "labels"),
        ("cmumosei", "sentiment", "sentiment"),
        ("mer2025", "mer2025_track2", "labels"),
        ("mer2026_track1", "single_label", "basic_emotion"),
        ("mer2026_track2", "mer2026_track2", "labels"),
    ],
)
def test_a_data_set_brings_its_metric_and_what_is_asked_for(name, metric, target) -> None:
    settings = job(f"dataset={name}", "extractor=qwen25").settings
    assert (settings.metric["name"], settings.extractor["target"]) == (metric, target)
    assert job(f"dataset={name}", "metric=grouping").settings.metric["name"] == "grouping"


def test_all_follow_one_folder_and_one_limit() -> None:
    settings = job("dataset=meld", "data_root=/data", "limit=4").settings.dataset
    assert (settings["root"], settings["limit"]) == ("/data/meld-process", 4)


@pytest.mark.parametrize(
    ("name", "entry", "sentence"),
    [
        (
            "mer2023",
            {"emo": "joyful"},
            "'joyful', but in this data set it is one of neutral",
        ),
        ("mer2023", {"emo": 3}, "is 3, but"),
        ("meld", {"emo": 7}, r"is 7, but .* one of 0 anger, 1 joy"),
        ("meld", {"emo": "-1"}, "is '-1', but"),
        ("cmumosi", {"val": 3.2}, "is 3.2, but in this data set it is a number from -3 to 3"),
        ("cmumosi", {"val": float("nan")}, "is nan, but"),
        ("sims", {"val": "positive"}, "is 'positive', but .* a number from -1 to 1"),
        ("sims", {"emo": 0}, r"clip 'a' has no 'val'; it holds emo"),
        ("sims", None, "holds no emo and val"),
    ],
)
def test_labels_outside_the_space_are_refused(
    name: str, entry: Any, sentence: str, tmp_path: Path
) -> None:
    root = write_dataset(tmp_path, name)
    table = settings_of(name)["labels"]
    np.savez(root / table["file"], **{table["split"]: np.array({"a": entry}, dtype=object)})
    with pytest.raises(PrerequisiteError, match=sentence) as caught:
        read_dataset(settings_of(name) | {"root": str(root)})
    assert str(root / table["file"]) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is no npz file"),
        (b"PK\x03\x04 cut", "is no npz file .*; was it cut"),
        (None, "there is no file"),
    ],
)
def test_a_broken_label_file_is_one_sentence(
    content: bytes | None, sentence: str, tmp_path: Path
) -> None:
    path = write_dataset(tmp_path, "meld") / "label.npz"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(PrerequisiteError, match=sentence):
        read_dataset(settings_of("meld") | {"root": str(path.parent)})


def test_the_wrong_split_says_which_there_are(tmp_path: Path) -> None:
    root = write_dataset(tmp_path, "meld")
    labels = settings_of("meld")["labels"] | {"split": "test1_corpus"}
    with pytest.raises(PrerequisiteError, match="no split 'test1_corpus'; it holds test_corpus"):
        read_dataset(settings_of("meld") | {"root": str(root), "labels": labels})


class _Command:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return eval, ("print('code of the file was run')",)


def test_a_label_file_runs_no_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_dataset(tmp_path, "meld")
    evil = np.array({"a": {"emo": _Command()}}, dtype=object)
    np.savez(root / "label.npz", test_corpus=evil)
    with pytest.raises(PrerequisiteError, match=r"no file of labels \(it asks for builtins.eval"):
        read_dataset(settings_of("meld") | {"root": str(root)})
    assert capsys.readouterr().out == ""


def test_older_pickles_are_read(tmp_path: Path) -> None:
    """Python 2's protocol, and numpy before its version 2, in which the published files are."""
    corpus = {"a": {"emo": 1, "val": np.float32(0.5)}}
    head = b"\x93NUMPY\x01\x00"
    text = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    text += b" " * (117 - len(text)) + b"\n"
    content = head + len(text).to_bytes(2, "little") + text
    old = pickle.dumps(np.array(corpus, dtype=object), 2).replace(b"numpy._core", b"numpy.core")
    assert read_member(content + old) == corpus


def test_other_column_names_are_reported_with_those_found(tmp_path: Path) -> None:
    root = write_dataset(tmp_path, "ovmerdplus")
    with (root / "subtitle_eng.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["name", "english"], ["a", "Hi."]])
    with pytest.raises(
        PrerequisiteError, match="no column 'sentence'; its header holds name, english"
    ):
        read_dataset(settings_of("ovmerdplus") | {"root": str(root)})


def test_half_a_download_is_reported_by_the_folder_that_is_missing(tmp_path: Path) -> None:
    root = write_dataset(tmp_path, "cmumosei")
    (root / "subvideo_new").rename(root / "subvideo")
    with pytest.raises(PrerequisiteError, match=r"should have a folder .*subvideo_new"):
        read_dataset(settings_of("cmumosei") | {"root": str(root)})


def test_clips_of_other_sessions_are_left_out(tmp_path: Path) -> None:
    root = write_dataset(tmp_path, "iemocap", clips=1)
    (clip,) = read_dataset(settings_of("iemocap") | {"root": str(root)})
    assert clip.name == "Ses05F_impro01_F000"
    write_labels(root, settings_of("iemocap")["labels"], ["Ses04F_impro01_F000"])
    with pytest.raises(PrerequisiteError, match="holds no clips"):
        read_dataset(settings_of("iemocap") | {"root": str(root)})
