"""EVA-ViT's published file. (Golden data of the models that look through it pin the numbers.)"""

import pytest
import torch

from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.layers.eva_vit import EvaVit, read_eva, write_eva_miniature
from ovmer.baselines.weights import load_strict, weightless

CPU = torch.device("cpu")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "eva_vit_g.pth"
    write_eva_miniature(path, seed=1)
    return path


def load(file, dtype=torch.float32):
    config, tensors = read_eva(file, "")
    with weightless():
        tower = EvaVit(config)
    load_strict(tower, tensors, Placement(CPU, dtype))
    return tower


def rewrite(file, change):
    tensors = torch.load(file, weights_only=True)
    change(tensors)
    torch.save(tensors, file)


def test_sizes_are_read_off_the_shapes(file):
    config, tensors = read_eva(file, "tower.")
    assert (config.image_size, config.patch_size) == (224, 14)
    assert (config.hidden_size, config.intermediate_size) == (32, 64)
    assert (config.num_hidden_layers, config.num_attention_heads) == (2, 16)
    assert all(name.startswith("tower.") for name in tensors)


@pytest.mark.parametrize(("held", "used"), [(40, 39), (39, 39)])
def test_the_fortieth_layer_is_left_out_wherever_it_is_there(tmp_path, held, used):
    write_eva_miniature(tmp_path / "eva_vit_g.pth", seed=1, layers=held - 1)
    config, tensors = read_eva(tmp_path, "")
    assert config.num_hidden_layers == used
    assert {int(name.split(".")[1]) for name in tensors if name.startswith("layers.")} == set(
        range(used)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_every_position_comes_out(file, dtype):
    with torch.inference_mode():
        seen = load(file, dtype)(torch.randn(2, 3, 224, 224))
    assert seen.shape == (2, 257, 32)
    assert seen.dtype == dtype
    assert seen.isfinite().all()


def test_larger_pictures_get_a_scaled_table_of_positions(file):
    config, tensors = read_eva(file, "", side=448)
    assert config.image_size == 448
    published = torch.load(file, weights_only=True)["pos_embed"].float()
    table = tensors["embeddings.position_embedding"]
    assert table.shape == (1, 1025, 32) == table.read().shape
    assert torch.equal(table.read()[:, 0], published[:, 0])
    # Bicubic in steps of a half: the mean over each square of four patches stays near its patch.
    squares = table.read()[0, 1:].unflatten(0, (16, 2, 16, 2)).mean(dim=(1, 3)).flatten(0, 1)
    assert torch.corrcoef(torch.stack([squares.flatten(), published[0, 1:].flatten()]))[0, 1] > 0.9
    assert read_eva(file, "", side=224)[0].image_size == 224


def test_keys_have_no_bias(file):
    published = torch.load(file, weights_only=True)
    bias = load(file).layers[1].self_attn.qkv.bias
    queries, keys, values = bias.chunk(3)
    assert torch.equal(queries, published["blocks.1.attn.q_bias"].float())
    assert torch.equal(values, published["blocks.1.attn.v_bias"].float())
    assert not keys.any()


def test_the_last_layer_is_not_used(file):
    pixels = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        before = load(file)(pixels)
        rewrite(file, lambda held: held["blocks.2.mlp.fc2.bias"].add_(1))
        assert torch.equal(load(file)(pixels), before)
        rewrite(file, lambda held: held["blocks.1.mlp.fc2.bias"].add_(1))
        assert torch.allclose(load(file)(pixels), before + 1, atol=2e-3)  # half-precision weights


@pytest.mark.parametrize("lost", ["blocks.0.attn.v_bias", "blocks.1.norm2.weight", "cls_token"])
def test_a_lost_tensor_is_named(file, lost):
    rewrite(file, lambda held: held.pop(lost))
    with pytest.raises(CheckpointError, match="EvaVit needs"):
        load(file)


def test_an_unknown_tensor_is_named(file):
    rewrite(file, lambda held: held.update({"blocks.0.gamma_1": torch.ones(32)}))
    with pytest.raises(CheckpointError, match="gamma_1"):
        load(file)


def test_another_file_is_distinguished(tmp_path):
    torch.save({"patch_embed.weight": torch.ones(2)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"is no EVA-ViT; is it eva_vit_g\.pth of LAVIS"):
        read_eva(tmp_path / "other.pth", "")
