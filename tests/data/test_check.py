"""What is said of a data set before a sweep: found, missing, unreadable, without."""

import csv
import os
from pathlib import Path

import pytest

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.data.check import DatasetCheck, check, text
from ovmer.runners.data.probe import probe
from tests import SAMPLE
from tests.data import benchmark_layouts as layouts
from tests.data.layouts import settings_of, write_dataset
from tests.runners.conftest import command  # noqa: F401
from tests.runners.jobs import job


def gaps(report: DatasetCheck, kind: str) -> dict[str, str]:
    return {clip: what for clip, each, what, _ in report.gaps if each == kind}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_dataset(tmp_path, "meld")


def look(root: Path, **changes: object) -> DatasetCheck:
    return check(settings_of("meld") | {"root": str(root), **changes}, workers=2)


def test_a_whole_data_set_has_no_gaps_but_an_empty_subtitle(root: Path) -> None:
    report = look(root)
    assert report.files == {"video": 6, "audio": 6, "face": 6}
    assert [gap[:3] for gap in report.gaps] == [("test_dia0_utt5", "subtitle", "without text")]
    assert 10 < report.seconds < 20
    assert (report.clips, report.expected, report.is_whole) == (6, 2610, False)
    assert look(root, limit=3).is_whole, "what was left out on purpose is not missing"


def test_a_data_set_without_a_table_of_subtitles_has_none(tmp_path: Path) -> None:
    layouts.ravdess(tmp_path / "RAVDESS")
    settings = job("dataset=ravdess", f"data_root={tmp_path}").settings.dataset
    report = check(settings, workers=2)
    assert (report.files["video"], report.files["subtitle"]) == (16, 0)
    assert not report.gaps


def test_what_is_missing_or_broken_is_distinguished(root: Path) -> None:
    one, two, three, four = (f"test_dia0_utt{i}" for i in range(4))
    (root / "subvideo" / f"{one}.mp4").unlink()
    (root / "subvideo" / f"{two}.mp4").write_bytes(b"")
    (root / "subvideo" / f"{three}.mp4").write_text("no film")
    (root / "subaudio" / f"{one}.wav").unlink()
    (root / "subaudio" / f"{four}.wav").unlink()
    silent = SAMPLE / "video" / "silent_smile.mp4"
    (root / "subaudio" / f"{two}.wav").write_bytes(silent.read_bytes())
    (root / "openface_face" / f"{four}.npy").write_bytes(b"\x93NUMPY")
    report = look(root)
    assert gaps(report, "video") == {one: "missing", two: "unreadable", three: "unreadable"}
    assert gaps(report, "audio") == {
        one: "missing",
        two: "without sound",
        four: "without a file of its own, but the video has sound",
    }
    assert gaps(report, "face") == {four: "unreadable"}
    said = text(report)
    assert f"- video unreadable: {two} (is empty (0 bytes)), {three} (is damaged" in said
    assert str(root) in said.splitlines()[0]
    assert "Errno" not in said


def test_a_folder_that_is_not_there_is_all_missing(root: Path) -> None:
    (root / "subvideo").rename(root / "elsewhere")
    (root / "openface_face").rename(root / "faces")
    report = look(root)
    assert set(gaps(report, "video").values()) == {"missing"}
    assert "test_dia0_utt4 and 1 more" in text(report)
    assert not gaps(report, "face"), "faces are only for dataset.visual=face"


def test_tables_that_cannot_be_read_are_an_error(root: Path) -> None:
    (root / "label.npz").unlink()
    with pytest.raises(PrerequisiteError, match="there is no file"):
        look(root)


def test_candidates_have_no_labels_to_be_found(tmp_path: Path) -> None:
    write_dataset(tmp_path, "mer2025")
    settings = settings_of("mer2025") | {"root": str(tmp_path / "mer2025-dataset")}
    said = text(check(settings, workers=2))
    assert "- labels: none, these are clips to be predicted" in said
    assert not any(line.startswith("labels") for line in said.splitlines())


def test_a_pipe_or_folder_is_no_clip(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").mkdir()
    os.mkfifo(tmp_path / "b.mp4")
    assert probe(tmp_path / "a.mp4").problem == "is a folder"
    assert probe(tmp_path / "b.mp4").problem == "is a named pipe"
    assert "there is no file" in str(probe(tmp_path / "gone.wav").problem)


def test_the_command_checks_several(root: Path, command, tmp_path: Path) -> None:  # noqa: F811
    write_dataset(tmp_path, "sims")
    (root / "subvideo" / "test_dia0_utt0.mp4").unlink()
    done = command("check", "dataset=meld,sims,iemocap", f"data_root={tmp_path}", "output=gaps.csv")
    assert done.returncode == 2, done.stderr
    assert "meld: 6 clips of 2,610 expected" in done.stdout
    assert "sims: 6 clips of 457 expected" in done.stdout
    assert "iemocap: dataset.root: there is no folder" in done.stdout
    rows = list(csv.reader((tmp_path / "gaps.csv").read_text("utf-8").splitlines()))
    assert ["meld", "test_dia0_utt0", "video", "missing"] in rows


def test_the_command_refuses_what_it_does_not_take(command) -> None:  # noqa: F811
    done = command("check", "dataset=sample", "seed=1")
    assert done.returncode == 2
    assert (
        "ovmer check takes output, workers, dataset, clips, columns, data_root, limit"
        in done.stderr
    )


def test_clips_of_ones_own_are_checked_like_a_data_set(tmp_path: Path) -> None:
    (tmp_path / "good.mp4").write_bytes((SAMPLE / "video" / "farewell.mp4").read_bytes())
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    table = tmp_path / "table.csv"
    table.write_text("video,subtitle\ngood.mp4,Hello.\nbroken.mp4,\nnowhere.mp4,\n", "utf-8")
    report = check(job(f"clips={table}").settings.dataset, workers=2)
    assert gaps(report, "video") == {"broken": "unreadable", "nowhere": "missing"}
    assert gaps(report, "subtitle") == {"broken": "without text", "nowhere": "without text"}
    assert report.files == {"video": 1, "audio": 0, "face": 0}
    assert not report.is_whole
    folder = check(job(f"clips={tmp_path}").settings.dataset, workers=2)
    assert folder.files == {"video": 1, "audio": 0, "face": 0, "subtitle": 0}
    assert gaps(folder, "video") == {"broken": "unreadable"}
    assert gaps(folder, "audio") == {"good": "without a file of its own, but the video has sound"}
    (tmp_path / "broken.mp4").unlink()
    assert check(job(f"clips={tmp_path}").settings.dataset, workers=2).is_whole
