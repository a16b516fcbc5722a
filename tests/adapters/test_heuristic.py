from pathlib import Path

import pytest

from ovmer.adapters.base import Prepared
from ovmer.adapters.heuristic import BASIC_EMOTIONS, Empty, GroundTruth, Lexicon, Random
from ovmer.baselines.errors import PrerequisiteError
from ovmer.baselines.words import wheel_words


def draw(random: Random, seeds: range) -> list[str]:
    return list(random.generate([Prepared(None, seed=seed) for seed in seeds]))


def test_random_depends_on_the_clip_alone():
    every = draw(Random(), range(60))
    assert draw(Random(), range(30, 60)) == every[30:]
    assert set(every) == set(BASIC_EMOTIONS)


def test_random_draws_distinct_labels_from_the_wheels():
    (text,) = draw(Random(labels=5, source="wheels"), range(1))
    labels = text.split(", ")
    assert len(set(labels)) == 5
    assert set(labels) <= wheel_words()


@pytest.mark.parametrize("settings", [{"labels": 0}, {"labels": 7}, {"source": "weels"}])
def test_random_refuses_what_it_cannot_do(settings):
    with pytest.raises(PrerequisiteError, match=r"baseline\."):
        Random(**settings)


def test_empty_says_nothing():
    assert Empty().describe(Path("a.mp4"), None, "so happy") == ""


def test_ground_truth_repeats_the_labels_it_is_given():
    assert GroundTruth().generate([Prepared(None, truth=("sad", "shy"))]) == ["sad, shy"]
    with pytest.raises(PrerequisiteError, match="data set"):
        GroundTruth().describe(None, None, "")


def test_lexicon_reads_the_subtitle():
    assert Lexicon().describe(None, None, "I am so angry and a bit sad") == "angry, sad"
    assert Lexicon().describe(None, None, None) == ""
