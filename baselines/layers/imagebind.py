"""ImageBind's towers for pictures and for sound (Girdhar et al., CVPR 2023, arXiv 2305.05665).

    2 frames of 224 px            -> Conv3d 2 x 14 x 14          -> 256 patches | + class token
    2 s of sound, 128 x 204 mel   -> Conv2d 16 x 16, stride 10   -> 228 patches | + positions
        -> pre-norm transformer -> class token -> LayerNorm -> Linear -> vector of length 1

`imagebind_huge.pth` holds four more towers, which are neither built nor read. The sound tower's
attention has one learned key and value more than there are patches, which no class of transformers
has; torch's `MultiheadAttention` does.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize, pad

from ovmer.baselines.errors import CheckpointError, MissingModality
from ovmer.baselines.images import three_crops
from ovmer.baselines.layers.kaldi_fbank import FRAME, kaldi_fbank
from ovmer.baselines.weight_files import Tensors
from ovmer.baselines.weights import Renames, check_heads

IMAGEBIND_FILE = "imagebind_huge.pth"
VISION, AUDIO = "vision", "audio"
VISION_HEADS, AUDIO_HEADS = 16, 12
"""Of imagebind_huge (`imagebind_model.py`); the only sizes that leave no trace in the file."""

FRAMES_PER_VIEW = 2

_SIDE = 224
_MEL_BINS, _MEL_FRAMES = 128, 204
# Of log energies over AudioSet (`load_and_transform_audio_data`).
_MEL_MEAN, _MEL_STD = -4.268, 9.138
_LARGEST_SCALE = 100

# Published name -> ours, behind the tower's name. (The published order is part, tower, rest.)
_KEYS = (
    (r"preprocessors\.(\w+)\.cls_token", r"\1.class_token"),
    (r"preprocessors\.(\w+)\.pos_embedding_helper\.pos_embed", r"\1.positions"),
    (r"preprocessors\.(\w+)\.rgbt_stem\.norm_layer\.", r"\1.stem_norm."),
    (r"preprocessors\.(\w+)\.rgbt_stem\.proj\.(1\.)?", r"\1.stem."),
    (r"trunks\.(\w+)\.pre_transformer_layer\.0\.", r"\1.pre_norm."),
    (r"trunks\.(\w+)\.blocks\.", r"\1.blocks."),
    (r"heads\.(\w+)\.0\.", r"\1.norm."),
    (r"heads\.(\w+)\.2\.", r"\1.projection."),
    (r"postprocessors\.(\w+)\.1\.log_logit_scale", r"\1.log_scale"),
)
# The way back, for miniatures.
IMAGEBIND_PUBLISHED: Renames = (
    (r"^(\w+)\.class_token$", r"modality_preprocessors.\1.cls_token"),
    (r"^(\w+)\.positions$", r"modality_preprocessors.\1.pos_embedding_helper.pos_embed"),
    (r"^(\w+)\.stem_norm\.", r"modality_preprocessors.\1.rgbt_stem.norm_layer."),
    (r"^vision\.stem\.", r"modality_preprocessors.vision.rgbt_stem.proj.1."),
    (r"^audio\.stem\.", r"modality_preprocessors.audio.rgbt_stem.proj."),
    (r"^(\w+)\.pre_norm\.", r"modality_trunks.\1.pre_transformer_layer.0."),
    (r"^(\w+)\.blocks\.", r"modality_trunks.\1.blocks."),
    (r"^(\w+)\.norm\.", r"modality_heads.\1.0."),
    (r"^(\w+)\.projection\.", r"modality_heads.\1.2."),
    (r"^(\w+)\.log_scale$", r"modality_postprocessors.\1.1.log_logit_scale"),
)


def imagebind_keys(*towers: str) -> Renames:
    """Published names -> those of modules called `vision` and `audio`; other towers left out."""
    wanted = "|".join(towers)
    other = (rf"^modality_\w+\.(?!(?:{wanted})\.)", None)
    return other, *((f"^modality_{published}", ours) for published, ours in _KEYS)


@dataclass(frozen=True)
class ImageBindConfig:
    """Sizes of one tower; `output` is the width of its vectors."""

    heads: int
    width: int
    layers: int
    ffn: int
    output: int

    @classmethod
    def from_tensors(cls, tensors: Tensors, tower: str, heads: int) -> "ImageBindConfig":
        """The sizes that the shapes of renamed tensors tell.

        Raises CheckpointError where there is no such tower.
        """
        block = re.compile(rf"{tower}\.blocks\.(\d+)\.mlp\.fc1\.weight")
        found = [int(match[1]) for key in tensors if (match := block.fullmatch(key))]
        last = tensors.get(f"{tower}.projection.weight")
        if not found or last is None:
            raise CheckpointError(
                f"the checkpoint has no {tower} tower of ImageBind; is it {IMAGEBIND_FILE}?"
            )
        first = tensors[f"{tower}.blocks.{found[0]}.mlp.fc1.weight"]
        ffn, width = first.sides(2)
        check_heads(first, width, heads)
        return cls(heads, width, 1 + max(found), ffn, last.sides(2)[0])


MINI_AUDIO = ImageBindConfig(heads=AUDIO_HEADS, width=36, layers=2, ffn=64, output=40)
"""The sound tower of a miniature."""


class _Mlp(nn.Module):
    def __init__(self, width: int, ffn: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, ffn)
        self.fc2 = nn.Linear(ffn, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(gelu(self.fc1(x)))
        return out


class _ImageBindBlock(nn.Module):
    def __init__(self, config: ImageBindConfig, extra_key: bool) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(
            config.width, config.heads, add_bias_kv=extra_key, batch_first=True
        )
        self.norm_1 = nn.LayerNorm(config.width, eps=1e-6)
        self.norm_2 = nn.LayerNorm(config.width, eps=1e-6)
        self.mlp = _Mlp(config.width, config.ffn)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        x = x + self.mlp(self.norm_2(x))
        return x


class _Tower(nn.Module):
    """Base class of both towers: the transformer over patches, and its head."""

    def __init__(self, config: ImageBindConfig, patches: int, extra_key: bool) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.empty(1, 1, config.width))
        self.positions = nn.Parameter(torch.empty(1, 1 + patches, config.width))
        self.blocks = nn.ModuleList(
            _ImageBindBlock(config, extra_key) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.projection = nn.Linear(config.width, config.output, bias=False)

    def _placed(self, patches: Tensor) -> Tensor:
        """N x patches x width -> N x (1 + patches) x width, the class token first."""
        first = self.class_token.expand(len(patches), -1, -1)
        return torch.cat([first, patches], dim=1) + self.positions

    def _read(self, x: Tensor) -> Tensor:
        """N x positions x width -> N x output, each of length 1."""
        for block in self.blocks:
            x = block(x)
        return normalize(self.projection(self.norm(x[:, 0])), dim=-1)


class ImageBindVision(_Tower):
    def __init__(self, config: ImageBindConfig) -> None:
        patch = (FRAMES_PER_VIEW, 14, 14)
        super().__init__(config, (_SIDE // patch[-1]) ** 2, extra_key=False)
        self.stem = nn.Conv3d(3, config.width, patch, stride=patch, bias=False)
        self.pre_norm = nn.LayerNorm(config.width, eps=1e-6)

    def forward(self, views: Tensor) -> Tensor:
        """N x 3 x 2 x 224 x 224 -> N x output, each of length 1."""
        patches = self.stem(views).flatten(2).transpose(1, 2)
        return self._read(self.pre_norm(self._placed(patches)))


class ImageBindAudio(_Tower):
    def __init__(self, config: ImageBindConfig) -> None:
        patch, step = 16, 10
        rows, columns = ((side - patch) // step + 1 for side in (_MEL_BINS, _MEL_FRAMES))
        super().__init__(config, rows * columns, extra_key=True)
        self.stem = nn.Conv2d(1, config.width, patch, stride=step, bias=False)
        self.stem_norm = nn.LayerNorm(config.width, eps=1e-5)
        self.log_scale = nn.Parameter(torch.empty(()))

    def forward(self, mel: Tensor) -> Tensor:
        """N x 1 x 128 x 204 -> N x output, each of length 1."""
        patches = self.stem(mel).flatten(2).transpose(1, 2)
        return self._read(self._placed(self.stem_norm(patches)))

    @property
    def scale(self) -> Tensor:
        """The length that ImageBind itself gives its vectors of sound (20 as published)."""
        return self.log_scale.exp().clamp(max=_LARGEST_SCALE)


def mel_pictures(windows: Sequence[npt.NDArray[np.float32]]) -> Tensor:
    """Stretches of mono sound at 16 kHz -> N x 1 x 128 x 204, float32; two seconds are 198 frames.

    Raises MissingModality where a stretch is shorter than a frame.
    """
    pictures = [spectrogram(each, _MEL_FRAMES, _MEL_MEAN, _MEL_STD) for each in windows]
    return torch.stack(pictures)[:, None]


def spectrogram(
    samples: npt.NDArray[np.float32], frames: int, mean: float, deviation: float
) -> Tensor:
    """Mono sound at 16 kHz -> log mel energies (128 x frames, float32), normalised.

    What is longer is cut, what is shorter filled with zeros before normalisation. Raises
    MissingModality where the sound is shorter than a frame.
    """
    if len(samples) < FRAME:
        raise MissingModality("the clip has less than 25 ms of sound, too little to be heard")
    mel = torch.from_numpy(kaldi_fbank(samples, _MEL_BINS, "hanning").T[:, :frames])
    filled = pad(mel, (0, frames - mel.shape[1]))
    return ((filled - mean) / deviation).float()


def views(frames: npt.NDArray[np.uint8]) -> Tensor:
    """Pairs of frames (2n x height x width x 3) -> 3n x 3 x 2 x 224 x 224, float32.

    Each pair is seen three times, as `three_crops` has it.
    """
    pairs = three_crops(frames, _SIDE).unflatten(0, (-1, FRAMES_PER_VIEW))
    return pairs.permute(0, 2, 3, 1, 4, 5).flatten(0, 1)
