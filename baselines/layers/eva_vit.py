"""EVA-ViT-g/14 (Fang et al., CVPR 2023, arXiv 2211.07636) as LAVIS cut it for BLIP-2.

    pixels -> patches of 14 x 14 and a class token -> + learned positions -> 39 pre-norm layers

All tokens of the last layer count, and no norm follows. Models differ in what they do next: most
put a norm of their own behind the tower (`ln_vision`, in another file), so none is built here.
The parts are those of transformers' BLIP-2.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import Blip2VisionConfig
from transformers.models.blip_2.modeling_blip_2 import Blip2EncoderLayer, Blip2VisionEmbeddings

from ovmer.baselines.checkpoint import file_of
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.miniature import publish, random_tensors
from ovmer.baselines.weight_files import LazyTensor, Tensors, read_tensors
from ovmer.baselines.weights import ForeignTensor, Renames, check_heads, rename, weightless

EVA_FILE = "eva_vit_g.pth"
EVA_HEADS = 16
"""No file tells it."""
_WIDTH, _LAYERS = 1408, 40
"""Of the published file, before its last layer is cut."""

_KEYS: Renames = (
    (
        r"^(mask_token$|lm_head\.)",
        ForeignTensor("it is of EVA's first training, to fill in masked pictures, not LAVIS' file"),
    ),
    (
        r"rel_pos_bias\.|relative_position_",
        ForeignTensor("it is of an EVA that adds relative positions in its attention"),
    ),
    (r"^(norm|fc_norm|head)\.", None),  # behind the last layer: of the classifier that it was
    (r"^cls_token$", "embeddings.class_embedding"),
    (r"^pos_embed$", "embeddings.position_embedding"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"^blocks\.(\d+)\.norm", r"layers.\1.layer_norm"),
    (r"^blocks\.(\d+)\.attn\.proj\.", r"layers.\1.self_attn.projection."),
    (r"^blocks\.(\d+)\.attn\.", r"layers.\1.self_attn."),
    (r"^blocks\.", "layers."),
)
_PUBLISHED: Renames = (
    (r"^embeddings\.class_embedding$", "cls_token"),
    (r"^embeddings\.position_embedding$", "pos_embed"),
    (r"^embeddings\.patch_embedding\.", "patch_embed.proj."),
    (r"^layers\.(\d+)\.layer_norm", r"blocks.\1.norm"),
    (r"\.self_attn\.projection\.", ".attn.proj."),
    (r"\.self_attn\.", ".attn."),
    (r"^layers\.", "blocks."),
)


class EvaVit(nn.Module):
    def __init__(self, config: Blip2VisionConfig) -> None:
        super().__init__()
        self.embeddings = Blip2VisionEmbeddings(config)
        self.layers = nn.ModuleList(
            Blip2EncoderLayer(config) for _ in range(config.num_hidden_layers)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """[frames, 3, size, size] -> [frames, positions, width]; position 0 is the class token."""
        x: Tensor = self.embeddings(pixels)
        for layer in self.layers:
            x = layer(x)
        return x


def read_eva(
    file: Path, here: str, heads: int = EVA_HEADS, side: int | None = None
) -> tuple[Blip2VisionConfig, Tensors]:
    """The tower's sizes, and its tensors named for an `EvaVit` that is built as `here`.

    `file` may be the folder that holds EVA_FILE. For pictures of another `side` in pixels than the
    file's, its table of positions is scaled as LAVIS does it (`interpolate_pos_embed`): bicubic,
    and not antialiased.

    The last of the published file's forty layers is not used: the models are made for what comes
    out of the thirty-ninth. A file with thirty-nine was cut there already. Raises CheckpointError
    where the file is of something else.
    """
    file = file_of(file, EVA_FILE)
    tensors = rename(read_tensors(file), _KEYS)
    found = {int(name.split(".")[1]) for name in tensors if name.startswith("layers.")}
    count = len(found)
    width = _config(tensors, 0, heads, file).hidden_size
    if found != set(range(count)) or (width == _WIDTH and count not in (_LAYERS, _LAYERS - 1)):
        raise CheckpointError(
            f"{file} has {count} layers where EVA-ViT-g has {_LAYERS}, or {_LAYERS - 1} once cut; "
            f"is it {EVA_FILE} of LAVIS?"
        )
    layers = count if count == _LAYERS - 1 else count - 1
    config = _config(tensors, layers, heads, file)
    check_heads(tensors["embeddings.patch_embedding.weight"], config.hidden_size, heads)
    if side not in (None, config.image_size):
        config.image_size = side
        table = tensors["embeddings.position_embedding"]
        tensors["embeddings.position_embedding"] = _scaled(table, side // config.patch_size)
    last = f"layers.{layers}."
    used = {name: tensor for name, tensor in tensors.items() if not name.startswith(last)}
    for layer in range(config.num_hidden_layers):
        _join_biases(used, f"layers.{layer}.self_attn.")
    return config, {f"{here}{name}": tensor for name, tensor in used.items()}


def eva_image_size(file: Path) -> int:
    """Side in pixels of the frames that the tower was made for; `file` as in `read_eva`."""
    file = file_of(file, EVA_FILE)
    return _config(rename(read_tensors(file), _KEYS), 0, EVA_HEADS, file).image_size


def _config(tensors: Tensors, layers: int, heads: int, file: Path) -> Blip2VisionConfig:
    try:
        patches = tensors["embeddings.patch_embedding.weight"]
        width, _, patch, _ = patches.sides(4)
        positions = tensors["embeddings.position_embedding"].sides(3)[1]
        hidden = tensors["layers.0.mlp.fc1.weight"].sides(2)[0]
    except KeyError:
        raise CheckpointError(f"{file} is no EVA-ViT; is it {EVA_FILE} of LAVIS?") from None
    return _sizes(width, layers, heads, hidden, patch, image=round((positions - 1) ** 0.5) * patch)


def _sizes(
    width: int, layers: int, heads: int, hidden: int, patch: int, image: int
) -> Blip2VisionConfig:
    return Blip2VisionConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=hidden,
        patch_size=patch,
        image_size=image,
        hidden_act="gelu",
        layer_norm_eps=1e-6,
        qkv_bias=True,
        attn_implementation="sdpa",
    )


def _scaled(table: LazyTensor, grid: int) -> LazyTensor:
    """Positions of a class token and a square of patches -> those of `grid` x `grid` patches."""
    shape = (1, 1 + grid * grid, table.shape[2])
    return replace(table, shape=shape, read=partial(_bicubic, table, grid), stored=None)


def _bicubic(table: LazyTensor, grid: int) -> Tensor:
    first, patches = table.read().float().split([1, table.shape[1] - 1], dim=1)
    square = patches.unflatten(1, (math.isqrt(patches.shape[1]), -1)).permute(0, 3, 1, 2)
    scaled = nn.functional.interpolate(square, (grid, grid), mode="bicubic", align_corners=False)
    return torch.cat([first, scaled.flatten(2).transpose(1, 2)], dim=1)


def _join_biases(tensors: Tensors, attention: str) -> None:
    """Queries and values have a bias in the file, keys have none: here they have one of zeros."""
    q, v = (tensors.pop(f"{attention}{name}_bias", None) for name in "qv")
    if q is None or v is None:
        return  # the strict loader reports missing tensors
    shape = (2 * q.sides(1)[0] + v.sides(1)[0],)
    tensors[f"{attention}qkv.bias"] = LazyTensor(shape, q.source, partial(_joined, q, v))


def _joined(q: LazyTensor, v: LazyTensor) -> Tensor:
    queries = q.read()
    return torch.cat([queries, torch.zeros_like(queries), v.read()])


def write_eva_miniature(file: Path, seed: int, width: int = 32, layers: int = 2) -> None:
    """A random tower in the published layout: 224 x 224 pixels in 256 patches, `layers` + 1 layers,
    and tensors that loading ignores."""
    with weightless():
        tower = EvaVit(_sizes(width, layers + 1, EVA_HEADS, 2 * width, patch=14, image=224))
    tensors = publish(_split_biases(random_tensors(tower, seed)), _PUBLISHED)
    tensors["norm.weight"], tensors["norm.bias"] = torch.ones(width), torch.zeros(width)
    torch.save(tensors, file)


def _split_biases(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    split: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith("qkv.bias"):
            attention = name.removesuffix("qkv.bias")
            split[f"{attention}q_bias"], _, split[f"{attention}v_bias"] = tensor.chunk(3)
        else:
            split[name] = tensor
    return split
