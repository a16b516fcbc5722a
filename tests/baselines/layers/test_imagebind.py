"""ImageBind's towers and their inputs. (Golden data pin the numbers.)"""

import numpy as np
import pytest
import torch
from torch.nn import functional

from ovmer.baselines.errors import CheckpointError, MissingModality
from ovmer.baselines.layers.imagebind import (
    IMAGEBIND_PUBLISHED,
    ImageBindAudio,
    ImageBindConfig,
    ImageBindVision,
    imagebind_keys,
    mel_pictures,
    views,
)
from ovmer.baselines.weight_files import LazyTensor
from ovmer.baselines.weights import rename, renamed

SIZES = ImageBindConfig(heads=3, width=24, layers=2, ffn=48, output=20)


def tower(kind):
    torch.manual_seed(5)
    built = kind(SIZES)
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return built.eval()


def lazy(names):
    return {name: LazyTensor(shape, name, lambda: torch.empty(0)) for name, shape in names.items()}


# -- the towers ----------------------------------------------------------------------------------


def test_vectors_have_length_one():
    with torch.inference_mode():
        seen = tower(ImageBindVision)(torch.randn(3, 3, 2, 224, 224))
        heard = tower(ImageBindAudio)(torch.randn(3, 1, 128, 204))
    for vectors in (seen, heard):
        assert vectors.shape == (3, 20)
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(3))


def test_the_ear_has_one_key_and_one_value_more():
    """Attention written out once more, with the learned pair at the end."""
    block = tower(ImageBindAudio).blocks[0]
    x = torch.randn(1, 229, 24)
    attention, y = block.attn, block.norm_1(x)
    q, k, v = functional.linear(y, attention.in_proj_weight, attention.in_proj_bias).chunk(3, -1)
    k, v = torch.cat([k, attention.bias_k], dim=1), torch.cat([v, attention.bias_v], dim=1)
    q, k, v = (part.unflatten(-1, (3, 8)).transpose(1, 2) for part in (q, k, v))
    weights = (q @ k.transpose(-1, -2) / 8**0.5).softmax(dim=-1)
    assert weights.shape == (1, 3, 229, 230)
    expected = x + attention.out_proj((weights @ v).transpose(1, 2).flatten(2))
    hidden = functional.gelu(block.mlp.fc1(block.norm_2(expected)))
    torch.testing.assert_close(block(x), expected + block.mlp.fc2(hidden), rtol=1e-5, atol=1e-5)


def test_the_scale_of_sound_is_twenty_and_at_most_a_hundred():
    ear = tower(ImageBindAudio)
    for logarithm, scale in ((np.log(20), 20.0), (7.0, 100.0)):
        ear.log_scale.data.fill_(logarithm)
        assert float(ear.scale.detach()) == pytest.approx(scale)


# -- the file ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), [("vision", ImageBindVision), ("audio", ImageBindAudio)])
def test_names_go_there_and_back(name, kind):
    ours = [f"{name}.{key}" for key in kind(SIZES).state_dict()]
    published = [renamed(key, IMAGEBIND_PUBLISHED) for key in ours]
    assert all(key.startswith("modality_") for key in published)
    assert [renamed(key, imagebind_keys("vision", "audio")) for key in published] == ours


def test_towers_that_are_not_used_are_left_out():
    text = lazy(
        {
            "modality_trunks.text.blocks.0.norm_1.weight": (4,),
            "modality_preprocessors.imu.cls_token": (1, 1, 4),
            "modality_trunks.vision.blocks.0.norm_1.weight": (4,),
            "modality_trunks.audio.blocks.0.norm_1.weight": (4,),
        }
    )
    assert list(rename(text, imagebind_keys("audio"))) == ["audio.blocks.0.norm_1.weight"]
    assert len(rename(text, imagebind_keys("vision", "audio"))) == 2


def test_sizes_are_read_from_shapes():
    shapes = {
        f"audio.{key}": value.shape for key, value in ImageBindAudio(SIZES).state_dict().items()
    }
    assert ImageBindConfig.from_tensors(lazy(shapes), "audio", heads=3) == SIZES
    with pytest.raises(CheckpointError, match=r"no vision tower.*imagebind_huge\.pth"):
        ImageBindConfig.from_tensors(lazy(shapes), "vision", heads=3)


# -- the inputs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("sides", "along"), [((50, 120), 1), ((120, 50), 0), ((60, 60), 0)])
def test_each_pair_is_seen_three_times(sides, along):
    """Of a picture that grows lighter along its longer side, three crops of growing lightness."""
    ramp = np.linspace(0, 255, sides[along]).astype(np.uint8)
    picture = np.broadcast_to(ramp[:, None] if along == 0 else ramp, sides)
    frames = np.stack([picture, 255 - picture] * 2)[..., None].repeat(3, axis=-1)
    seen = views(frames)
    assert seen.shape == (2 * 3, 3, 2, 224, 224)
    assert torch.equal(seen[:3], seen[3:])  # clip by clip, three crops of each
    lightness = seen[:3, 0, 0].mean(dim=(1, 2))
    if sides[0] == sides[1]:
        assert torch.equal(seen[0], seen[1])
    else:
        assert lightness.diff().min() > 0.5
    assert (seen[:3, :, 0] - seen[:3, :, 1]).abs().max() > 1  # first and last frame, apart


def test_short_sound_is_filled_up_with_zeros():
    half, long = (np.random.default_rng(1).normal(size=n).astype(np.float32) for n in (8000, 40000))
    pictures = mel_pictures([half, half * 2]), mel_pictures([long])
    assert pictures[0].shape == (2, 1, 128, 204)
    filled = pictures[0][0, 0, :, 48:]
    torch.testing.assert_close(filled, torch.full_like(filled, 4.268 / 9.138))
    louder = pictures[0][1, 0, :, :48] - pictures[0][0, 0, :, :48]
    louder = louder[louder != 0]  # one bin is too narrow to hold anything
    torch.testing.assert_close(louder, torch.full_like(louder, np.log(4) / 9.138))
    assert len(louder) == 127 * 48
    assert pictures[1].shape == (1, 1, 128, 204)


def test_what_is_too_short_to_be_heard_is_no_sound():
    with pytest.raises(MissingModality, match="less than 25 ms"):
        mel_pictures([np.zeros(399, np.float32)])
    assert mel_pictures([np.zeros(400, np.float32)]).isfinite().all()
