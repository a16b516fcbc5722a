"""The public API: every name is there, typed by its home, and light to import."""

import subprocess
import sys

import pytest

import ovmer
from tests.runners.folders import write_run


def test_every_name_is_found_and_listed():
    for name in ovmer.__all__:
        assert getattr(ovmer, name).__module__.startswith("ovmer.")
        assert name in dir(ovmer)
    with pytest.raises(AttributeError, match="no attribute 'scorer'"):
        _ = ovmer.scorer


def test_importing_it_imports_nothing_heavy():
    code = "import ovmer, sys; print({'torch', 'pandas', 'hydra', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_table_is_a_frame_with_our_figure_beside_the_printed_one(tmp_path):
    write_run(tmp_path / "outputs", "otter", "ovmerd", {"M-avg": 0.4})
    frame = ovmer.table("ovmer", tmp_path / "outputs")
    cells = frame[(frame.baseline == "otter") & (frame.figure == "M-avg")]
    assert list(cells.ours.dropna()) == [40.0]
    assert cells.published.iloc[0] != ""
    assert frame[frame.baseline == "salmonn"].ours.isna().all()
    scores = ovmer.read_runs(tmp_path / "outputs").scores
    assert set(scores.baseline) == {"otter"}
