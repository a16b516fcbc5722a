"""The tokenizer and the chat template of a miniature chat MLLM.

A small byte-level BPE with a control token for everything that the processor and the configuration
speak of, and ChatML around these.
"""

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, ProcessorMixin

from ovmer.baselines.miniature import CORPUS, THINKING

_BRACKETS = {"image": "vision", "video": "vision", "audio": "audio"}
_TOKENS = {
    **{f"{kind}_token": f"<|{kind}_pad|>" for kind in _BRACKETS},
    # Two names of one token: what a processor calls `bos` a configuration may call `start`.
    **{
        f"{kind}_{name}_token": f"<|{kind}_{side}|>"
        for kind in ("vision", "audio")
        for side, names in (("start", ("start", "bos")), ("end", ("end", "eos")))
        for name in names
    },
    # Of InternVL and MiniCPM-V.
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    **{
        f"{kind}_{side}_token": f"<{kind}_{side}>"
        for kind in ("image", "image_id", "slice")
        for side in ("start", "end")
    },
    # Of the Gemmas.
    **{f"{side}{kind}_token": f"<{side}_{kind}>" for side in ("bo", "eo") for kind in "iav"},
}
_START, _END = "<|im_start|>", "<|im_end|>"


def small_tokenizer(
    processor: type[ProcessorMixin], names: Mapping[str, str], thinks: bool
) -> PreTrainedTokenizerFast:
    """A tokenizer for `processor`; `names` are the model's own for what it calls `image_token`.

    These have the last ids, in their order; but for the markers of thinking, which are written.
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(CORPUS.splitlines(), trainer)
    named = dict(_TOKENS)
    parameters = inspect.signature(processor).parameters.values()
    named |= {
        each.name: each.default
        for each in parameters
        if each.name.endswith("_token") and isinstance(each.default, str)
    }
    named = {each: token for each, token in named.items() if each not in names}
    named |= names
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=_START,
        eos_token=_END,
        pad_token="<|pad|>",
        padding_side="left",
        extra_special_tokens=named,
    )
    if thinks:
        tokenizer.add_tokens(list(THINKING))
    return tokenizer


def chat_template(processor: Any, thinks: bool) -> str:
    """ChatML; the processor's placeholder for a medium is between brackets."""
    opening = f"{THINKING[0]}\n" if thinks else ""
    tokenizer = processor.tokenizer
    kinds = [
        f"{{% elif part.type == '{kind}' %}}{getattr(tokenizer, f'{bracket}_bos_token')}"
        f"{_token(processor, kind)}{getattr(tokenizer, f'{bracket}_eos_token')}"
        for kind, bracket in _BRACKETS.items()
    ]
    return (
        "{% for message in messages %}"
        f"{_START}{{{{ message.role }}}}\n"
        "{% if message.content is string %}{{ message.content }}{% else %}"
        "{% for part in message.content %}"
        "{% if part.type == 'text' %}{{ part.text }}" + "".join(kinds) + "{% endif %}"
        "{% endfor %}{% endif %}"
        f"{_END}\n"
        "{% endfor %}"
        f"{{% if add_generation_prompt %}}{_START}assistant\n{opening}{{% endif %}}"
    )


def _token(processor: Any, kind: str) -> str:
    """The placeholder that a processor looks for, which some write into their code."""
    own = getattr(processor, f"{kind}_token", None)
    return str(own or getattr(processor.tokenizer, f"{kind}_token"))


def name_tokens(config: Any, processor: Any, names: Mapping[str, str]) -> None:
    """Let each `image_token_id` and the like of the configuration be that of the tokenizer.

    `names` come first: what some processors call `image_token` represents all vectors of a
    picture, and another token for each.
    """
    sides = [f"{kind}_{side}_token_id" for kind in ("vision", "audio") for side in ("start", "end")]
    _name_tokens(config, [*config.to_dict(), *sides], processor, names)
    for part in config.sub_configs:  # Phi-4's are those of its encoders
        if (found := getattr(config, part, None)) is not None:
            _name_tokens(found, list(found.to_dict()), processor, names)


def _name_tokens(
    config: Any, keys: Iterable[str], processor: Any, names: Mapping[str, str]
) -> None:
    tokenizer = processor.tokenizer
    for key in keys:
        if found := re.fullmatch(r"(\w+_token)_(id|index)", key):
            own = names.get(found[1]) or getattr(processor, found[1], None)
            token = own or getattr(tokenizer, found[1], None)
            if isinstance(token, str):
                setattr(config, key, tokenizer.convert_tokens_to_ids(token))
