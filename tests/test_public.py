"""The public API: every name is there, typed by its home, and light to import."""

import subprocess
import sys

import pytest

import ovmer
from ovmer.baselines.errors import PrerequisiteError
from tests import processes
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


def test_a_sweep_gives_back_what_its_folders_hold(tmp_path):
    settings = ["baseline=random,lexicon", "dataset=sample", f"outputs={tmp_path}"]
    runs = ovmer.sweep(settings)
    assert set(runs.scores.baseline) == {"random", "lexicon"}
    assert len(runs.predictions) == len(runs.labels) == 20
    again = ovmer.sweep(["baseline=lexicon", *settings[1:]])  # the folders of this sweep alone
    before = runs.predictions[runs.predictions.baseline == "lexicon"]
    assert list(again.predictions.description) == list(before.description)
    with pytest.raises(PrerequisiteError, match="estimate=true runs nothing"):
        ovmer.sweep([*settings, "estimate=true"])
    with pytest.raises(PrerequisiteError, match="lexicon"):
        ovmer.sweep(["baseline=lexikon", f"outputs={tmp_path}"])


def test_an_experiment_is_a_multirun_by_itself(tmp_path):
    options = ["dataset=sample", "baseline=random,lexicon", f"outputs={tmp_path}", "limit=2"]
    done = processes.run(["sweep", "experiment=ovmer", *options], tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(ovmer.read_runs(tmp_path).predictions.baseline) == {"random", "lexicon"}


def test_scoring_takes_mappings_series_frames_and_files(tmp_path):
    from pandas import DataFrame, Series

    said = {"a": "happy, excited", "b": "sad"}
    true = {"a": ["joyful"], "b": ["angry"]}
    frame = DataFrame({"name": list(true), "openset": list(true.values()), "fold": [1, 1]})
    frame.to_csv(tmp_path / "truth.csv", index=False)
    expected = ovmer.score(said, true).figures
    for predictions in (
        said,
        Series(said),
        DataFrame({"clip": list(said), "labels": said.values()}),
    ):
        for truth in (true, Series(true), frame, tmp_path / "truth.csv"):
            assert ovmer.score(predictions, truth).figures == expected
    with pytest.raises(PrerequisiteError, match="the data frame"):
        ovmer.score(said, DataFrame({"one": ["a"], "two": ["b"], "three": ["c"]}))
    with pytest.raises(PrerequisiteError, match="two things of clip 'a'"):
        ovmer.score(Series(["happy", "sad"], index=["a", "a"]), true)
