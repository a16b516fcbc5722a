"""The order of clips, what is drawn for each, and what becomes of broken ones."""

import json
from collections import Counter
from pathlib import Path

import pytest

from ovmer.baselines.errors import PrerequisiteError, Unreadable
from ovmer.runners.data.settings import Clip
from ovmer.runners.job import Job
from ovmer.runners.training.examples import (
    Example,
    ExampleIndex,
    ExampleOrder,
    TrainingSamples,
    digest,
    read_examples,
)
from ovmer.runners.training.settings import DescriptionSource, compose_train

KINDS = ("description", "ovlabel")


def examples(count: int) -> list[Example]:
    return [
        Example(Clip(f"c{number}", None, None, None, "", ("sad",)), {"ovlabel": "sad"})
        for number in range(count)
    ]


def samples(make, listing: Path, **options) -> TrainingSamples:
    given = {"seed": 0, "draws": "clip", "broken": "replace"} | options
    return TrainingSamples([examples(6)], make, KINDS, listing=listing, **given)


def test_each_pass_shows_every_clip_once_and_leaves_an_incomplete_batch_out():
    order = list(ExampleOrder([7], [1.0], 3, 4, seed=1))
    assert len(order) == 12
    first, second = order[:6], order[6:]
    assert {index.turn for index in first} == {0}
    assert {index.turn for index in second} == {1}
    assert max(Counter(index.clip for index in first).values()) == 1
    assert [index.clip for index in first] != [index.clip for index in second]


def test_two_devices_see_what_one_sees_with_a_batch_of_twice_the_size():
    assert list(ExampleOrder([20], [1.0], 2 * 3, 5, seed=3)) == list(
        ExampleOrder([20], [1.0], 6, 5, seed=3)
    )


def test_batches_of_a_mixture_are_of_one_data_set_by_its_share():
    order = list(ExampleOrder([50, 50], [3.0, 1.0], 2, 2000, seed=0))
    pairs = [{index.dataset for index in order[at : at + 2]} for at in range(0, 4000, 2)]
    assert all(len(pair) == 1 for pair in pairs)
    assert 0.7 < sum(pair == {0} for pair in pairs) / 2000 < 0.8


def test_too_few_clips_are_refused():
    with pytest.raises(PrerequisiteError, match=r"train\.batch_size=2"):
        ExampleOrder([2], [1.0], 3, 1, seed=0)


def test_kinds_depend_on_seed_clip_and_pass_alone(tmp_path):
    def drawn(seed: int) -> list[str]:
        found = samples(lambda _, kind: kind, tmp_path / "l", seed=seed)
        return [found[ExampleIndex(0, clip, turn)] for clip in range(6) for turn in range(50)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert 0.4 < drawn(1).count("ovlabel") / 300 < 0.6


@pytest.mark.parametrize("broken", ["replace", "skip"])
def test_a_broken_clip_is_replaced_or_skipped_and_listed(tmp_path, broken):
    def make(example: Example, kind: str) -> str:
        if example.clip.name == "c2":
            raise Unreadable("torn")
        return example.clip.name

    listing = tmp_path / "not_trained_on.jsonl"
    found = samples(make, listing, broken=broken)
    got = [found[ExampleIndex(0, 2, turn)] for turn in range(5)]
    if broken == "skip":
        assert got == [None] * 5
    else:
        assert "c2" not in got
        assert None not in got
        assert got == [found[ExampleIndex(0, 2, turn)] for turn in range(5)]
    assert [json.loads(line) for line in listing.read_text().splitlines()] == [
        {"name": "c2", "reason": "torn"}
    ]


def test_ten_broken_clips_after_one_another_end_the_run(tmp_path):
    def make(example: Example, kind: str) -> str:
        raise Unreadable("torn")

    with pytest.raises(Unreadable, match="torn"):
        samples(make, tmp_path / "l")[ExampleIndex(0, 0, 0)]


def test_the_sample_has_reasons_and_labels():
    settings = compose_train(["dataset=sample"])
    found = read_examples(settings.dataset, DescriptionSource(), KINDS)
    farewell = next(each for each in found if each.clip.name == "farewell")
    assert farewell.values["ovlabel"] == "sad, lonely, heartbroken"
    assert farewell.values["description"].endswith("Hence she is sad, lonely and heartbroken.")


def test_own_tables_hold_labels_and_reasons(tmp_path):
    table = tmp_path / "mine.csv"
    table.write_text("name,audio,subtitle,openset,reason\na,a.wav,hi,\"['sad']\",A low voice.\n")
    (tmp_path / "a.wav").touch()
    settings = compose_train([f"clips={table}"])
    Job(settings)  # puts own clips in the place of a data set
    (found,) = read_examples(settings.dataset, DescriptionSource(), KINDS)
    assert found.values["ovlabel"] == "sad"
    assert found.values["description"] == "A low voice."
    table.write_text("name,audio,subtitle,openset\na,a.wav,hi,sad\n")
    settings = compose_train([f"clips={table}"])
    Job(settings)  # puts own clips in the place of a data set
    with pytest.raises(PrerequisiteError, match=r"1 of 1 clips have no reason.*kinds=\[ovlabel\]"):
        read_examples(settings.dataset, DescriptionSource(), KINDS)


def test_other_words_are_other_data():
    changed = [Example(each.clip, {"ovlabel": "glad"}) for each in examples(2)]
    assert digest([examples(2)]) != digest([changed])
