"""From folders and tables to clips: what is found, what is missing, what is refused."""

import csv
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.data import Clip, read_dataset
from ovmer.runners.data.finder import looser_matches
from tests.runners.jobs import job

REPOSITORY = Path(__file__).parents[2]
OVMERD = job("dataset=ovmerd").settings.dataset

Rows = Sequence[Sequence[str]]
Read = Callable[..., list[Clip]]


def write_csv(path: Path, rows: Rows, encoding: str = "utf-8") -> None:
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three clips: `a` has everything, `b` no wav, `c` nothing at all."""
    for file in ("video/a.mp4", "video/b.mp4", "audio/a.wav", "openface_face/a/a.npy"):
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    subtitles = [["a", "你好", "Hello."], ["b", "", ""], ["c", "好", "nan"], ["z", "多", "more"]]
    write_csv(tmp_path / "subtitle_chieng.csv", [["name", "chinese", "english"], *subtitles])
    labels = [["a", "['happy', 'calm']"], ["b", "[]"], ["c", "angry, sad"]]
    write_csv(tmp_path / "track2_train_ovmerd.csv", [["name", "openset"], *labels])
    return tmp_path


@pytest.fixture
def read(root: Path) -> Read:
    return lambda **changes: read_dataset({**OVMERD, "root": str(root), **changes})


def names(clips: list[Clip]) -> list[str]:
    return [clip.name for clip in clips]


def test_a_clip_holds_what_is_there(root: Path, read: Read) -> None:
    a, b, c = read()
    video, other = root / "video" / "a.mp4", root / "video" / "b.mp4"
    assert a == Clip("a", video, root / "audio/a.wav", None, "Hello.", ("happy", "calm"))
    # No wav: the video's sound track is meant. No labels: the authors' neutral.
    assert b == Clip("b", other, other, None, "", ("neutral",))
    assert c == Clip("c", None, None, None, "", ("angry", "sad"))


def test_faces_are_looked_for_when_asked_for(root: Path, read: Read) -> None:
    a, b, _ = read(visual="face")
    assert a.face == root / "openface_face" / "a" / "a.npy"
    assert a.video == root / "video" / "a.mp4"
    assert b.face is None


def test_the_language_is_a_column(read: Read) -> None:
    assert [clip.subtitle for clip in read(language="chinese")] == ["你好", "", "好"]


@pytest.mark.parametrize("cell", ["", "nan", "NaN", "NA", "N/A", "None", "null", "#N/A", "<NA>"])
def test_what_pandas_takes_for_missing_is_missing(root: Path, read: Read, cell: str) -> None:
    write_csv(root / "subtitle_chieng.csv", [["name", "english"], *([n, cell] for n in "abc")])
    write_csv(root / "track2_train_ovmerd.csv", [["name", "openset"], *([n, cell] for n in "abc")])
    assert {(clip.subtitle, clip.labels) for clip in read()} == {("", ("neutral",))}


def test_other_words_are_no_missing_values(root: Path, read: Read) -> None:
    write_csv(root / "subtitle_chieng.csv", [["name", "english"], *([n, "none"] for n in "abc")])
    assert {clip.subtitle for clip in read()} == {"none"}


def test_the_layout_is_configuration(root: Path, read: Read) -> None:
    (root / "openface_face" / "b.npy").touch()
    (root / "subvideo-tgt").mkdir()
    (root / "subvideo-tgt" / "b.avi").touch()
    write_csv(root / "subtitle_eng.csv", [["sentence", "key"], ["Hi.", "b"]])
    write_csv(root / "ovlabel.csv", [["key", "emo"], ["b", "sad"]])
    (clip,) = read(
        visual="face",
        video=["video/{name}.mkv", "subvideo-tgt/{name}.mp4", "subvideo-tgt/{name}.avi"],
        face=["openface_face/{name}.npy"],
        subtitle={"file": "subtitle_eng.csv", "key": "key", "columns": {"english": "sentence"}},
        labels={"file": "ovlabel.csv", "key": "key", "column": "emo"},
    )
    assert clip.video == root / "subvideo-tgt" / "b.avi"
    assert clip.face == root / "openface_face" / "b.npy"
    assert (clip.subtitle, clip.labels) == ("Hi.", ("sad",))


def test_the_first_pattern_that_is_there_wins(root: Path, read: Read) -> None:
    (root / "video" / "a.avi").touch()
    assert read()[0].video == root / "video" / "a.mp4"


def test_candidates_have_no_truth(root: Path, read: Read) -> None:
    write_csv(root / "track_all_candidates.csv", [["name"], ["c"], ["a"]])
    clips = read(labels={"file": "track_all_candidates.csv", "column": None})
    assert [(clip.name, clip.labels) for clip in clips] == [("c", ()), ("a", ())]


def test_filters_and_limit(read: Read) -> None:
    assert names(read(limit=2)) == ["a", "b"]
    assert names(read(clips=["c", "a"])) == ["a", "c"]
    assert names(read(clips=["[bc]"], limit=1)) == ["b"]


def test_a_name_may_look_like_a_pattern(root: Path, read: Read) -> None:
    odd = "[x] *? 字幕\n\"q\" 'q'"
    write_csv(root / "subtitle_chieng.csv", [["name", "english"], [odd, 'two\nlines, "quoted"']])
    write_csv(root / "track2_train_ovmerd.csv", [["name", "openset"], [odd, "sad"]])
    (root / "video" / f"{odd}.mp4").touch()
    (clip,) = read(clips=[odd])
    assert clip.video == root / "video" / f"{odd}.mp4"
    assert clip.subtitle == 'two\nlines, "quoted"'


def test_a_byte_order_mark_is_no_part_of_a_column(root: Path, read: Read) -> None:
    rows = [["name", "openset"], ["a", "sad"]]
    write_csv(root / "track2_train_ovmerd.csv", rows, encoding="utf-8-sig")
    assert names(read()) == ["a"]


def test_unchecked_files_are_where_they_should_be(root: Path, read: Read) -> None:
    *_, c = read(check_files=False, visual="face")
    assert c.video == root / "video" / "c.mp4"
    assert c.audio == root / "audio" / "c.wav"
    assert c.face == root / "openface_face" / "c" / "c.npy"


def test_unchecked_files_are_not_looked_at(
    root: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object) -> None:
        raise AssertionError(f"{path} was listed")

    monkeypatch.setattr(os, "scandir", refuse)
    assert len(read(check_files=False)) == 3
    with pytest.raises(AssertionError, match="video was listed"):
        read()


def test_an_identical_subtitle_twice_is_one(root: Path, read: Read) -> None:
    rows = [["name", "english"], ["a", "Hi."], ["a", "Hi."], ["b", ""], ["c", ""], ["z", "1"]]
    write_csv(root / "subtitle_chieng.csv", [*rows, ["z", "2"]])  # z is no clip of this data set
    assert read()[0].subtitle == "Hi."
    write_csv(root / "subtitle_chieng.csv", [*rows, ["a", "Ho."]])
    with pytest.raises(PrerequisiteError, match="two different subtitles for 'a'"):
        read()


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a/b", "a\\b", "..", ".", "", "a\0b"])
def test_names_that_leave_the_folder(root: Path, read: Read, name: str) -> None:
    rows = [["name", "openset"], ["a", "sad"], [name, "sad"]]
    write_csv(root / "track2_train_ovmerd.csv", rows)
    with pytest.raises(PrerequisiteError, match=r"ovmerd\.csv: .* cannot be the name of a clip"):
        read()


WRONG_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"langage": "english"}, "dataset.langage is no key of a data set; did you mean language"),
    ({"labels": {"file": "x.csv", "colum": "a"}}, "dataset.labels.colum is no key .* mean column"),
    ({"language": "french"}, r"dataset.language: Invalid value 'french', expected .*chinese"),
    ({"visual": "faces"}, r"dataset.visual: Invalid value 'faces', expected one of \[frame, face"),
    ({"limit": "many"}, "dataset.limit: Value 'many'"),
    ({"limit": 0}, "dataset.limit is 0; give at least 1, or null"),
    ({"clips": "a"}, "dataset.clips: give a list, in brackets"),
    ({"clips": ["aa"]}, "dataset.clips: no clip is called 'aa'; there are, for instance, a"),
    ({"clips": ["x*"]}, "no clip is called 'x.'; there are, for instance, a, b, c"),
    ({"video": ["video/a.mp4"]}, "dataset.video: 'video/a.mp4' lacks {name}"),
    ({"root": "???"}, "dataset.root is not set; it is the folder of the tables and media"),
    ({"root": "/nowhere/at/all"}, "dataset.root: there is no folder /nowhere/at/all"),
    ({"labels": {"file": "gone.csv"}}, r"there is no file .*/gone\.csv"),
    (
        {"labels": {"file": "track2_train_ovmerd.csv", "column": "labels"}},
        "ovmerd.csv has no column 'labels'; its header holds name, openset",
    ),
    (
        {"subtitle": {"file": "subtitle_chieng.csv", "columns": {"english": "sentence"}}},
        "chieng.csv has no column 'sentence'; its header holds name, chinese, english",
    ),
    (
        {"language": "chinese", "subtitle": {"file": "s.csv", "columns": {"english": "english"}}},
        "dataset.language is chinese, but ovmerd has subtitles in english only",
    ),
    (
        {"audio": ["subaudio/{name}.wav"]},
        r"should have a folder .*/subaudio .*; set dataset.audio=\[\] to go without",
    ),
    ({"visual": "face", "face": ["faces/{name}.npy"]}, "should have a folder .*/faces"),
]


@pytest.mark.parametrize(("changes", "sentence"), WRONG_SETTINGS)
def test_one_sentence_for_wrong_settings(
    read: Read, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(PrerequisiteError, match=sentence) as caught:
        read(**changes)
    assert "\n" not in str(caught.value)


WRONG_TABLES: list[tuple[bytes, str]] = [
    (b"name,openset\na,sad\na,sad\n", "holds the name 'a' twice"),
    (b"name,openset\n", "holds no clips"),
    (b"", "is empty"),
    (b"name,openset\na,sad,happy\n", "line 2: 3 cells where the header has 2; is a comma not"),
    (b'name,openset\na,"sad\nb,happy\n', "line 3: unexpected end of data"),
    (b"name,openset\na,\xff\xfe\n", "is not UTF-8 text"),
    (b"name,openset\nd,sad\n", "chieng.csv has no row for 1 of 1 clips, the first 'd'"),
]


@pytest.mark.parametrize(("table", "sentence"), WRONG_TABLES)
def test_one_sentence_for_wrong_tables(root: Path, read: Read, table: bytes, sentence: str) -> None:
    (root / "track2_train_ovmerd.csv").write_bytes(table)
    with pytest.raises(PrerequisiteError, match=sentence) as caught:
        read()
    assert ".csv" in str(caught.value)


def test_a_short_row_has_missing_cells(root: Path, read: Read) -> None:
    (root / "track2_train_ovmerd.csv").write_bytes(b"name,openset\na\n\nb,sad\n")
    assert [(clip.name, clip.labels) for clip in read()] == [("a", ("neutral",)), ("b", ("sad",))]


def test_twenty_thousand_clips_are_read(tmp_path: Path) -> None:
    clips = [f"sample_{number:08d}" for number in range(20_000)]
    rows = ([name, "你怎么现在才来", "Why are you only here now?"] for name in clips)
    write_csv(tmp_path / "subtitle_chieng.csv", [["name", "chinese", "english"], *rows])
    labels = ([name, "['anxious', 'relieved']"] for name in clips)
    write_csv(tmp_path / "track2_train_ovmerd.csv", [["name", "openset"], *labels])
    settings = {**OVMERD, "root": str(tmp_path), "check_files": False}
    assert len(read_dataset(settings)) == 20_000


def test_reading_a_data_set_imports_nothing_heavy() -> None:
    code = (
        "import sys; import ovmer.runners.data.reader, ovmer.runners.scoring.parsing;"
        "print([m for m in ('torch', 'pandas', 'decord', 'librosa', 'av') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_near_names_are_found_by_looser_rules(root: Path, read: Read) -> None:
    (root / "video" / "a.mp4").rename(root / "video" / "A.MP4")
    (root / "video" / "b.mp4").rename(root / "video" / "b.MKV")
    (root / "audio" / "a.wav").rename(root / "audio" / "a.Wav")
    a, b, c = read()
    assert a.video == root / "video" / "A.MP4"
    assert a.audio == root / "audio" / "a.Wav"
    assert b.video == root / "video" / "b.MKV"
    assert c.video is None


def test_unicode_forms_and_endings_in_the_table_are_near(root: Path, read: Read) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    rows = [[composed, "x"], ["b.mp4", "y"]]
    write_csv(root / "subtitle_chieng.csv", [["name", "english"], *rows])
    write_csv(root / "track2_train_ovmerd.csv", [["name", "openset"], *rows])
    (root / "video" / f"{decomposed}.mp4").touch()
    assert [clip.video and clip.video.name for clip in read()] == [f"{decomposed}.mp4", "b.mp4"]


def test_two_near_names_are_an_error(root: Path, read: Read) -> None:
    (root / "video" / "a.mp4").rename(root / "video" / "A.mp4")
    (root / "video" / "a.MP4").touch()
    with pytest.raises(PrerequisiteError, match=r"'a' could be video/A.mp4 and video/a.MP4 in"):
        read()


def test_a_folder_that_was_unpacked_into_itself(root: Path, read: Read) -> None:
    (root / "video").rename(root / "inner")
    (root / "video").mkdir()
    (root / "inner").rename(root / "video" / "video")
    assert read()[0].video == root / "video" / "video" / "a.mp4"


def test_a_file_named_by_its_row_is_no_looser_match(tmp_path: Path) -> None:
    files = [("video", "0", tmp_path / "videos" / "00012.mp4")]
    assert not list(looser_matches(tmp_path, {"video": ["videos/{file}"]}, files))


def test_looser_matches_are_counted(root: Path) -> None:
    patterns = {"video": ["video/{name}.mp4"]}
    files = [
        ("video", "a", root / "video" / "A.MP4"),
        ("video", "b", root / "video" / "B.mp4"),
        ("video", "c", root / "video" / "c.mp4"),
    ]
    assert list(looser_matches(root, patterns, files)) == [
        "2 video files were found in other case or Unicode form, e.g. video/A.MP4 for 'a'"
    ]
