"""Hidden states of the prompt, before the first new token, for probes on frozen features."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel

from ovmer.baselines.decoding.answers import ConditionedPrompt, MediaPrompt, Prompt

_KINDS = ("image", "video", "audio")


@dataclass(frozen=True)
class PromptStates:
    """Hidden states of one clip, in float32."""

    hidden: NDArray[Any]
    """The language model's last hidden state, after its final norm, of the prompt's last token
    (width): what the first new token is chosen by."""
    connector: Mapping[str, NDArray[Any]]
    """The mean of the vectors (width) of each medium in the prompt: by `image`, `video`
    and `audio` for chat models, by their order in the prompt (`0`, `1` ...) for ports."""


def prompt_states(
    model: PreTrainedModel, prompt: Prompt, inputs: Mapping[str, Any], features: Sequence[Tensor]
) -> PromptStates:
    """Run `model` over one prompt, as `generate` does before the first new token.

    `inputs` are the arguments of `generate` for `prompt` alone; `features` is what was put between
    the words of a prompt that is given as embeddings.
    """
    decoder = _decoder(model)
    with _first_call(decoder) as seen:
        model.generate(
            **inputs,
            generation_config=GenerationConfig(max_new_tokens=1, do_sample=False, pad_token_id=0),
        )
    return PromptStates(
        _plain(seen["hidden"][0, -1]), _connector(model, prompt, seen["embeddings"], features)
    )


def _connector(
    model: PreTrainedModel, prompt: Prompt, embeddings: Tensor | None, features: Sequence[Tensor]
) -> dict[str, NDArray[Any]]:
    if isinstance(prompt, MediaPrompt):
        if embeddings is None:
            return {}
        ids, found = torch.tensor(list(prompt.ids)), {}
        for kind, tokens in _placeholders(model).items():
            positions = torch.isin(ids, torch.tensor(tokens)).nonzero()[:, 0]
            if len(positions):
                found[kind] = _plain(embeddings[0, positions.to(embeddings.device)].float().mean(0))
        return found
    if isinstance(prompt, ConditionedPrompt):
        features = [prompt.media]
    return {
        str(index): _plain(each.float().flatten(0, -2).mean(0))
        for index, each in enumerate(features)
    }


def _placeholders(model: PreTrainedModel) -> dict[str, list[int]]:
    """Ids of each medium's placeholder tokens, as the configuration names them."""
    parts = [model.config, *(getattr(model.config, name) for name in model.config.sub_configs)]
    found: dict[str, list[int]] = {kind: [] for kind in _KINDS}
    for part in filter(None, parts):
        for name in dir(part):
            match = re.fullmatch(rf"({'|'.join(_KINDS)})_token_(id|index)", name)
            if match and isinstance(value := getattr(part, name), int):
                found[match[1]].append(value)
    return found


def _decoder(model: PreTrainedModel) -> nn.Module:
    """The language model proper, whose output goes into the head."""
    decoder: nn.Module = model.get_decoder()
    while isinstance(decoder, PreTrainedModel) and (inner := decoder.get_decoder()) is not decoder:
        decoder = inner
    return decoder


@contextmanager
def _first_call(decoder: nn.Module) -> Iterator[dict[str, Any]]:
    """The input embeddings and the output of a module's next call."""
    seen: dict[str, Any] = {}

    def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if "hidden" not in seen:
            seen["embeddings"] = kwargs.get("inputs_embeds")
            seen["hidden"] = output[0] if isinstance(output, tuple) else output.last_hidden_state

    hook = decoder.register_forward_hook(keep, with_kwargs=True)
    try:
        yield seen
    finally:
        hook.remove()


def _plain(vector: Tensor) -> NDArray[Any]:
    found: NDArray[Any] = vector.detach().float().cpu().numpy()
    return found
