"""Numbers that are NaN or infinite: an error of the clip that names where they arose."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ovmer.adapters.base import Answer, Machine
from ovmer.adapters.mllm import Mllm
from ovmer.baselines.decoding.answers import NotFinite
from tests import SAMPLE
from tests.adapters.small_mllms import configured

VIDEO = SAMPLE / "video" / "farewell.mp4"
CPU = Machine(device="cpu", dtype="float32")


@pytest.fixture
def adapter(tmp_path: Path) -> Mllm:
    return configured("video_llava").miniature(tmp_path)


def spoil(folder: Path, ending: str) -> None:
    """Make one weight of a checkpoint infinite."""
    for file in folder.glob("*.bin"):
        tensors = torch.load(file, weights_only=True)
        for name in (name for name in tensors if name.endswith(ending)):
            tensors[name].view(-1)[0] = torch.inf
            torch.save(tensors, file)
            return
    raise AssertionError(f"no tensor {ending} in {folder}")


@pytest.mark.parametrize(
    ("part", "ending", "whose", "where"),
    [
        ("tower", "layers.0.mlp.fc2.bias", "encoders' output", "tower.layers.0.mlp.fc2, encoder"),
        ("llm", "mm_projector.2.bias", "encoders' output", "projector.2, connector"),
        (
            *("llm", "layers.1.self_attn.o_proj.weight", "scores of the model"),
            "model.layers.1.self_attn.o_proj, language model",
        ),
    ],
    ids=["encoder", "connector", "language model"],
)
def test_the_first_clip_names_the_layer(
    adapter: Mllm, part: str, ending: str, whose: str, where: str
) -> None:
    spoil(adapter.parts[part], ending)
    adapter.load(CPU)
    items = [adapter.prepare(VIDEO, None, words) for words in ("Why?", "How?")]
    first, second = adapter.generate(items)
    adapter.close()
    for error in (first, second):
        assert isinstance(error, NotFinite)
        assert str(error).startswith(f"the {whose}")
    assert f"NaN or infinite (first in {where})," in str(first)
    assert "first in" not in str(second)


def test_the_others_of_a_batch_are_answered(adapter: Mllm) -> None:
    adapter.load(CPU)
    items = [adapter.prepare(VIDEO, None, words) for words in ("Why?", "How?", "Who?")]
    expected = adapter.generate(items)
    broken = replace(items[1].inputs, pixels=items[1].inputs.pixels * torch.nan)
    first, failed, last = adapter.generate([items[0], replace(items[1], inputs=broken), items[2]])
    adapter.close()
    assert all(isinstance(each, Answer) for each in expected)
    assert (first, last) == (expected[0], expected[2])
    assert isinstance(failed, NotFinite)
    assert "(first in tower.embeddings.patch_embedding, encoder)" in str(failed)
