"""The smoke script itself, as far as a machine without a GPU can run it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.gpu import models, smoke
from tests.gpu.table import FAIL, OK, Row, rendered


@pytest.mark.by_hand  # a group of the script in processes of its own: 20 s
def test_it_prints_a_table_and_writes_it_to_a_file(tmp_path: Path) -> None:
    out = tmp_path / "table.md"
    arguments = ["--device", "cpu", "--groups", "models", "--only", "qwen2_audio"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu.smoke", *arguments, "--out", str(out)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    table = out.read_text("utf-8")
    assert table in done.stdout
    assert "# Smoke test on cpu" in table
    assert "- packages: ovmer" in table
    rows = [line for line in table.splitlines() if "qwen2_audio" in line]
    assert len(rows) == 3, "float32 in a batch, and both halves against it"
    assert all(f"| {OK} " in row for row in rows)


def test_a_group_that_dies_or_takes_too_long_is_a_row() -> None:
    found = smoke.in_a_process("models", "cpu", "none", until=0.0, least=0.01)
    assert (found[0].verdict, found[0].found) == (FAIL, "stopped after 0 s")
    found = smoke.in_a_process("models", "no such device", "none", until=0.0, least=60.0)
    assert found[0].verdict == FAIL
    assert "is no torch device" in found[0].found


def test_the_table_ends_with_the_number_of_failures() -> None:
    rows = [Row("a", "b", OK, "fine"), Row.of("a", "c", False, "not so")]
    assert Row.from_line(rows[1].as_line()) == rows[1]
    assert "1 of 2 rows failed" in rendered(rows, ["head"])
    assert "all 1 rows hold" in rendered(rows[:1], ["head"])


def test_every_model_is_looked_at() -> None:
    assert {"video_llava", "otter", "qwen3_omni", "voxtral"} <= set(models.names())
    assert "lexicon" not in models.names()
