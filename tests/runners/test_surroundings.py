"""Runs without what is usually there: open streams, a folder to stand in, a home."""

import os
import pwd
import sys
from pathlib import Path

import pytest

from tests.faults.runs import CLIPS, Running, runs_in, write_data


def close_streams() -> None:
    for number in range(3):
        os.close(number)
    sys.stdin = sys.stdout = sys.stderr = None  # type: ignore[assignment]  # as Python starts then


def fill_stderr() -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 2)


@pytest.mark.parametrize("before", [close_streams, fill_stderr])
def test_a_run_ends_well_though_it_cannot_speak(tmp_path, before):
    ended = Running(tmp_path, write_data(tmp_path), before).end()
    assert ended.status == 0
    (run,) = runs_in(tmp_path)
    lines = (run / "predictions.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == len(CLIPS)
    assert all(line.startswith('{"name":') for line in lines), "nothing was printed into it"


def remove_folder() -> None:
    Path.cwd().rmdir()


def remove_home() -> None:
    def unknown(user: int) -> pwd.struct_passwd:
        raise KeyError(user)

    del os.environ["HOME"]
    pwd.getpwuid = unknown


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (remove_folder, "the current folder has been deleted; change to one that exists"),
        (remove_home, "has no home directory; set HOME to a folder that can be written to"),
    ],
)
def test_what_is_missing_is_one_sentence(tmp_path, before, said):
    folder = tmp_path / "here"
    folder.mkdir()
    ended = Running(folder, write_data(tmp_path), before).end()
    assert ended.status == 2
    assert ended.said.splitlines()[-1].endswith(said)
    assert "Traceback" not in ended.said
