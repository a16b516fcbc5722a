"""What models and servers write cannot command a terminal or a spreadsheet."""

import csv
import sys

import pytest

from ovmer.runners.commands import describe
from ovmer.runners.foreign_text import guarded, unguarded, visible
from ovmer.runners.sweeping.work import work
from tests.runners.jobs import job

EVIL = "\x1b]0;owned\x07\x1b[2Jhappy\x9b31m \u202egnp.exe"


def test_control_characters_are_spelt_out():
    assert visible("two\nlines\tand a tab") == "two\nlines\tand a tab"
    assert visible(EVIL) == r"\x1b]0;owned\x07\x1b[2Jhappy\x9b31m \u202egnp.exe"
    assert visible("开心 café 😀") == "开心 café 😀"


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "'=1", "''=1", "happy", "'tis", "", "a=b"]
)
def test_a_guarded_cell_reads_back_equal_and_is_no_formula(text):
    cell = guarded(text)
    assert unguarded(cell) == text
    assert cell[:1] not in tuple("=+-@\t\r")


@pytest.fixture
def base(data, tmp_path):
    return ("dataset=ovmerd", f"dataset.root={data}", f"outputs={tmp_path / 'out'}")


def test_no_cell_of_a_run_is_a_formula(base):
    formula = "=1+1"
    made = job("baseline=scripted", *base, f"+baseline.answers={{a: '{formula}'}}", "limit=1")
    work(made)
    with (made.folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["description"] == f"'{formula}"
    assert unguarded(row["description"]) == formula


def test_an_escape_sequence_in_an_answer_is_printed_as_text(tmp_path, capsys, monkeypatch):
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import json, sys\n"
        'print(json.dumps({"ready": True}), flush=True)\n'
        "for line in sys.stdin:\n"
        f"    answer = {{'id': json.loads(line)['id'], 'text': {EVIL!r}}}\n"
        "    print(json.dumps(answer), flush=True)\n"
    )
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"whatever; the worker does not look")
    settings = ["baseline=external", f"baseline.python={sys.executable}"]
    arguments = [*settings, f"baseline.worker={worker}", f"video={clip}"]
    monkeypatch.setattr(sys, "argv", ["ovmer describe", *arguments])
    with pytest.raises(SystemExit):
        describe.main()
    assert capsys.readouterr().out == visible(EVIL) + "\n"
