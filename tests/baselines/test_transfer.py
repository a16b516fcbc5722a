from dataclasses import dataclass, field

import pytest
import torch

from ovmer.baselines.transfer import SideStream, to_device


@dataclass(frozen=True)
class Inputs:
    texts: list[list[int]]
    pixels: torch.Tensor
    media: tuple[torch.Tensor | None, ...]
    computed: int = field(init=False, default=3)


def test_every_tensor_of_some_inputs_is_moved_and_nothing_else():
    given = {"a": Inputs([[1, 2]], torch.zeros(2), (torch.ones(1), None)), "b": 5}
    found = to_device(given, torch.device("meta"))
    assert found["a"].texts == [[1, 2]]
    assert found["a"].pixels.is_meta
    assert found["a"].media[0].is_meta
    assert found["a"].media[1] is None
    assert found["b"] == 5
    assert given["a"].pixels.tolist() == [0, 0]


def test_on_the_cpu_nothing_is_copied():
    given = Inputs([], torch.zeros(2), ())
    with SideStream(torch.device("cpu")) as side:
        assert side.moved(given) is given
        assert side.kept(given.pixels) is given.pixels
        assert torch.is_inference_mode_enabled()
    assert not torch.is_inference_mode_enabled()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_inputs_are_moved_and_outputs_complete():
    given = Inputs([[1]], torch.arange(4.0), (torch.ones(1),))
    with SideStream(torch.device("cuda")) as side:
        moved = side.moved(given)
        doubled = side.kept(moved.pixels * 2)
    assert moved.media[0].is_cuda
    assert doubled.tolist() == [0, 2, 4, 6]
