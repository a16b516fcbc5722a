"""Video-ChatGPT (Maaz et al., ACL 2024, arXiv 2306.05424), 7B.

    T frames -> CLIP ViT-L/14, last layer but one -> T x 256 patches of width 1024
             -> mean of each frame, up to 100     -> 100 x 1024, zeros where there is no frame
             -> mean of each patch over time      -> 256 x 1024
             -> Linear                            -> 356 vectors of width 4096
             -> between <vid_start> and <vid_end> in the prompt of LLaVA-Lightning-7B v1.1

The projector and the embeddings come in a file of their own, which adds the tokens of the video to
the vocabulary. Only the input side knows these: upstream leaves their rows of the output layer
random; here they have none, so that they are never said.

Source: mbzuai-oryx/Video-ChatGPT at 659e04b2, `video_chatgpt/inference.py` for the pooling and
`video_chatgpt/model/video_chatgpt.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, LlamaForCausalLM

from ovmer.baselines.checkpoint import file_of, read_json
from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.layers.clip_vision import (
    ClipVision,
    clip_keys,
    clip_vision_config,
    normalise,
    write_clip_miniature,
)
from ovmer.baselines.llama import MINI_LLAMA1, count_words, llama_config
from ovmer.baselines.miniature import (
    publish,
    random_tensors,
    write_json,
    write_sentencepiece,
    write_torch_shards,
)
from ovmer.baselines.prompt_sizes import PromptSizes
from ovmer.baselines.splice import splice
from ovmer.baselines.weight_files import Tensors, read_tensors
from ovmer.baselines.weights import join, load_strict, rename, rows, weightless

MOST_FRAMES = 100
"""The number of temporal tokens (`num_frm` of the paper's code)."""

CONNECTOR_FILE = "video_chatgpt-7B.bin"

LLM_KEYS = (
    (r"rotary_emb\.inv_freq$", None),  # computed
    # LLaVA's, replaced by those of Video-ChatGPT
    (r"^model\.(mm_projector|embed_tokens)\.", None),
    (r"^model\.vision_tower\.", None),  # a copy; as upstream does, CLIP's own folder is read
    (r"^(model|lm_head)\.", r"llm.\1."),
)
_TABLE, _HEAD = "table", "head"
CONNECTOR_KEYS = (
    (r"^model\.mm_projector\.", "projector."),
    (r"^model\.embed_tokens\.weight$", _TABLE),
    (r"^lm_head\.weight$", _HEAD),
)
_LM_HEAD = "llm.lm_head.weight"
_LAYER = -2
_VIDEO_TOKENS = 3
"""<vid_patch>, <vid_start> and <vid_end>, the last rows of the embeddings in this order."""

_PICTURE_TOKENS = 3
"""<im_patch>, <im_start> and <im_end> of LLaVA, before them."""
_LLAVA = "model.mm_projector."

_PUBLISHED = (
    (r"^projector\.", "model.mm_projector."),
    (r"^llm\.", ""),
)
_MINIATURE: dict[str, Any] = {
    **MINI_LLAMA1,
    "model_type": "llava",
    "vocab_size": 403,  # with LLaVA's own <im_patch>, <im_start> and <im_end>
    "use_mm_proj": True,
}


def read_sizes(llm: Path, tower: Path) -> PromptSizes:
    """Read the sizes from the two config.json files of the published checkpoint."""
    vision = clip_vision_config(tower)
    patches = (vision.image_size // vision.patch_size) ** 2
    context = llama_config(read_json(llm)).max_position_embeddings
    return PromptSizes(context, 1 + MOST_FRAMES + patches + 1, vision.image_size)


@dataclass(frozen=True)
class VideoChatGptInputs:
    """One clip: token ids before and after the video, and the frames.

    `frames` is T x height x width x 3, uint8, as `squash` makes them; T is at most MOST_FRAMES.
    """

    texts: Sequence[Sequence[int]]
    frames: Tensor


class VideoChatGpt(nn.Module):
    """Tower, projector and language model, in the shapes of the published configurations.

    `llm` is the content of the language model's config.json.
    """

    def __init__(self, llm: dict[str, Any], tower: CLIPVisionConfig) -> None:
        super().__init__()
        text = llama_config(llm)
        self.tower = ClipVision(tower, _LAYER)
        self.projector = nn.Linear(tower.hidden_size, text.hidden_size)
        self.video_tokens = nn.Embedding(_VIDEO_TOKENS, text.hidden_size)
        self.llm = LlamaForCausalLM(text)

    @classmethod
    def load(cls, llm: Path, connector: Path, tower: Path, placement: Placement) -> "VideoChatGpt":
        """Read LLaVA-7B-Lightening-v1-1, Video-ChatGPT-7B and clip-vit-large-patch14."""
        config, vision = read_json(llm), clip_vision_config(tower)
        published = read_tensors(llm)
        words = rename(published, LLM_KEYS)
        tables = [published.get(f"{name}.weight") for name in ("model.embed_tokens", "lm_head")]
        vocabulary = count_words(llama_config(config).vocab_size, tables)
        with weightless():
            model = cls({**config, "vocab_size": vocabulary}, vision)
        is_llava = any(_LLAVA in key for key in published)
        trained = _read_connector(file_of(connector, CONNECTOR_FILE), vocabulary, is_llava)
        if _LM_HEAD in trained:  # upstream loads it last, too
            words.pop(_LM_HEAD, None)
        tensors = join(
            words,
            trained,
            rename(read_tensors(tower), clip_keys(vision, _LAYER, "tower.")),
        )
        load_strict(model, tensors, placement)
        return model

    def encode(self, frames: Tensor) -> Tensor:
        """T x height x width x 3, uint8 -> 356 x the language model's width."""
        pixels = normalise(frames.to(self.llm.device)).to(self.llm.dtype)
        projected: Tensor = self.projector(pool(self.tower(pixels)[:, 1:]))
        return projected

    def embed(self, inputs: VideoChatGptInputs) -> Tensor:
        """The prompt embeddings (length x width) of one clip."""
        _, start, end = self.video_tokens.weight[:, None]
        video = torch.cat([start, self.encode(inputs.frames), end])
        return splice(self.llm.get_input_embeddings(), inputs.texts, [video])


def pool(patches: Tensor) -> Tensor:
    """T x 256 x width -> (100 + 256) x width: frame by frame, then patch by patch.

    Frames that the clip does not have are zeros and not counted. As upstream, the means are rounded
    to half precision whatever the model runs in.
    """
    by_frame = patches.mean(dim=1)
    missing = by_frame.new_zeros(MOST_FRAMES - len(by_frame), by_frame.shape[1])
    pooled = torch.cat([by_frame, missing, patches.mean(dim=0)])
    return pooled.half().to(patches.dtype)


def squash(frames: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """T x height x width x 3 -> T x size x size x 3 by nearest neighbour, the shape not kept.

    Positions are those of torch's `interpolate`, which are computed in single precision.
    """
    rows, columns = (
        np.floor(np.arange(size, dtype=np.float32) * (np.float32(side) / np.float32(size)))
        for side in frames.shape[1:3]
    )
    return frames[:, rows.astype(int)[:, None], columns.astype(int)]


def _read_connector(file: Path, vocabulary: int, is_llava: bool) -> Tensors:
    """The projector, the words of the language model, and below them the tokens of the video.

    Between them may be the tokens of LLaVA's pictures, for which not every LLaVA has rows; no
    prompt holds them.
    """
    tensors = rename(read_tensors(file), CONNECTOR_KEYS)
    table = tensors.pop(_TABLE, None)
    if table is None:
        raise CheckpointError(f"{file} holds no model.embed_tokens.weight; is it {CONNECTOR_FILE}?")
    between = table.sides(2)[0] - _VIDEO_TOKENS - vocabulary
    if between == _PICTURE_TOKENS and is_llava and table.origin is not None:
        table.origin.notes.append(f"the rows of {between} tokens of LLaVA's pictures left aside")
    elif between:
        raise CheckpointError(
            f"{table.source} has {table.shape[0]} rows, for a language model of "
            f"{table.shape[0] - _VIDEO_TOKENS} and {_VIDEO_TOKENS} tokens of the video, but the "
            f"language model has {vocabulary}; is it LLaVA-7B-Lightening-v1-1?"
        )
    if (head := tensors.pop(_HEAD, None)) is not None:
        tensors[_LM_HEAD] = rows(head, slice(0, vocabulary))
    tensors["llm.model.embed_tokens.weight"] = rows(table, slice(0, vocabulary))
    tensors["video_tokens.weight"] = rows(table, slice(-_VIDEO_TOKENS, None))
    return tensors


def write_miniature(folder: Path, seed: int) -> dict[str, Path]:
    """A random Video-ChatGPT with the published files, token counts and context, and small widths.

    Returns the path of each part of the checkpoint.
    """
    llm, tower = folder / "LLaVA-7B-Lightening-v1-1", folder / "clip-vit-large-patch14"
    connector = folder / CONNECTOR_FILE
    llm.mkdir(parents=True, exist_ok=True)
    write_sentencepiece(llm / "tokenizer.model", _MINIATURE["vocab_size"] - 3)
    write_json(llm / "config.json", _MINIATURE)
    write_clip_miniature(tower, seed)
    with weightless():
        model = VideoChatGpt(_MINIATURE, clip_vision_config(tower))
    drawn = random_tensors(model, seed)
    video_tokens = drawn.pop("video_tokens.weight")
    trained = {name: tensor for name, tensor in drawn.items() if not name.startswith("tower.")}
    tensors = publish(trained, _PUBLISHED)
    write_torch_shards(llm, tensors, shards=2)
    held = {key: tensors[key] for key in tensors if ".mm_projector." in key}
    words = tensors["model.embed_tokens.weight"]
    held["model.embed_tokens.weight"] = torch.cat([words, video_tokens])
    torch.save(held, connector)
    return {"llm": llm, "connector": connector, "tower": tower}
