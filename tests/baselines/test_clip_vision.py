"""CLIP's tower and pixels against those of transformers."""

import json

import numpy as np
import pytest
import torch
from transformers import CLIPImageProcessorPil, CLIPVisionModel

from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.layers.clip_vision import (
    ClipVision,
    clip_keys,
    clip_vision_config,
    normalise,
    shortest_side_crop,
    write_clip_miniature,
)
from ovmer.baselines.weight_files import read_tensors
from ovmer.baselines.weights import load_strict, rename, weightless

CPU = Placement(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    write_clip_miniature(folder, seed=1)
    return folder


def load(folder, layer):
    config = clip_vision_config(folder)
    with weightless():
        tower = ClipVision(config, layer)
    load_strict(tower, rename(read_tensors(folder), clip_keys(config, layer, "")), CPU)
    return tower


@pytest.mark.parametrize(
    "size", [(90, 120), (120, 90), (224, 224), (225, 500), (33, 640), (480, 641), (1080, 1920)]
)
def test_pixels_are_those_of_the_image_processor(size):
    frames = np.random.default_rng(4).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    frames[0] //= 2  # bicubic overshoots at edges between dark and light
    ours = normalise(torch.from_numpy(shortest_side_crop(frames, 224)))
    theirs = CLIPImageProcessorPil()(list(frames), return_tensors="np")["pixel_values"]
    assert np.array_equal(ours.numpy(), theirs)


def test_a_middle_between_two_pixels_is_rounded_to_the_even_one():
    """224 of 227 pixels: CenterCrop of torchvision begins at round(1.5), the processor at 1."""
    frames = np.random.default_rng(5).integers(0, 256, (1, 224, 227, 3), dtype=np.uint8)
    assert np.array_equal(shortest_side_crop(frames, 224, rounded=True), frames[:, :, 2:226])
    assert np.array_equal(shortest_side_crop(frames, 224), frames[:, :, 1:225])


@pytest.mark.parametrize("layer", [-1, -2, -3])
def test_hidden_states_are_those_of_transformers(folder, layer):
    tower = load(folder, layer)
    whole = CLIPVisionModel(clip_vision_config(folder))
    state = {
        key.removeprefix("vision_model."): tensor.read().float()
        for key, tensor in read_tensors(folder).items()
        if key.startswith("vision_model.")
    }
    whole.load_state_dict(state | {"post_layernorm.weight": torch.ones(32)})
    pixels = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        expected = whole.eval()(pixels, output_hidden_states=True).hidden_states[layer]
        assert torch.allclose(tower(pixels), expected, rtol=1e-5, atol=1e-6)


def test_layers_above_the_one_looked_at_are_not_built(folder):
    assert len(load(folder, -1).layers) == 3
    assert len(load(folder, -2).layers) == 2


@pytest.mark.parametrize("layer", [0, -4, 5])
def test_a_layer_that_is_not_there_is_refused(folder, layer):
    with pytest.raises(CheckpointError, match="tower of 3 layers"):
        ClipVision(clip_vision_config(folder), layer)


def test_a_folder_of_something_else_is_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 8}))
    with pytest.raises(CheckpointError, match=r"lacks .*image_size.* is it a CLIP\?"):
        clip_vision_config(tmp_path)
