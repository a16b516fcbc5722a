"""Three crops of a frame, against torch's scaling of the whole."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from ovmer.baselines.images import CLIP_MEAN, CLIP_STD, three_crops


@pytest.mark.parametrize(
    "sides", [(72, 96), (96, 72), (64, 64), (65, 64), (300, 500), (7, 90), (720, 404)]
)
def test_crops_are_those_of_the_scaled_frame(sides):
    frames = np.random.default_rng(2).integers(0, 256, (2, *sides, 3), dtype=np.uint8)
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    height, width = (math.floor(side / min(sides) * 56) for side in sides)
    pixels = interpolate(pixels, (height, width), mode="bilinear", align_corners=False)
    mean, std = (torch.tensor(values)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    pixels = (pixels - mean) / std
    top, left = (math.ceil((side - 56) / 2) for side in (height, width))
    first, middle, last = three_crops(frames, 56).unbind(dim=1)
    for ours, scaled in (
        (first, pixels[..., :56, :56]),
        (middle, pixels[..., top : top + 56, left : left + 56]),
        (last, pixels[..., height - 56 :, width - 56 :]),
    ):
        torch.testing.assert_close(ours, scaled, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("sides", [(2, 16384), (16384, 2)])
def test_a_thin_frame_costs_no_more_than_another(sides):
    """Scaled as a whole it would take five gigabytes."""
    frames = np.zeros((1, *sides, 3), np.uint8)
    frames[:, 1:, 1:] = 255
    crops = three_crops(frames, 224)
    assert crops.shape == (1, 3, 3, 224, 224)
    assert crops.isfinite().all()
    assert crops.amax() > crops.amin()
