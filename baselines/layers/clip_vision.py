"""The image tower of OpenAI's CLIP (Radford et al., 2021, arXiv 2103.00020) and its pixels.

Many models use the patches' hidden states of one of its inner layers; the layers
above are neither built nor read. Preprocessing is in two steps, each where it costs least:
`shortest_side_crop` on the CPU, `normalise` on the device. Together they give the pixels of
transformers' PIL image processor bit for bit.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPVisionConfig, SiglipVisionConfig
from transformers.models.clip.modeling_clip import CLIPEncoderLayer, CLIPVisionEmbeddings

from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.images import CLIP_MEAN, CLIP_STD
from ovmer.baselines.miniature import publish, random_tensors, write_json
from ovmer.baselines.weight_files import Tensors
from ovmer.baselines.weights import Renames, weightless

CLIP_FIELDS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "image_size",
    "patch_size",
    "hidden_act",
    "layer_norm_eps",
)
OPEN_CLIP_NAMES = (
    ("class_embedding", "embeddings.class_embedding"),
    ("conv1", "embeddings.patch_embedding"),
    ("positional_embedding", "embeddings.position_embedding.weight"),
    ("ln_pre", "pre_layrnorm"),
    ("transformer.resblocks.*.ln_1", "layers.*.layer_norm1"),
    ("transformer.resblocks.*.attn.in_proj_weight", "layers.*.self_attn.in_proj.weight"),
    ("transformer.resblocks.*.attn.in_proj_bias", "layers.*.self_attn.in_proj.bias"),
    ("transformer.resblocks.*.attn.out_proj", "layers.*.self_attn.out_proj"),
    ("transformer.resblocks.*.ln_2", "layers.*.layer_norm2"),
    ("transformer.resblocks.*.mlp.c_fc", "layers.*.mlp.fc1"),
    ("transformer.resblocks.*.mlp.c_proj", "layers.*.mlp.fc2"),
)
"""OpenAI's and open_clip's names in the tower `visual`, and those of a `ClipVision`."""
OPEN_CLIP_FUSED = ("in_proj", ("q_proj", "k_proj", "v_proj"))
"""For `weights.split`, after the renames."""

MINI_CLIP: Mapping[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 224,
    "patch_size": 14,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
"""The tower's part of a miniature's config.json: 256 patches, and small widths."""


class ClipVision(nn.Module):
    """The tower up to the hidden state `layer`: -1 is the last layer's output, -2 the one below."""

    def __init__(self, config: CLIPVisionConfig, layer: int) -> None:
        super().__init__()
        self.embeddings = CLIPVisionEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.layers = nn.ModuleList(
            CLIPEncoderLayer(config) for _ in range(depth_of(config, layer))
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """T x 3 x size x size -> T x positions x width; position 0 is the class token."""
        return self.transform(self.embeddings(pixels))

    def transform(self, embedded: Tensor) -> Tensor:
        """N x positions x width, position embeddings added -> the same; any number of positions."""
        x: Tensor = self.pre_layrnorm(embedded)
        for layer in self.layers:
            x = layer(x, attention_mask=None)
        return x


def depth_of(config: CLIPVisionConfig | SiglipVisionConfig, layer: int) -> int:
    """How many layers of a tower the hidden state `layer`, counted from the last, needs.

    Raises CheckpointError where the tower has no such state.
    """
    depth: int = config.num_hidden_layers + 1 + layer
    if not layer < 0 < depth:
        raise CheckpointError(
            f"hidden state {layer} is wanted of a tower of {config.num_hidden_layers} layers; do "
            "the configurations of tower and model belong together?"
        )
    return depth


def clip_vision_config(folder: Path) -> CLIPVisionConfig:
    """The image tower's shape in the folder of a CLIP (both towers, or this one alone)."""
    content = read_json(folder)
    config: Any = content
    while isinstance(config, Mapping) and "vision_config" in config:
        config = config["vision_config"]
    published = {name: value for name, value in (config or {}).items() if value is not None}
    lost = [name for name in CLIP_FIELDS if name not in published]
    # transformers' own class writes only what differs from its defaults.
    if lost and published.get("model_type") != "clip_vision_model":
        raise CheckpointError(
            f"{folder / 'config.json'} lacks {', '.join(lost)} of an image tower; is it a CLIP?"
        )
    fields = {name: published[name] for name in CLIP_FIELDS if name in published}
    return CLIPVisionConfig(**fields, attn_implementation="sdpa")


def open_clip_config(tensors: Tensors, tower: str, heads: int) -> CLIPVisionConfig:
    """Configuration of `tower` from the shapes of renamed tensors, which do not show its heads.

    Raises CheckpointError where there is none.
    """
    layers = len(
        [key for key in tensors if re.match(rf"{tower}\.layers\.\d+\.mlp\.fc1\.weight$", key)]
    )
    names = ("layers.0.mlp.fc1", "embeddings.patch_embedding", "embeddings.position_embedding")
    found = [tensors.get(f"{tower}.{name}.weight") for name in names]
    if not all(found):
        raise CheckpointError("the checkpoint has no image tower of CLIP; is it the right file?")
    mlp, patches, positions = (
        tensor.sides(count) for tensor, count in zip(found, (2, 4, 2), strict=True) if tensor
    )
    return CLIPVisionConfig(
        hidden_size=patches[0],
        intermediate_size=mlp[0],
        num_hidden_layers=layers,
        num_attention_heads=heads,
        image_size=patches[-1] * math.isqrt(positions[0] - 1),
        patch_size=patches[-1],
        hidden_act="quick_gelu",
        layer_norm_eps=1e-5,
        attn_implementation="sdpa",
    )


def clip_keys(config: CLIPVisionConfig, layer: int, prefix: str) -> Renames:
    """The published names of a CLIP -> those of a `ClipVision` called `prefix`."""
    above = "|".join(str(i) for i in range(depth_of(config, layer), config.num_hidden_layers))
    return (
        (r"^(text_model|visual_projection|text_projection)\.", None),  # the contrastive half
        (r"^logit_scale$", None),
        (r"\.position_ids$", None),  # computed
        (rf"^vision_model\.(encoder\.layers\.({above})|post_layernorm)\.", None),  # not looked at
        (r"^vision_model\.(encoder\.)?", prefix),
    )


def shortest_side_crop(
    frames: npt.NDArray[np.uint8], size: int, *, rounded: bool = False
) -> npt.NDArray[np.uint8]:
    """Bring the shorter side to `size` (bicubic, antialiased) and cut out the middle square.

    T x height x width x 3 -> T x size x size x 3. If the middle is between two pixels, the
    image processor cuts before it; torchvision's CenterCrop (`rounded`) at the even one.
    """
    sides = frames.shape[1:3]
    height, width = (int(size * side / min(sides)) for side in sides)
    middle = round if rounded else math.floor
    top, left = middle((height - size) / 2), middle((width - size) / 2)
    square = (left, top, left + size, top + size)
    resized = (Image.fromarray(f).resize((width, height), Image.Resampling.BICUBIC) for f in frames)
    return np.stack([np.asarray(picture.crop(square)) for picture in resized])


def normalise(
    frames: Tensor, means: Sequence[float] = CLIP_MEAN, deviations: Sequence[float] = CLIP_STD
) -> Tensor:
    """T x height x width x 3, uint8 -> pixels (T x 3 x height x width, float32).

    Rounded as the image processor rounds: to 0..1 in double precision, the rest in single.
    """
    scaled = (frames.double() * (1 / 255)).float()
    mean, std = torch.tensor([means, deviations], device=frames.device)
    return ((scaled - mean) / std).permute(0, 3, 1, 2).contiguous()


def write_clip_miniature(folder: Path, seed: int) -> None:
    """A random CLIP with the published files, 224 x 224 pixels in 256 patches, and small widths."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", {"model_type": "clip", "vision_config": MINI_CLIP})
    with weightless():
        tower = ClipVision(CLIPVisionConfig(**MINI_CLIP), layer=-1)
    published = (
        (r"^layers\.", "encoder.layers."),
        (r"^", "vision_model."),
    )
    tensors = publish(random_tensors(tower, seed), published)
    # Of the rest of a CLIP, which loading ignores, one tensor for each kind of name.
    for name in ("vision_model.post_layernorm.bias", "text_model.final_layer_norm.bias"):
        tensors[name] = torch.zeros(MINI_CLIP["hidden_size"])
    tensors["visual_projection.weight"] = torch.zeros(16, MINI_CLIP["hidden_size"])
    tensors["logit_scale"] = torch.tensor(2.6592)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
