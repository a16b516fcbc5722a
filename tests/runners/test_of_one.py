"""Settings of one model among several: NAME.KEY=VALUE."""

import pytest

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.sweeping.sweep import compose

SWEEP = ("-m", "baseline=lexicon,emotion_llama,video_llava", "dry_run=true")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def jobs(*arguments):
    return {job.settings.baseline["name"]: job for job in compose(arguments).jobs}


def test_only_that_model_has_the_setting():
    plain = jobs(*SWEEP)
    found = jobs(
        *SWEEP, "emotion_llama.asks_for=emotion", "video_llava.prompt.without_subtitle='a, b'"
    )
    assert found["emotion_llama"].adapter.asks_for == "emotion"
    assert found["video_llava"].adapter.prompt.without_subtitle == "a, b"
    assert found["lexicon"].folder == plain["lexicon"].folder
    # The folder and the identity are those of the setting said of all.
    alone = jobs("baseline=emotion_llama", "dry_run=true", "baseline.asks_for=emotion")
    assert found["emotion_llama"].folder == alone["emotion_llama"].folder
    assert found["emotion_llama"].identity == alone["emotion_llama"].identity


def test_it_goes_with_settings_of_all():
    found = jobs(*SWEEP, "generation=greedy", "emotion_llama.generation.greedy.max_new_tokens=7")
    assert found["emotion_llama"].adapter.generation.max_new_tokens == 7
    assert found["video_llava"].adapter.generation.max_new_tokens != 7


def test_a_setting_of_all_is_looked_for_in_each_model():
    found = jobs("-m", "baseline=salmonn,video_chatgpt", "dry_run=true", "baseline.dtype=bfloat16")
    assert {job.settings.baseline["dtype"] for job in found.values()} == {"bfloat16"}
    alone = jobs("baseline=salmonn", "dry_run=true", "baseline.dtype=bfloat16")
    assert found["salmonn"].folder == alone["salmonn"].folder
    assert found["salmonn"].identity == alone["salmonn"].identity


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("salmonn.frames=3", r"^salmonn\.frames=3 is for baseline=salmonn, which no job has"),
        (
            "baseline.asks_for=emotion",
            r"^baseline=lexicon: there is no key baseline\.asks_for; .*; "
            r"NAME\.KEY=VALUE sets a key of the baseline NAME alone",
        ),
        ("emotion_llama.asks_for=reason,emotion", "a setting of one model has one value"),
    ],
)
def test_a_setting_that_cannot_be_is_one_sentence(setting, sentence):
    with pytest.raises(PrerequisiteError, match=sentence):
        jobs(*SWEEP, setting)
