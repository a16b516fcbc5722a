"""The image tower of SigLIP (Zhai et al., 2023, arXiv 2303.15343) and its pixels.

Models use the patches after an inner layer, so the layers above it are neither built nor read.
Preprocessing is in two steps, each where it costs least: `stretch` on the CPU, `normalise` on the
device. Together they give the pixels of transformers' PIL image processor.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import SiglipVisionConfig
from transformers.models.siglip.modeling_siglip import SiglipEncoderLayer, SiglipVisionEmbeddings

from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.layers.clip_vision import depth_of
from ovmer.baselines.miniature import publish, random_tensors, write_json
from ovmer.baselines.weights import Renames, weightless


class SiglipVision(nn.Module):
    """The tower up to the hidden state `layer`: -1 is the last layer's output, -2 the one below.

    The norm after the last layer belongs to no hidden state, so it is left out.
    """

    def __init__(self, config: SiglipVisionConfig, layer: int) -> None:
        super().__init__()
        self.embeddings = SiglipVisionEmbeddings(config)
        self.layers = nn.ModuleList(
            SiglipEncoderLayer(config) for _ in range(depth_of(config, layer))
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """T x 3 x size x size -> T x patches x width; there is no class token."""
        x: Tensor = self.embeddings(pixels)
        for layer in self.layers:
            x = layer(x, attention_mask=None)
        return x


def siglip_config(folder: Path) -> SiglipVisionConfig:
    """The image tower of a SigLIP folder; fields that its config.json leaves out are defaults.

    Raises CheckpointError where the folder holds something else.
    """
    published: Mapping[str, Any] = read_json(folder)
    vision = published.get("vision_config", published)
    if "siglip" not in str(published.get("model_type")) or not isinstance(vision, Mapping):
        raise CheckpointError(
            f"{folder / 'config.json'} describes no SigLIP; is it the right folder?"
        )
    config: SiglipVisionConfig = SiglipVisionConfig.from_dict(dict(vision))
    config._attn_implementation = "sdpa"
    return config


def siglip_keys(config: SiglipVisionConfig, layer: int, prefix: str = "") -> Renames:
    """The published names of a SigLIP -> those of a `SiglipVision` called `prefix`."""
    above = "|".join(str(i) for i in range(depth_of(config, layer), config.num_hidden_layers))
    return (
        (r"^(text_model\.|logit_(scale|bias)$)", None),  # the contrastive half
        (rf"^vision_model\.(encoder\.layers\.({above})|post_layernorm|head)\.", None),
        (r"\.position_ids$", None),  # computed
        (r"^vision_model\.(encoder\.)?", prefix),
    )


def stretch(frames: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """Frames (T x height x width x 3) -> T x side x side x 3, bicubic, whatever their shape."""
    resized = [
        np.asarray(Image.fromarray(frame).resize((side, side), Image.Resampling.BICUBIC))
        for frame in frames
    ]
    return np.stack(resized)


def normalise(frames: Tensor) -> Tensor:
    """Frames as bytes (T x side x side x 3) -> pixels in -1..1 (T x 3 x side x side, float32)."""
    pixels = frames.permute(0, 3, 1, 2).to(torch.float32) / 255
    return (pixels - 0.5) / 0.5


def write_siglip_miniature(folder: Path, seed: int, side: int, patch: int) -> None:
    """A random SigLIP with the published files and small widths, for pictures of `side` pixels."""
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": side,
        "patch_size": patch,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", {"model_type": "siglip", "vision_config": vision})
    with weightless():
        tower = SiglipVision(siglip_config(folder), layer=-1)
    published = (
        (r"^embeddings\.", "vision_model.embeddings."),
        (r"^layers\.", "vision_model.encoder.layers."),
    )
    rest = {"vision_model.post_layernorm.bias": torch.zeros(32), "logit_scale": torch.ones(1)}
    tensors = publish(random_tensors(tower, seed), published) | rest
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
