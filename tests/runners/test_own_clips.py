"""One command from a folder of videos to a report, and several files to one baseline."""

import json
import shutil
from pathlib import Path

import pytest

from tests import SAMPLE


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Two real videos, one in a subfolder, and a document."""
    folder = tmp_path / "mine"
    (folder / "deep").mkdir(parents=True)
    shutil.copy(SAMPLE / "video" / "farewell.mp4", folder / "farewell.MP4")
    shutil.copy(SAMPLE / "video" / "good_news.mp4", folder / "deep" / "good news.mp4")
    (folder / "notes.txt").write_text("none", "utf-8")
    return folder


def test_a_folder_goes_to_a_report_in_one_command(command, mine, tmp_path):
    done = command("sweep", "-m", "baseline=random,empty", f"clips={mine}")
    assert done.returncode == 0, done.stderr
    assert "2 videos; 1 of them in subfolders; no subtitles and no truth" in done.stderr
    assert "labels of empty on" in done.stdout
    assert "2 clips without any" in done.stdout
    (folder,) = (tmp_path / "outputs").glob("mine-*")
    assert (folder / "report.html").is_file()
    rows = (folder / "random" / "predictions.csv").read_text("utf-8")
    assert "\ndeep/good news,ok," in rows
    info = json.loads((folder / "random" / "run.json").read_text("utf-8"))
    assert info["settings"]["dataset"]["source"] == str(mine)
    again = command("sweep", "-m", "baseline=random,empty", f"clips={mine}")
    assert "described now" not in again.stderr


def test_a_table_with_truth_is_scored(command, mine, tmp_path):
    table = mine / "table.csv"
    table.write_text("video,labels,subtitle\nfarewell.MP4,happy,I am happy.\n", "utf-8")
    done = command("sweep", "baseline=lexicon", f"clips={table}")
    assert done.returncode == 0, done.stderr
    (scores,) = (tmp_path / "outputs").glob("table-*/lexicon/scores.json")
    entry = json.loads(scores.read_text("utf-8"))["scores"]["lexicon/wheel"]
    assert entry["n_clips"] == 1
    assert entry["figures"]["M3-W1-L1"] == 1


def test_describe_takes_files_and_folders(command, mine):
    done = command("describe", "baseline=random", str(mine / "farewell.MP4"), str(mine), "--labels")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    names = ["farewell", "deep/good news", "farewell"]
    assert [line.partition(":")[0] for line in lines] == names * 2
    assert all(": labels: " in line for line in lines[3:])


def test_describe_goes_on_after_a_clip_that_fails(command, mine):
    done = command(
        "describe",
        "baseline=scripted",
        "+baseline.prepare_fails={farewell: unreadable}",
        str(mine),
    )
    assert done.returncode == 1
    assert done.stdout == "deep/good news: The person smiles; he is happy and a little surprised.\n"
    assert "farewell: scripted" in done.stderr


def test_describe_refuses_a_subtitle_for_several_clips(command, mine):
    done = command("describe", "baseline=random", str(mine), "subtitle=Hello.")
    assert (done.returncode, done.stdout) == (2, "")
    assert "subtitle= is about one clip" in done.stderr
