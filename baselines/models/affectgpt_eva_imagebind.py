"""EVA-CLIP and ImageBind as encoders of AffectGPT (Figure 4), which have files of other kinds.

    picture   EVA-ViT-g, the norm and Q-Former of BLIP-2 -> 32 x 768 a frame, of which the mean
    sound     2 s, a mel spectrogram -> ImageBind -> 1024, times ImageBind's own scale

Upstream takes that mean as well, early or late; only a fusion by Q-Former would not. In training
frames are cropped at random, and ImageBind leaves paths out by the accident of HuBERT's noise.
Source: zeroQiaoba/MERTools at 89120b78, my_affectgpt: `models/encoder.py`, `processors/` and
`models/ImageBind/`.
"""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Blip2VisionConfig

from ovmer.baselines.checkpoint import file_of
from ovmer.baselines.layers.clip_vision import normalise
from ovmer.baselines.layers.eva_vit import EVA_FILE, EvaVit, read_eva, write_eva_miniature
from ovmer.baselines.layers.imagebind import (
    AUDIO,
    AUDIO_HEADS,
    IMAGEBIND_FILE,
    IMAGEBIND_PUBLISHED,
    MINI_AUDIO,
    ImageBindAudio,
    ImageBindConfig,
    imagebind_keys,
    mel_pictures,
)
from ovmer.baselines.layers.qformer import (
    BLIP2_FILE,
    BLIP2_KEYS,
    QFormer,
    QFormerConfig,
    published_qformer,
    read_blip2,
)
from ovmer.baselines.miniature import publish, random_tensors
from ovmer.baselines.weight_files import Tensors, read_tensors
from ovmer.baselines.weights import Renames, join, rename, weightless

_QUERIES = 32
_PUBLISHED: Renames = (
    *published_qformer("qformer.", "Qformer."),
    (r"^queries$", "query_tokens"),
)
_DROPPED = 0.1
"""`audio_drop_path` of imagebind_huge: the share of the last block, growing from 0 in the first."""
_AREA, _RATIO = (0.5, 1.0), (3 / 4, 4 / 3)
"""Of a random crop (alpro_video_train): its share of the picture, its width by its height."""


@dataclass(frozen=True)
class EvaConfig:
    """Sizes of the tower and of the Q-Former behind it."""

    vision: Blip2VisionConfig
    qformer: QFormerConfig
    queries: int


class EvaEncoder(nn.Module):
    """EVA-ViT-g, norm and Q-Former, always in evaluation mode, as upstream has it."""

    def __init__(self, config: EvaConfig) -> None:
        super().__init__()
        self.vit = EvaVit(config.vision)
        self.ln_vision = nn.LayerNorm(config.vision.hidden_size)
        self.queries = nn.Parameter(torch.empty(1, config.queries, config.qformer.width))
        self.qformer = QFormer(config.qformer)

    def train(self, mode: bool = True) -> "EvaEncoder":
        return super().train(False)

    def forward(self, frames: Tensor) -> Tensor:
        """T x side x side x 3, uint8 -> T x width."""
        pixels = normalise(frames).to(self.queries.dtype)
        found = self.qformer(self.queries, self.ln_vision(self.vit(pixels)))
        return found.mean(dim=1)


def eva_config(folder: Path) -> EvaConfig:
    """The sizes that the files of LAVIS in `folder` tell. Raises CheckpointError for others."""
    vision, _ = read_eva(folder, "vit.")
    rest = rename(read_blip2(folder), BLIP2_KEYS)
    sizes = QFormerConfig.from_tensors(rest, "qformer.")
    return EvaConfig(vision, sizes, rest["queries"].sides(3)[1])


def read_eva_encoder(folder: Path, config: EvaConfig) -> Tensors:
    """The tensors of an `EvaEncoder`."""
    _, tower = read_eva(folder, "vit.", side=config.vision.image_size)
    return join(tower, rename(read_blip2(folder), BLIP2_KEYS))


