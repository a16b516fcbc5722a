"""Numbers that are NaN or infinite: noticed in embeddings, and traced to a layer.

float16 overflows beyond 65504, and from then on every number that depends on it is NaN. A token
drawn from such scores is the first or the last of the vocabulary, so the clip is an error instead.
Scores are watched by the engines (`sampling.FiniteScores`, and vLLM's probabilities).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ovmer.baselines.decoding.answers import ConditionedPrompt, Prompt

_CONNECTOR = re.compile(r"\w*(merger|resampler|multi_modal|connector)|embed_(vision|audio)")
_ENCODER = re.compile(
    r"(tower|((seeing|hearing)\.)?(vit|ear)|clip|siglip|whisper|beats|hubert|encoder|eyes|vision|visual|audio_tower"
    r"|embed_tokens_extend\.(image_embed\.img_processor|audio_embed\.encoder)"
    r"|audio\.(?!weights|projector|hidden))"  # AffectGPT's `audio` weighs what encoders gave
)
"""Names of modules in the ports and in transformers."""


def are_finite(prompts: Sequence[Prompt]) -> list[bool]:
    """Whether what encoders and connector made of each clip is finite; waits for the device once.

    True of prompts that hold nothing of theirs.
    """
    made = [each.media if isinstance(each, ConditionedPrompt) else each for each in prompts]
    flags = {
        index: each.isfinite().all() for index, each in enumerate(made) if isinstance(each, Tensor)
    }
    if not flags:
        return [True] * len(prompts)
    known = dict(zip(flags, torch.stack(list(flags.values())).tolist(), strict=True))
    return [known.get(index, True) for index in range(len(prompts))]


class FirstOrigin:
    """Tells of the first clip with such numbers in which layer they arose; of later ones nothing,
    since a look takes as long as the clip."""

    def __init__(self) -> None:
        self._has_looked = False

    def __call__(self, model: Any, again: Callable[[], object]) -> str:
        """The layer, and whether it is of encoder, connector or language model, in words.

        Empty where no layer's output is NaN or infinite while `again` runs `model` over the clip.
        Layers are modules without children; each waits for the device.
        """
        if self._has_looked:
            return ""
        self._has_looked = True
        found = list[str]()

        def look(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, inputs: object, output: object) -> None:
                if not found and not all(each.isfinite().all() for each in _tensors(output)):
                    found.append(name)

            return hook

        with ExitStack() as hooks:
            for name, module in model.named_modules():
                if not any(module.children()):
                    hooks.callback(module.register_forward_hook(look(name)).remove)
            again()
        return f"first in {found[0]}, {_part(model, found[0])}" if found else ""


def _part(model: Any, name: str) -> str:
    """The part of a port, or of a class of transformers, that a layer belongs to."""
    if name.startswith(("llm.", "lm_head")):
        return "language model"
    layer = model.get_submodule(name)
    name = name.removeprefix("model.")
    is_chat = isinstance(model, PreTrainedModel) and not name.startswith("embed_tokens_extend")
    if is_chat and any(each is layer for each in model.get_decoder().modules()):
        return "language model"
    inner = any(map(_CONNECTOR.match, name.split(".")))
    return "encoder" if _ENCODER.match(name) and not inner else "connector"


def _tensors(value: object) -> Iterator[Tensor]:
    """The floating-point tensors of a module's output."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _tensors(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)
