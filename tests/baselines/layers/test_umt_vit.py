"""UMT's tower against VideoMAE of transformers, whose layers and positions are the same."""

import pytest
import torch
from torch import Tensor
from transformers import VideoMAEConfig, VideoMAEModel

from ovmer.baselines.layers.umt_vit import UmtConfig, UmtVit, positions

CONFIG = UmtConfig(width=32, layers=2, heads=4, hidden=64, patch=2)
SIZE = 28  # 14 patches of 2 pixels


@pytest.fixture
def tower() -> UmtVit:
    torch.manual_seed(3)
    tower = UmtVit(CONFIG)
    for parameter in tower.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return tower.eval()


def as_videomae(tower: UmtVit, frames: int) -> VideoMAEModel:
    config = VideoMAEConfig(
        image_size=SIZE,
        patch_size=CONFIG.patch,
        num_frames=frames,
        tubelet_size=1,
        hidden_size=CONFIG.width,
        num_hidden_layers=CONFIG.layers,
        num_attention_heads=CONFIG.heads,
        intermediate_size=CONFIG.hidden,
        layer_norm_eps=1e-6,
    )
    model = VideoMAEModel(config)
    state: dict[str, Tensor] = {}
    for name, tensor in tower.state_dict().items():
        name = name.replace("patch_embed.proj", "embeddings.patch_embeddings.projection")
        name = name.replace("blocks.", "encoder.layer.")
        name = name.replace("norm1", "layernorm_before").replace("norm2", "layernorm_after")
        name = name.replace("mlp.fc1", "intermediate.dense").replace("mlp.fc2", "output.dense")
        name = name.replace("attn.proj", "attention.output.dense")
        inner = name.replace(".attn.", ".attention.attention.")
        if name.endswith("qkv.weight"):
            for each, part in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                state[inner.replace("qkv", each)] = part
        else:
            name = inner.replace("q_bias", "query.bias").replace("v_bias", "value.bias")
            state[name] = tensor
    kept = {key: value for key, value in model.state_dict().items() if key.startswith("layernorm")}
    model.load_state_dict(state | kept)
    model.layernorm = torch.nn.Identity()
    return model.eval()


def test_layers_and_positions_are_those_of_videomae(tower):
    pixels = torch.randn(4, 3, SIZE, SIZE)
    with torch.inference_mode():
        theirs = as_videomae(tower, frames=4)(pixels[None]).last_hidden_state[0]
        ours = tower(pixels)
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


def test_positions_are_stretched_along_time():
    """Eight frames lie at times -0.25, 0.25, 0.75, ... of the four; the ends are held."""
    four, eight = (positions(frames, 16).unflatten(0, (frames, 196)) for frames in (4, 8))
    assert torch.equal(eight[0], four[0])
    assert torch.equal(eight[7], four[3])
    assert torch.allclose(eight[1], 0.75 * four[0] + 0.25 * four[1], atol=1e-6)
    assert torch.allclose(eight[4], 0.75 * four[2] + 0.25 * four[1], atol=1e-6)


def test_every_frame_is_seen_from_every_other(tower):
    pixels = torch.randn(3, 3, SIZE, SIZE)
    changed = pixels.clone()
    changed[2] += 1
    with torch.inference_mode():
        before, after = (tower(each).unflatten(0, (3, 196)) for each in (pixels, changed))
    assert ((before - after).abs().amax(dim=(1, 2)) > 1e-4).all()
