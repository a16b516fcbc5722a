"""`clips=`: a folder or a table of the user's own, what is understood, and what is refused."""

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

import pytest

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.data import Clip, read_dataset
from ovmer.runners.data.reader import understood
from tests.runners.jobs import job


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six files that are no real media, which a listing does not open."""
    root = tmp_path / "my videos"
    for file in ("anna.mp4", "deep/er/bo.MOV", "carl.mkv", "carl.wav", "talk.mp3", "notes.txt"):
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def read(clips: Path, *overrides: str) -> list[Clip]:
    return read_dataset(job(f"clips={clips}", *overrides).settings.dataset)


def table(folder: Path, text: str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_folder_gives_a_clip_for_each_video_and_each_sound_without_one(folder: Path) -> None:
    bo, carl = folder / "deep/er/bo.MOV", folder / "carl.mkv"
    assert read(folder) == [
        Clip("anna", folder / "anna.mp4", folder / "anna.mp4", None, None, ()),
        Clip("carl", carl, folder / "carl.wav", None, None, ()),
        Clip("deep/er/bo", bo, bo, None, None, ()),
        Clip("talk", None, folder / "talk.mp3", None, None, ()),
    ]


def test_files_that_differ_in_their_ending_alone_keep_it(folder: Path) -> None:
    (folder / "anna.mov").touch()
    assert [clip.name for clip in read(folder)][:2] == ["anna.mov", "anna.mp4"]


def test_hidden_files_are_no_clips_and_links_do_not_go_in_circles(folder: Path) -> None:
    (folder / "._anna.mp4").touch()
    os.symlink(folder, folder / "deep" / "again")
    assert len(read(folder)) == 4


def test_limit_and_names_select_as_in_a_data_set(folder: Path) -> None:
    assert [clip.name for clip in read(folder, "limit=2")] == ["anna", "carl"]
    assert [clip.name for clip in read(folder, "dataset.clips=[deep/*]")] == ["deep/er/bo"]


def test_what_was_understood_is_said_in_one_sentence(folder: Path) -> None:
    said = understood(job(f"clips={folder}").settings.dataset)
    assert said == (
        "3 videos; 1 sound files alone; 1 of them in subfolders; no subtitles and no truth, so "
        "labels are counted and not scored; 1 other files left aside (.txt)"
    )


CSV = (
    "name,video,subtitle,labels,question,choices,mood\n"
    'first,anna.mp4,"Well, well.","[""happy"", ""calm""]",Why?,yes|no,x\n'
    'second,deep/er/bo.MOV,,"sad, angry",,,y\n'
)


def test_a_table_fills_every_part_of_a_clip(folder: Path) -> None:
    path = table(folder, CSV)
    anna, bo = folder / "anna.mp4", folder / "deep/er/bo.MOV"
    assert read(path) == [
        Clip("first", anna, anna, None, "Well, well.", ("happy", "calm"), "Why?", ("yes", "no")),
        Clip("second", bo, bo, None, None, ("sad", "angry")),
    ]
    assert understood(job(f"clips={path}").settings.dataset) == (
        "2 rows; name from 'name'; video from 'video'; subtitle from 'subtitle'; labels from "
        "'labels'; question from 'question'; choices from 'choices'; 1 without subtitle; "
        "1 without question; 1 without choices; unused: mood"
    )


@pytest.mark.parametrize("kind", ["tsv", "jsonl", "json", "parquet"])
def test_every_kind_of_table_says_the_same(folder: Path, kind: str) -> None:
    rows = [{"video": "anna.mp4", "labels": ["happy"], "choices": ["a, b", "c"]}]
    path = folder / f"table.{kind}"
    if kind == "tsv":
        path.write_text('video\tlabels\tchoices\nanna.mp4\thappy\t["a, b", "c"]\n', "utf-8")
    elif kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    elif kind == "json":
        path.write_text(json.dumps(rows), "utf-8")
    else:
        arrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(arrow.Table.from_pylist(rows), path)
    anna = folder / "anna.mp4"
    assert read(path) == [
        Clip("anna", anna, anna, None, None, ("happy",), choices=("a, b", "c")),
    ]


def test_a_table_without_names_calls_clips_after_their_files(folder: Path) -> None:
    path = table(folder, "video,question\nanna.mp4,one?\nanna.mp4,two?\ncarl.mkv,three?\n")
    assert [clip.name for clip in read(path)] == ["anna", "anna-2", "carl"]


def test_a_table_of_words_alone_numbers_its_clips(folder: Path) -> None:
    path = table(folder, "subtitle\nI am glad.\nGo away!\n")
    assert [(clip.name, clip.subtitle) for clip in read(path)] == [
        ("1", "I am glad."),
        ("2", "Go away!"),
    ]


def test_columns_may_have_other_names(folder: Path) -> None:
    path = table(folder, "path,said\nanna.mp4,Hello.\n")
    (clip,) = read(path, "columns.video=path", "columns.subtitle=said")
    assert (clip.video, clip.subtitle) == (folder / "anna.mp4", "Hello.")


def test_the_subtitle_follows_the_language(folder: Path) -> None:
    path = table(folder, "video,subtitle_en,subtitle_zh\nanna.mp4,Good.,好\n")
    assert read(path)[0].subtitle == "Good."
    assert read(path, "dataset.language=chinese")[0].subtitle == "好"


def test_semicolons_may_part_the_cells(folder: Path) -> None:
    path = table(folder, 'video;subtitle\nanna.mp4;"Well, well; well."\n')
    (clip,) = read(path)
    assert (clip.name, clip.subtitle) == ("anna", "Well, well; well.")


def test_cells_may_be_longer_than_the_csv_module_takes(folder: Path) -> None:
    path = table(folder, f"video,subtitle\nanna.mp4,{'a' * 200_000}\n")
    assert len(read(path)[0].subtitle or "") == 200_000


def test_bytes_in_a_parquet_become_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    rows = [{"video": {"bytes": b"a video", "path": "x.webm"}}, {"video": {"bytes": b"another"}}]
    parquet.write_table(arrow.Table.from_pylist(rows), folder / "t.parquet")
    first, second = read(folder / "t.parquet")
    assert first.video is not None
    assert first.video.read_bytes() == b"a video"
    assert first.video.suffix == ".webm"
    assert second.video is not None
    assert second.video.read_bytes() == b"another"


WRONG_TABLES = [
    ("video\nno.mp4\nnot.mp4\n", [], "none of the 2 files in the column 'video'.*no.mp4"),
    ("name,video\na,anna.mp4\na,carl.mkv\n", [], "rows 1 and 2 have the name 'a'"),
    ("name,video\n,anna.mp4\nb,carl.mkv\n", [], "row 1 has no name"),
    ("path,mood\nanna.mp4,x\n", [], "none is called video, audio or subtitle.*columns.video=path"),
    ("my file,mood\nanna.mp4,x\n", [], "columns.subtitle=.*'columns.video=my file'"),
    ("video\nanna.mp4\n", ["columns.audio=sound"], "columns.audio=sound.*has no such column"),
    (
        "file\nanna.mp4\n",
        ["columns.video=file", "columns.audio=file"],
        "'file' of .* is taken for video and audio",
    ),
    ("video\n", [], "holds no rows"),
    ("video,subtitle\nanna.mp4,a,b\n", [], "line 2: 3 cells where the header has 2"),
]


@pytest.mark.parametrize(("text", "overrides", "sentence"), WRONG_TABLES)
def test_one_sentence_for_a_wrong_table(
    folder: Path, text: str, overrides: list[str], sentence: str
) -> None:
    path = table(folder, text)
    with pytest.raises(PrerequisiteError, match=sentence) as caught:
        read(path, *overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16", "utf-16-le"])
def test_a_wrong_encoding_is_named_with_the_way_to_convert_it(folder: Path, encoding: str) -> None:
    path = folder / "table.csv"
    words = (
        "Hello." if encoding == "utf-16-le" else "我很高兴见到你"
    )  # there the bytes are UTF-8, too
    path.write_text(f"video,subtitle\nanna.mp4,{words}\n", encoding=encoding)
    with pytest.raises(PrerequisiteError, match=f"probably {encoding}.*iconv -f {encoding}"):
        read(path)


@pytest.mark.parametrize("encoding", ["gb18030", "cp1252"])
def test_umlauts_in_either_encoding_are_not_taken_for_the_other(folder, encoding):
    path = folder / "table.csv"
    path.write_text("video,subtitle\nanna.mp4,früh geöffnet\n", encoding=encoding)
    with pytest.raises(PrerequisiteError, match=f"probably {encoding}"):
        read(path)


def test_a_folder_without_media_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match="is an empty folder"):
        read(tmp_path)
    (tmp_path / "a.jpg").touch()
    (tmp_path / "clips.csv").touch()
    with pytest.raises(PrerequisiteError, match=r"2 files \(.jpg, .csv\).*say clips=.*clips.csv"):
        read(tmp_path)


def test_what_cannot_be_meant_is_refused(folder: Path) -> None:
    with pytest.raises(PrerequisiteError, match="both say which clips"):
        job(f"clips={folder}", "dataset=sample")
    with pytest.raises(PrerequisiteError, match="both say which clips"):
        job(f"clips={folder}", "dataset=meld", "data_root=/data")
    with pytest.raises(PrerequisiteError, match="there is no such folder or file"):
        job("clips=nowhere")
    with pytest.raises(PrerequisiteError, match=r"columns.video=x is about a table"):
        job(f"clips={folder}", "columns.video=x")
    with pytest.raises(PrerequisiteError, match="add clips=TABLE"):
        job("columns.video=x")


def test_two_folders_of_one_name_are_not_mixed(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / folder.name
    other.mkdir(parents=True)
    (other / "a.mp4").touch()
    first, second = (job(f"clips={each}").folder for each in (folder, other))
    assert first.parent != second.parent
    assert first.parent.name.startswith("my_videos-")


def calls_of(read_all: Callable[[], object]) -> int:
    """How many functions are called, Python's own among them."""
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        read_all()
    finally:
        sys.setprofile(None)
    return calls


def test_four_times_the_files_take_four_times_the_work(tmp_path: Path) -> None:
    work = []
    for number in (50, 200):
        root = tmp_path / f"{number}"
        for file in range(number):
            path = root / f"{file % 7}" / f"{file}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        wanted = job(f"clips={root}").settings.dataset
        work.append(calls_of(partial(read_dataset, wanted)))
    assert work[1] < 4.5 * work[0]  # sorting takes a little more than in proportion
