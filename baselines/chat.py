"""Chat models in transformers' own layout: tokenizer with chat template, language model, miniature.

What the language-model stage asks (Qwen2.5-7B-Instruct in the papers) is such a model; so is the
language part of newer multimodal ones.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from jinja2.exceptions import SecurityError
from safetensors import SafetensorError
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.utils.logging import disable_progress_bar

from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.decoding.switches import quantized
from ovmer.baselines.device import DTYPES, Placement, resolve, too_small
from ovmer.baselines.device_map import check_each, spread
from ovmer.baselines.errors import CheckpointError, first_line
from ovmer.baselines.miniature import CORPUS, random_tensors
from ovmer.baselines.tokenizer import QWEN_WORDS
from ovmer.baselines.weight_index import index_file, summary

# Without any of these transformers makes a tokenizer that knows no words, and does not complain.
_VOCABULARIES = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("tokenizer.model",))

_WHAT = "chat model in transformers' layout"
UNBOUNDED = 1 << 40
"""The context of a model without a limit (Mamba): more tokens than any prompt has."""
_MARK = "\ue000"  # a character of private use: no template and no prompt holds it


@contextmanager
def sandboxed(folder: Path) -> Iterator[None]:
    """Raise CheckpointError where a chat template asks for more than transformers lets it."""
    try:
        yield
    except SecurityError as error:
        raise CheckpointError(
            f"the chat template in {folder} reaches for what no template needs "
            f"({first_line(error)}); do not trust that checkpoint, fetch it from its authors"
        ) from error


class TransformersTokenizer:
    """A tokenizer of transformers as a `ovmer.baselines.tokenizer.Tokenizer`."""

    def __init__(self, tokenizer: Any, folder: Path) -> None:
        """`folder` is the checkpoint's, whose generation settings say what ends an answer."""
        self._tokenizer, self._folder = tokenizer, folder
        self._encoding = Lock()  # how control tokens are read is a state of the tokenizer
        self.eos_id: int = tokenizer.eos_token_id
        start: int | None = tokenizer.bos_token_id
        self.bos_id: int = self.eos_id if start is None else start
        self.stop_ids: tuple[int, ...] = tuple(dict.fromkeys([self.eos_id, *end_tokens(folder)]))

    @cached_property
    def _control(self) -> Sequence[str]:
        """Spellings of the control tokens, the longest first."""
        return sorted(map(str, self._tokenizer.get_added_vocab()), key=len, reverse=True)

    def encode(self, text: str) -> list[int]:
        """The ids of plain text: what spells a control token is its characters."""
        return self._ids_of(text, plain=True)

    def _ids_of(self, text: str, *, plain: bool) -> list[int]:
        with self._encoding:
            return list(
                self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=plain)
            )

    def id_of(self, token: str) -> int:
        """The id of a control token. Raises CheckpointError where there is none of that name."""
        found = self._tokenizer.get_added_vocab().get(token)
        if found is None:
            raise CheckpointError(f"the tokenizer has no control token {token!r}; is it Qwen2.5's?")
        return int(found)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; control tokens are left out."""
        return str(
            self._tokenizer.decode(
                ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )


class ChatTokenizer(TransformersTokenizer):
    """The tokenizer of a chat model."""

    def __init__(self, folder: Path, config: Any = None) -> None:
        """`config` replaces a config.json of a kind that transformers does not know.

        Raises CheckpointError where the folder holds no tokenizer with a chat template.
        """
        if not any(all((folder / file).is_file() for file in files) for files in _VOCABULARIES):
            known = ", ".join(" with ".join(files) for files in _VOCABULARIES)
            raise CheckpointError(f"{folder} holds no vocabulary ({known}); is it complete?")
        try:
            super().__init__(
                AutoTokenizer.from_pretrained(
                    folder, config=config, local_files_only=True, trust_remote_code=False
                ),
                folder,
            )
        except (OSError, ValueError, KeyError) as error:
            raise _no_model(folder, _WHAT, error) from error
        if self._tokenizer.chat_template is None:
            raise CheckpointError(
                f"{folder} has no chat template, so it is no chat model; choose an instruct model"
            )

    def chat(self, message: str) -> list[int]:
        """The prompt for one user message, in the model's own template, ready for the answer.

        No system message is passed, so a template that has a default one (Qwen2.5's) adds it.
        Control tokens that the message spells are plain text.
        """
        if not any(token in message for token in self._control):
            return self._with_control(self._rendered(message))
        before, _, after = self._rendered(_MARK).partition(_MARK)
        return [*self._with_control(before), *self.encode(message), *self._with_control(after)]

    def chat_around(self, texts: Sequence[str]) -> list[list[int]]:
        """The prompt for one user message with slots in it, as the ids before, between and after.

        Each text is encoded as one piece, and as plain text: a control token that it spells is its
        characters.
        """
        before, _, after = self._rendered(_MARK).partition(_MARK)
        pieces = [self.encode(text) for text in texts]
        pieces[0] = [*self._with_control(before), *pieces[0]]
        pieces[-1] = [*pieces[-1], *self._with_control(after)]
        return pieces

    def _rendered(self, message: str) -> str:
        with sandboxed(self._folder):
            return str(
                self._tokenizer.apply_chat_template(
                    [{"role": "user", "content": message}],
                    tokenize=False,
                    add_generation_prompt=True,
                )
            )

    def _with_control(self, text: str) -> list[int]:
        return self._ids_of(text, plain=False)


def end_tokens(folder: Path) -> list[int]:
    """The ids that end an answer by generation_config.json (Qwen2.5 has two)."""
    name = "generation_config.json"
    ids = read_json(folder, name).get("eos_token_id") if (folder / name).exists() else None
    return ids if isinstance(ids, list) else [ids] if ids is not None else []


def context_of(folder: Path, config: Any = AutoConfig, what: str = _WHAT) -> int:
    """How many tokens, answer included, the model is made for; `UNBOUNDED` where it does not say.

    `config` is the class that reads its configuration.
    """
    try:
        text = config.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        ).get_text_config()
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _no_model(folder, what, error) from error
    return int(getattr(text, "max_position_embeddings", None) or UNBOUNDED)


def load_chat_model(
    folder: Path,
    placement: Placement,
    model: Any = AutoModelForCausalLM,
    what: str = _WHAT,
    quantization: str = "none",
    notes: list[str] | None = None,
) -> PreTrainedModel:
    """The model of a checkpoint folder in transformers' layout, frozen, on those devices.

    `model` is its class, `what` it is called in messages. `quantization` (8bit, 4bit) is of the
    language model, its head excepted. `notes` is added to where the files hold more than the model.
    Raises CheckpointError where tensors are missing or of another shape, PrerequisiteError where a
    GPU is too small.
    """
    disable_progress_bar()
    try:
        built = _weightless(folder, model)
        where = spread(built, (placement.device, *placement.others), placement.dtype)
        options: dict[str, Any] = {}
        if quantization != "none":
            options["quantization_config"] = quantized(built, quantization, placement.dtype)
        else:  # else less than that, by a share that the packing decides
            check_each(built, where, placement)
        loaded, found = model.from_pretrained(
            folder,
            dtype=placement.dtype,
            device_map=dict(where),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    except torch.OutOfMemoryError as error:
        raise too_small(f"it was full before all weights of {folder} were read", "") from error
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise _no_model(folder, what, error) from error
    if absent := [*found["missing_keys"], *found["mismatched_keys"]]:
        raise CheckpointError(
            f"{folder} lacks {absent[0]} and {len(absent) - 1} more tensors of a {what}; fetch it "
            "again, or correct the settings that name it"
        )
    if notes is not None and (unused := found["unexpected_keys"]):
        notes.append(f"{folder.name}: {summary(sorted(unused))} not used by this model")
    loaded.eval().requires_grad_(False)
    assert isinstance(loaded, PreTrainedModel)
    return loaded


def chat_place(folder: Path, device: str, dtype: str, model: Any, gpus: int, at: str) -> Placement:
    """Where a chat model runs: `dtype=auto` is the checkpoint's own on a GPU (Qwen2.5 overflows in
    float16) and float32 on the CPU. `at` is the key of the engine's settings, for messages.

    Raises CheckpointError for a folder without a configuration of such a model, PrerequisiteError
    for devices that are not there.
    """
    placement = resolve(device, dtype, gpus, at)
    if dtype != "auto" or placement.device.type == "cpu":
        return placement
    try:
        config = _config(folder, model)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _no_model(folder, _WHAT, error) from error
    return replace(placement, dtype=config.dtype or _stored_dtype(folder))


def _config(folder: Path, model: Any) -> Any:
    return getattr(model, "config_class", AutoConfig).from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )


def _weightless(folder: Path, model: Any) -> PreTrainedModel:
    """The model of a folder's configuration, to see what it takes: files may hold more."""
    with torch.device("meta"):
        built: PreTrainedModel = getattr(model, "from_config", model)(_config(folder, model))
    return built


