"""Video-ChatGPT: scaling, pooling, and the file that brings embeddings along."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.models.video_chatgpt import (
    CONNECTOR_FILE,
    VideoChatGpt,
    pool,
    squash,
    write_miniature,
)

CPU = Placement(torch.device("cpu"), torch.float32)


@pytest.fixture
def parts(tmp_path):
    return write_miniature(tmp_path, seed=2)


def load(parts):
    return VideoChatGpt.load(parts["llm"], parts["connector"], parts["tower"], CPU)


@pytest.mark.parametrize(
    "sides", [(36, 48), (90, 120), (448, 224), (225, 1279), (1080, 1920), (1, 7)]
)
def test_squashing_is_upstreams(sides):
    frames = np.random.default_rng(6).integers(0, 256, (2, *sides, 3), dtype=np.uint8)
    nearest = interpolate(torch.from_numpy(frames).permute(0, 3, 1, 2).float(), (224, 224))
    assert np.array_equal(squash(frames, 224), nearest.permute(0, 2, 3, 1).byte().numpy())


@pytest.mark.parametrize("frames", [1, 37, 100])
def test_pooling_keeps_time_and_space(frames):
    patches = torch.randn(frames, 256, 8)
    pooled = pool(patches)
    by_frame, rest, by_patch = pooled.split([frames, 100 - frames, 256])
    assert torch.allclose(by_frame, patches.mean(dim=1), rtol=1e-3, atol=1e-4)
    assert torch.equal(rest, torch.zeros(100 - frames, 8))
    assert torch.allclose(by_patch, patches.mean(dim=0), rtol=1e-3, atol=1e-4)
    assert torch.equal(pooled, pooled.half().float()), "upstream rounds to half precision"


def test_the_video_stands_between_its_tokens(parts):
    table = torch.load(parts["connector"], weights_only=True)["model.embed_tokens.weight"].float()
    model = load(parts)
    words = model.llm.get_input_embeddings().weight
    assert torch.equal(words, table[:-3])
    assert torch.equal(model.video_tokens.weight, table[-3:])


def test_the_tokens_of_the_video_are_never_said(parts):
    model = load(parts)
    logits = model.llm(inputs_embeds=model.video_tokens.weight[None]).logits
    assert logits.shape[-1] == len(model.llm.get_input_embeddings().weight) == 403


def test_the_adapter_is_found_as_file_and_in_its_folder(parts):
    weight = load(parts).projector.weight
    again = load(parts | {"connector": parts["connector"].parent}).projector.weight
    assert torch.equal(weight, again)


def test_an_adapter_of_another_vocabulary_is_named(parts):
    held = torch.load(parts["connector"], weights_only=True)
    held["model.embed_tokens.weight"] = held["model.embed_tokens.weight"][:-1]
    torch.save(held, parts["connector"])
    with pytest.raises(CheckpointError, match=r"embed_tokens.weight has 405 rows.*has 403"):
        load(parts)


def test_an_adapter_without_embeddings_is_named(parts):
    held = torch.load(parts["connector"], weights_only=True)
    del held["model.embed_tokens.weight"]
    torch.save(held, parts["connector"])
    with pytest.raises(
        CheckpointError, match=f"no model.embed_tokens.weight; is it {CONNECTOR_FILE}"
    ):
        load(parts)
    parts["connector"].unlink()
    with pytest.raises(CheckpointError, match=f"has no {CONNECTOR_FILE}"):
        load(parts | {"connector": parts["connector"].parent})
