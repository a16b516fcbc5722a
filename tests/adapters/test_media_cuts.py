"""The frames of 60 videos (containers x codecs x cuts) are those that a decode in order shows."""

from collections.abc import Sequence
from pathlib import Path

import av
import pytest

from ovmer.adapters.media import read_frames, sampling
from tests.adapters.media_cuts import FILES, make, number_of

RULES: dict[str, sampling.Rule] = {
    "linspace": lambda count, fps: sampling.linspace(count, 8),
    "strided": lambda count, fps: sampling.strided(count, 8),
    "whole_steps": lambda count, fps: sampling.whole_steps(count, 16),
    "segment_offsets": lambda count, fps: sampling.segment_offsets(count, 8),
    "segment_middles": lambda count, fps: sampling.segment_middles(count, 100),
    "per_second": lambda count, fps: sampling.per_second(count, fps, 100),
    "first": lambda count, fps: sampling.first(count, 4),
    "windows": lambda count, fps: sampling.windows(count, fps, 2, 3, 2),
    "backwards": lambda count, fps: [count - 1, 0, count // 2, count // 2, 1],
}


def in_order(path: Path) -> list[int]:
    """The number that each frame shows, by a full decode."""
    shown = []
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            try:
                shown += [number_of(each.to_ndarray(format="rgb24")) for each in packet.decode()]
            except av.error.InvalidDataError:
                assert not shown
    return shown


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cuts")


def test_there_are_sixty() -> None:
    assert len(FILES) == 60


@pytest.mark.parametrize("name", FILES)
def test_each_rule_sees_the_frames_of_a_decode_in_order(name: str, folder: Path) -> None:
    path = make(name, folder)
    shown = in_order(path)
    assert len(shown) > 40
    picked: list[Sequence[int]] = []

    def all_rules(count: int, fps: float) -> list[int]:
        picked[:] = [rule(count, fps) for rule in RULES.values()]
        return [index for indices in picked for index in indices]

    frames = read_frames(path, all_rules)
    assert frames.count == len(shown)
    assert frames.fps == pytest.approx(25, rel=0.1)
    assert [number_of(each) for each in frames.pixels] == [shown[i] for i in frames.indices]
    # Each by itself too where a reader seeks.
    if not frames.notes:
        for rule in RULES.values():
            alone = read_frames(path, rule)
            assert [number_of(each) for each in alone.pixels] == [shown[i] for i in alone.indices]
