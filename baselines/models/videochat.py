"""VideoChat (Li et al., 2023, arXiv 2305.06355), the embedded model with 7B.

    8 frames -> EVA-ViT-g, 39 layers                        -> 8 x 257 tokens of width 1408 |
                one token of the whole video, which looks   -> 1 token                      |
                at all frames after each of the last 8      |                 2057 x 1408 --|
             -> LayerNorm -> Q-Former of BLIP-2 with 32 + 64 queries          -> 96 x 768
             -> Linear    -> 96 vectors of width 4096 in the prompt of Vicuna-7B v0

Source: OpenGVLab/Ask-Anything at 4dd8210b, `video_chat/models/` (`eva_vit.py` for the video's
token, which is UniFormerV2's; `videochat.py` for the order of the pieces and of the files).
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import Blip2VisionConfig, LlamaConfig, LlamaForCausalLM

from ovmer.baselines.checkpoint import file_of, read_json
from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.layers.clip_vision import normalise
from ovmer.baselines.layers.eva_vit import (
    EVA_FILE,
    EVA_HEADS,
    EvaVit,
    eva_image_size,
    read_eva,
    write_eva_miniature,
)
from ovmer.baselines.layers.qformer import (
    BLIP2_FILE,
    BLIP2_KEYS,
    QFormer,
    QFormerConfig,
    published_qformer,
    read_blip2,
)
from ovmer.baselines.llama import MINI_LLAMA1, llama_config, read_llama, write_llama_miniature
from ovmer.baselines.miniature import of_file, publish, random_tensors
from ovmer.baselines.prompt_sizes import PromptSizes
from ovmer.baselines.splice import splice
from ovmer.baselines.weight_files import Tensors, read_tensors
from ovmer.baselines.weights import join, load_strict, rename, weightless

TRAINED_FILE = "videochat_7b.pth"
_FILES = (BLIP2_FILE, TRAINED_FILE)

TRAINED_KEYS = (
    (r"rotary_emb\.inv_freq$", None),  # computed
    # Frozen in training: a copy of the last part. (Low-rank adapters would be VideoChat2's.)
    (r"^llama_model\.(model|lm_head)\.", None),
    *BLIP2_KEYS,
    (r"^visual_encoder\.gmhra_cls_token$", "encoder.video_token"),
    (r"^visual_encoder\.gmhra\.", "encoder.looks."),
    (r"^extra_query_tokens$", "extra_queries"),
    (r"^llama_proj\.", "projector."),
)

# The way back, for miniatures: file/key.
_PUBLISHED = (
    (r"^llm\.", "llm/"),
    (r"^encoder\.video_token$", "trained/visual_encoder.gmhra_cls_token"),
    (r"^encoder\.looks\.", "trained/visual_encoder.gmhra."),
    (r"^ln_vision\.", "trained/ln_vision."),
    (r"^extra_queries$", "trained/extra_query_tokens"),
    (r"^projector\.", "trained/llama_proj."),
    (r"^queries$", "qformer/query_tokens"),
    *published_qformer("qformer.", "qformer/Qformer."),
)


@dataclass(frozen=True)
class VideoChatInputs:
    """One clip: token ids before and after the video, and the frames.

    `frames` is T x size x size x 3, uint8.
    """

    texts: Sequence[Sequence[int]]
    frames: Tensor


def read_sizes(vision: Path, qformer: Path, trained: Path, llm: Path) -> PromptSizes:
    """Read the sizes from the published files' shapes and the language model's config.json."""
    context = llama_config(read_json(llm)).max_position_embeddings
    queries = count_queries(_joined(qformer, trained), _FILES)
    return PromptSizes(context, sum(queries), eva_image_size(vision))


class RelationBlock(nn.Module):
    """One look of the video's token at all frames (global multi-head relation aggregation).

    Parameters are named as published.
    """

    def __init__(self, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.dpe = nn.Conv3d(width, width, kernel_size=3, padding=1, groups=width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1, self.ln_2, self.ln_3 = (nn.LayerNorm(width) for _ in range(3))
        self.mlp = nn.Sequential(
            OrderedDict(
                c_fc=nn.Linear(width, hidden), gelu=nn.GELU(), c_proj=nn.Linear(hidden, width)
            )
        )

    def forward(self, token: Tensor, frames: Tensor) -> Tensor:
        """token [1, 1, width], frames [T, 1 + side * side, width] -> the token."""
        frames = self.ln_3(frames)
        classes, patches = frames[:, :1], frames[:, 1:]
        side = round(patches.shape[1] ** 0.5)
        picture = patches.unflatten(1, (side, side)).permute(3, 0, 1, 2)
        positions = self.dpe(picture[None])[0].permute(1, 2, 3, 0).flatten(1, 2)
        seen = torch.cat([classes, patches + positions], dim=1).flatten(0, 1)[None]
        token = token + self.attn(self.ln_1(token), seen, seen, need_weights=False)[0]
        looked: Tensor = token + self.mlp(self.ln_2(token))
        return looked


class VideoEncoder(nn.Module):
    """The tower, and the video's token beside its last layers."""

    def __init__(self, config: Blip2VisionConfig, looks: int) -> None:
        super().__init__()
        width, hidden = config.hidden_size, config.intermediate_size
        self.vit = EvaVit(config)
        self.video_token = nn.Parameter(torch.empty(1, 1, width))
        self.looks = nn.ModuleList(
            RelationBlock(width, hidden, config.num_attention_heads) for _ in range(looks)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """[T, 3, size, size] -> [1, T * positions + 1, width], frame by frame, then the token."""
        x: Tensor = self.vit.embeddings(pixels)
        token: Tensor = self.video_token
        first = len(self.vit.layers) - len(self.looks)
        for i, layer in enumerate(self.vit.layers):
            x = layer(x)
            if i >= first:
                token = self.looks[i - first](token, x)
        return torch.cat([x.flatten(0, 1)[None], token], dim=1)


class VideoChat(nn.Module):
    """Encoder, Q-Former with its queries, projector and language model."""

    def __init__(
        self,
        vision: Blip2VisionConfig,
        looks: int,
        qformer: QFormerConfig,
        queries: tuple[int, int],
        llm: LlamaConfig,
    ) -> None:
        super().__init__()
        own, extra = queries
        self.encoder = VideoEncoder(vision, looks)
        self.ln_vision = nn.LayerNorm(vision.hidden_size)
        self.queries = nn.Parameter(torch.empty(1, own, qformer.width))
        self.extra_queries = nn.Parameter(torch.empty(1, extra, qformer.width))
        self.qformer = QFormer(qformer)
        self.projector = nn.Linear(qformer.width, llm.hidden_size)
        self.llm = LlamaForCausalLM(llm)

    @classmethod
    def load(
        cls,
        vision: Path,
        qformer: Path,
        trained: Path,
        llm: Path,
        placement: Placement,
        *,
        vit_heads: int = EVA_HEADS,
        qformer_heads: int = 12,
    ) -> "VideoChat":
        """Read the four parts as published; no file tells the numbers of heads.

        Parts: eva_vit_g.pth, blip2_pretrained_flant5xxl.pth, videochat_7b.pth (of which what the
        second file has too counts instead), and the folder of vicuna-7b-v0.
        """
        seen, tower = read_eva(vision, "encoder.vit.", vit_heads)
        connector = _joined(qformer, trained)
        looks = {name.split(".")[2] for name in connector if name.startswith("encoder.looks.")}
        sizes, words = read_llama(llm)
        with weightless():
            model = cls(
                seen,
                len(looks),
                QFormerConfig.from_tensors(connector, "qformer.", qformer_heads),
                count_queries(connector, _FILES),
                sizes,
            )
        tensors = join(tower, connector, words)
        load_strict(model, tensors, placement)
        return model

    def encode(self, frames: Tensor) -> Tensor:
        """T x size x size x 3, uint8 -> 96 x the language model's width."""
        pixels = normalise(frames.to(self.llm.device)).to(self.llm.dtype)
        queries = torch.cat([self.queries, self.extra_queries], dim=1)
        found = self.qformer(queries, self.ln_vision(self.encoder(pixels)))
        projected: Tensor = self.projector(found[0])
        return projected

    def embed(self, inputs: VideoChatInputs) -> Tensor:
        """The prompt embeddings (length x width) of one clip."""
        video = self.encode(inputs.frames)
        return splice(self.llm.get_input_embeddings(), inputs.texts, [video])


def _joined(qformer: Path, trained: Path) -> Tensors:
    """The tensors between the tower and the language model; the norm was trained further."""
    first = rename(read_blip2(qformer), BLIP2_KEYS)
    trained = file_of(trained, TRAINED_FILE)
    return first | rename(read_tensors(trained, "model"), TRAINED_KEYS)


def count_queries(tensors: Tensors, files: Sequence[str]) -> tuple[int, int]:
    """How many queries the Q-Former had at first, and how many were added for the language model.

    Raises CheckpointError, which names the `files` that hold them, where some are missing.
    """
    names = ("queries", "extra_queries")
    if lost := [name for name in names if name not in tensors]:
        raise CheckpointError(
            f"the checkpoint has no {' and no '.join(lost)} of the Q-Former; are the files "
            f"{' and '.join(files)}?"
        )
    own, extra = (tensors[name].sides(3)[1] for name in names)
    return own, extra


def write_miniature(folder: Path, seed: int) -> dict[str, Path]:
    """A random VideoChat with the published files, token counts and context, and small widths.

    Returns the path of each part of the checkpoint.
    """
    llm = folder / "vicuna-7b-v0"
    vision, qformer, trained = (folder / name for name in (EVA_FILE, BLIP2_FILE, TRAINED_FILE))
    folder.mkdir(parents=True, exist_ok=True)
    write_eva_miniature(vision, seed, layers=3)
    seen, _ = read_eva(vision, "")
    sizes = QFormerConfig(encoder_width=seen.hidden_size, layers=2, width=48, ffn=64)
    with weightless():
        model = VideoChat(seen, 2, sizes, (32, 64), llama_config(MINI_LLAMA1))
    drawn = random_tensors(model, seed)
    held = {name: drawn[name] for name in drawn if not name.startswith("encoder.vit.")}
    tensors = publish(held, _PUBLISHED)
    write_llama_miniature(llm, MINI_LLAMA1, of_file("llm", tensors))
    norm = {f"ln_vision.{leaf}": torch.zeros(seen.hidden_size) for leaf in ("weight", "bias")}
    torch.save({"model": of_file("qformer", tensors) | norm}, qformer)
    torch.save({"model": of_file("trained", tensors)}, trained)
    return {"vision": vision, "qformer": qformer, "trained": trained, "llm": llm}
