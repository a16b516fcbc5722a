"""Image preprocessing that several models share."""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Per channel, of values in 0..1 (Radford et al., 2021)."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""The same, of ImageNet's pictures."""


def three_crops(frames: npt.NDArray[np.uint8], side: int) -> Tensor:
    """Frames (n x height x width x 3) -> n x 3 crops x 3 x side x side, float32.

    Video preprocessing of ImageBind and models built on it (data.py over pytorchvideo): the short
    side is scaled to `side` bilinearly and not antialiased, and each frame seen three times, at the
    left or top, in the middle, at the right or bottom. Nothing beside the crops is scaled, so that
    a frame costs the same however thin it is.
    """
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
    height, width = pixels.shape[-2:]
    long, short = (2, 3) if height > width else (3, 2)
    scaled = math.floor(pixels.shape[long] / pixels.shape[short] * side)
    crops = []
    for start in (0, math.ceil((scaled - side) / 2), scaled - side):
        crop = _scaled(pixels, long, scaled, slice(start, start + side))
        crops.append(_scaled(crop, short, side, slice(0, side)))
    mean, std = (torch.tensor(values)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    return (torch.stack(crops, dim=1) / 255 - mean) / std


def _scaled(pixels: Tensor, axis: int, scaled: int, part: slice) -> Tensor:
    """Part of the result of torch's `interpolate` along an axis, scaled to `scaled` positions.

    Bilinear, corners not aligned; positions are computed in single precision as there.
    """
    size = pixels.shape[axis]
    positions = (torch.arange(part.start, part.stop) + 0.5) * (size / scaled) - 0.5
    positions = positions.clamp(min=0)
    before = positions.long()
    after = (before + 1).clamp(max=size - 1)
    share = (positions - before).view(-1, *[1] * (pixels.dim() - 1 - axis))
    left, right = (pixels.index_select(axis, index).float() for index in (before, after))
    return left * (1 - share) + right * share
