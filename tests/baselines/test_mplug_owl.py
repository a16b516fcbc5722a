"""mPLUG-Owl: layers over time, the published layout, and files that are not it."""

import json
import re
from pathlib import Path

import pytest
import torch

from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.models.mplug_owl import (
    LocalTemporal,
    MplugOwl,
    _inner_width,
    read_sizes,
    write_miniature,
)
from ovmer.baselines.prompt_sizes import PromptSizes

CPU = Placement(torch.device("cpu"), torch.float32)
GOLDEN = Path(__file__).parents[1] / "golden" / "mplug_owl" / "checkpoint"


@pytest.fixture
def folder(tmp_path):
    return write_miniature(tmp_path, seed=3)["model"]


def names(folder: Path) -> set[str]:
    """The keys of the index of shards, with one number for all layers."""
    index = json.loads((folder / "pytorch_model.bin.index.json").read_text())
    return {re.sub(r"\.\d+\.", ".N.", name) for name in index["weight_map"]}


def test_a_miniature_has_the_published_names(folder):
    assert names(folder) == {name for name in names(GOLDEN) if "inv_freq" not in name}


def test_a_patch_sees_its_neighbours_in_time_and_no_other_patch():
    torch.manual_seed(0)
    layer = LocalTemporal(8).eval()
    patches = torch.randn(6, 9, 8)
    moved = patches.clone()
    moved[3, 4] = torch.randn(8)
    with torch.inference_mode():
        changed = (layer(moved) != layer(patches)).any(dim=-1)
    assert changed.nonzero().tolist() == [[2, 4], [3, 4], [4, 4]]


def test_a_video_takes_one_slot_whatever_its_length(folder):
    model = MplugOwl.load(folder, CPU)
    for count in (2, 4, 7):
        frames = torch.randint(0, 256, (count, 224, 224, 3), dtype=torch.uint8)
        assert model.encode(frames).shape == (65, 32)
    assert read_sizes(folder) == PromptSizes(2048, positions=65, image=224)


@pytest.mark.parametrize(("configured", "width"), [(4096, 2816), (2816, 2816), (64, 256)])
def test_the_width_of_the_gated_mlp(configured, width):
    assert _inner_width(configured) == width


@pytest.mark.parametrize("lost", ["text_config", "num_query_tokens", "encoder_hidden_size"])
def test_a_configuration_of_another_model_is_named(folder, lost):
    config = json.loads((folder / "config.json").read_text())
    (config if lost in config else config["visual_abstractor_config"]).pop(lost)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=rf"config\.json lacks {lost}; is it mplug-owl-llama"):
        MplugOwl.load(folder, CPU)


def test_the_model_for_images_is_distinguished_from_the_one_for_video(folder):
    """It has the same files, without the layers over time."""
    for shard in folder.glob("*.bin"):
        tensors = torch.load(shard, weights_only=True)
        torch.save({key: t for key, t in tensors.items() if "temporal" not in key}, shard)
    with pytest.raises(CheckpointError, match=r"MplugOwl needs abstractor\.temporal_query_tokens"):
        MplugOwl.load(folder, CPU)