def _stored_dtype(folder: Path) -> torch.dtype:
    """The type of the first floating-point tensor, which transformers takes where a configuration
    names none: that of a part (a thinker) does not where only the whole model's does."""
    for file in sorted(folder.glob("*.safetensors")):
        for entry in index_file(file).entries.values():
            if entry.dtype in DTYPES:
                return getattr(torch, entry.dtype)
    return torch.float32


def _no_model(folder: Path, what: str, error: Exception) -> CheckpointError:
    return CheckpointError(f"{folder} holds no {what} ({first_line(error)})")


# Qwen2.5's tokenizer_config.json: the control tokens, and the template's form of a single user
# message.
_QWEN_CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_QWEN_TEMPLATE = (
    "{%- if messages[0].role != 'system' -%}"
    "{{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. "
    "You are a helpful assistant.<|im_end|>\\n' -}}"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)


def write_miniature(
    folder: Path,
    seed: int = 0,
    *,
    layers: int = 2,
    heads: int = 2,
    vocabulary: int = 600,
    sentences: Sequence[str] = CORPUS.splitlines(),
    more: Sequence[str] = (),
) -> None:
    """A random miniature of Qwen2.5-Instruct: its architecture, tokenizer kind and chat template.

    It writes gibberish of varying length, now and then up to any limit. Its tokenizer is trained
    on the sentences; each word of `more` is a token of its own.
    """
    disable_progress_bar()
    tokenizer = _qwen_tokenizer(vocabulary, sentences)
    tokenizer.add_tokens(list(more))
    size = len(tokenizer)
    end, start = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    config = Qwen2Config(
        vocab_size=size,
        hidden_size=32 * heads,  # the smallest heads that vLLM takes on a CPU
        intermediate_size=64 * heads,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=1,
        max_position_embeddings=16384,
        bos_token_id=start,
        eos_token_id=end,
        dtype="float32",
    )
    model = Qwen2ForCausalLM(config)
    tensors = random_tensors(model, seed)
    tensors["lm_head.weight"][end] *= 2  # so that answers end, most within some dozen tokens
    model.load_state_dict(tensors)
    model.generation_config = GenerationConfig(eos_token_id=[end, start])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _qwen_tokenizer(vocabulary: int, sentences: Sequence[str]) -> PreTrainedTokenizerFast:
    pairs = Tokenizer(models.BPE())
    pairs.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    pairs.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=_QWEN_CONTROL,
        show_progress=False,
    )
    pairs.train_from_iterator(sentences, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=pairs,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=["<|im_start|>"],
    )
    tokenizer.chat_template = _QWEN_TEMPLATE
    return tokenizer
