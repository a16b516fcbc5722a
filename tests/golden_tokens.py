"""Adapters on miniatures whose tokenizers are the published ones.

A miniature has the published context and the published counts of tokens for picture and sound, so
its prompt is the one that the published checkpoint would get, the cut of long subtitles included.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from ovmer.adapters.base import Prepared
from ovmer.adapters.mllm import Mllm
from ovmer.baselines.chat import write_miniature
from ovmer.baselines.decoding.answers import AnswerReader
from tests.adapters.small_mllms import configured

SLOT = -200
"""Stands for picture or sound in the golden ids."""

LLAMA, CHINESE_LLAMA, QWEN, QWEN2, BERT = (
    "llama/tokenizer.model",
    "chinese_llama/tokenizer.model",
    "qwen/qwen.tiktoken",
    "qwen2.5/vocab.json",
    "bert-base-uncased/vocab.txt",
)
"""Below the root of the tokenizers; merges.txt is beside the fourth."""

_TOKENIZERS: Mapping[str, Sequence[str]] = {
    "affectgpt": (QWEN2,),
    "llama_vid": (LLAMA, BERT),
    "qwen_audio": (QWEN,),
    "secap": (CHINESE_LLAMA,),
}
"""Those of all others are LLaMA's."""

_PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    BERT: {"vocab_size": 30522},
    QWEN: {"vocab_size": 155947, "audio": {"audio_start_id": 155163}},
    "otter": {"text_config": {"vocab_size": 32004}},
}
"""What config.json says of the vocabulary, where a port compares the two."""

_RECORDED_WITH: Mapping[str, Mapping[str, Any]] = {"video_llama": {"modalities": "both"}}
"""Settings other than the yaml's under which the golden prompts were made."""

_ENDS = {"pandagpt": (13, 2277)}
"""Of answers that no end token ends: a line break and the "##" of the next turn."""

_QWEN_CONTROL = {"151643": "<|endoftext|>", "151644": "<|im_start|>", "151645": "<|im_end|>"}


def published(name: str, tokenizers: Path, folder: Path, **fields: object) -> Mllm:
    """The baseline `name` on a miniature in `folder` that has the published tokenizer.

    Skips the test where a file of it is absent.
    """
    adapter = configured(name, "paper", **(dict(_RECORDED_WITH.get(name, {})) | fields))
    small = adapter.miniature(folder)
    small.generation = replace(small.generation, max_new_tokens=adapter.generation.max_new_tokens)
    for file in _TOKENIZERS.get(name, (LLAMA,)):
        source = _present(tokenizers / file)
        if file == QWEN2:
            (template,) = folder.rglob("chat_template.jinja")
            _put_qwen2(source.parent, template.parent)
            continue
        (target,) = (each for each in folder.rglob(source.name))
        shutil.copyfile(source, target)
        _correct(target.parent / "config.json", _PUBLISHED.get(file, {}))
    for part in small.checkpoint.values():
        if name in _PUBLISHED and (config := Path(part.path or "") / "config.json").is_file():
            _correct(config, _PUBLISHED[name])
    return small


def published_qwen2(tokenizers: Path, folder: Path) -> Path:
    """The folder of a miniature chat model with the tokenizer of Qwen2.5."""
    write_miniature(folder)
    _put_qwen2(_present(tokenizers / QWEN2).parent, folder)
    return folder


def _present(file: Path) -> Path:
    if not file.is_file():
        pytest.skip(f"there is no {file}")
    return file


def _put_qwen2(source: Path, folder: Path) -> None:
    """The vocabulary and control tokens of Qwen2.5; the template of its miniature is the same."""
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(_present(source / name), folder / name)
    (folder / "tokenizer.json").unlink()
    control = {key: {"content": text, "special": True} for key, text in _QWEN_CONTROL.items()}
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "added_tokens_decoder": control,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "bos_token": None,
        "unk_token": None,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def _correct(file: Path, values: Mapping[str, Any]) -> None:
    if not values:
        return
    config = json.loads(file.read_text())
    for key, value in values.items():
        config[key] = config[key] | value if isinstance(value, dict) else value
    file.write_text(json.dumps(config))


def prompt_ids(item: Prepared) -> list[int]:
    """The ids of a prompt, with SLOT where picture or sound stands between two texts."""
    inputs = item.inputs
    if ids := getattr(inputs, "ids", None):
        return list(ids)  # Otter, whose slot is a token of its own
    if left := getattr(inputs, "left", None):
        texts = [left, inputs.right]
    else:
        texts = inputs[0] if isinstance(inputs, tuple) else inputs.texts
    return list(chain.from_iterable([SLOT, *text] for text in texts))[1:]


def recorded(name: str, adapter: Mllm, ids: Sequence[int]) -> str:
    """What a record says of an answer with these ids before those that end it."""
    reader = AnswerReader(adapter.tokenizer, adapter.generation)
    end = _ENDS.get(name, (adapter.tokenizer.eos_id,))
    return adapter.said(reader.read([*ids, *end], prompt_tokens=0))
