import pytest

from ovmer.runners.scoring import score


def test_a_notebook_gets_data_frames_whose_means_are_the_figures():
    scores = score({"a": "happy", "b": "sad, scared"}, {"a": "happy", "b": "sad"})
    clips = scores.frames()["per_clip"]
    assert list(clips["name"]) == ["a", "b"]
    counted = clips["M3-W1-L1/counted"].sum()
    precision = clips["M3-W1-L1/precision"].sum() / counted
    assert precision == pytest.approx(scores.figures["M3-W1-L1/precision"]) == 0.75