def imagebind_config(path: Path) -> ImageBindConfig:
    """The sizes of the tower for sound in imagebind_huge.pth, or in the folder that holds it."""
    tensors = rename(read_tensors(file_of(path, IMAGEBIND_FILE)), imagebind_keys(AUDIO))
    return ImageBindConfig.from_tensors(tensors, AUDIO, AUDIO_HEADS)


def read_imagebind(path: Path) -> Tensors:
    """The tensors of an `ImageBindAudio`."""
    keys = (*imagebind_keys(AUDIO), (r"^audio\.", ""))
    return rename(read_tensors(file_of(path, IMAGEBIND_FILE)), keys)


def spectrograms(sound: Tensor) -> Tensor:
    """Stretches of sound (... x 32000, each less its mean) -> ... x 1 x 128 x 204."""
    flat = sound.flatten(0, -2).cpu().numpy()
    return mel_pictures(list(flat)).unflatten(0, sound.shape[:-1])


def hear_spectrograms(encoder: nn.Module, mel: Tensor) -> Tensor:
    """N x 1 x 128 x 204 -> N x 1024."""
    heard: Tensor = encoder(mel) * encoder.scale
    return heard


def random_crop(frames: Tensor) -> Tensor:
    """One random part of all frames (T x height x width x 3, uint8), stretched to their size.

    Bicubic, with upstream's rounding: down, and around where it overshoots.
    """
    height, width = frames.shape[1:3]
    top, left, rows, columns = _part(height, width)
    part = frames[:, top : top + rows, left : left + columns].permute(0, 3, 1, 2).float()
    larger = nn.functional.interpolate(part, (height, width), mode="bicubic", align_corners=False)
    return larger.permute(0, 2, 3, 1).to(torch.int32).to(torch.uint8)


def _part(height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, rows and columns, as torchvision's RandomResizedCrop draws them."""
    for _ in range(10):
        area = height * width * float(torch.empty(1).uniform_(*_AREA))
        ratio = math.exp(float(torch.empty(1).uniform_(*map(math.log, _RATIO))))
        columns, rows = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if rows <= height and columns <= width:
            top, left = (int(torch.randint(0, n + 1, ())) for n in (height - rows, width - columns))
            return top, left, rows, columns
    return 0, 0, height, width


def drop_paths(tower: ImageBindAudio) -> None:
    """In train mode leave out what attention and MLP add, for each row by chance (timm's DropPath).

    Upstream's ImageBind gets into train mode with the rest of the model.
    """
    shares = torch.linspace(0, _DROPPED, len(tower.blocks))
    for block, share in zip(tower.blocks, shares, strict=True):
        for part in (block.attn, block.mlp):
            part.register_forward_hook(partial(_dropped, float(share)))  # type: ignore[union-attr]


def _dropped(share: float, part: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
    if not part.training:
        return output
    added, *others = (output,) if isinstance(output, Tensor) else output
    kept = (torch.rand(len(added), 1, 1) >= share).to(added)
    added = added * kept / (1 - share)
    return added if isinstance(output, Tensor) else (added, *others)


def write_eva_encoder_miniature(folder: Path, seed: int) -> None:
    """Random files of LAVIS with small widths."""
    write_eva_miniature(folder / EVA_FILE, seed)
    vision, _ = read_eva(folder, "vit.")
    sizes = QFormerConfig(encoder_width=vision.hidden_size, layers=2, width=48, ffn=64)
    with weightless():
        encoder = EvaEncoder(EvaConfig(vision, sizes, _QUERIES))
    drawn = random_tensors(encoder, seed)
    held = {name: drawn[name] for name in drawn if not name.startswith("vit.")}
    torch.save({"model": publish(held, _PUBLISHED)}, folder / BLIP2_FILE)


def write_imagebind_miniature(folder: Path, seed: int) -> None:
    """A random imagebind_huge.pth that holds the tower for sound alone."""
    with weightless():
        tower = ImageBindAudio(MINI_AUDIO)
    named = {f"{AUDIO}.{name}": tensor for name, tensor in random_tensors(tower, seed).items()}
    torch.save(publish(named, IMAGEBIND_PUBLISHED), folder / IMAGEBIND_FILE)
