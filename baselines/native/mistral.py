"""Chat MLLMs with the tokenizer of Mistral's own package, as Voxtral has it.

That tokenizer makes ids of whole messages, sound included, and never of text with control tokens in
it; so no words can spell one, and there is no chat template.
"""

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import soundfile
from transformers import MistralCommonBackend

from ovmer.baselines.miniature import byte_pairs
from ovmer.baselines.native.processor import ChatProcessor, ClipMedia, Message

NAME = MistralCommonBackend.__name__
MODELS = ("voxtral",)
"""Kinds of models that are published with that tokenizer and no other."""


class MistralProcessor(ChatProcessor):
    """The processor of a checkpoint folder with `tekken.json`."""

    transformers_only = "its tokenizer makes no prompt that vLLM could be given"

    _control = ()
    _markers: Mapping[int, str] = {}

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def render(self, message: Message) -> str:
        return str(self._tokenizer.decode(self._ids(message)))

    def length(self, message: Message) -> int:
        return len(self._ids(message))

    def _ids(self, message: Message) -> list[int]:
        """Ids of the text and the control tokens around it."""
        chat = message.chat({"audio": None})
        return list(self._tokenizer.apply_chat_template(chat, return_dict=False))

    def _made(self, message: Message, media: ClipMedia) -> Any:
        sound = None
        if media.sound is not None:
            file = io.BytesIO()
            # The samples as they are: 32-bit floats, at the rate that the model takes.
            soundfile.write(file, media.sound, self.rate, format="WAV", subtype="FLOAT")
            sound = {"base64": base64.b64encode(file.getvalue()).decode("ascii")}
        chat = message.chat({"audio": sound})
        return self._processor.apply_chat_template(chat, processor_kwargs=dict(self._options))


_PATTERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CONTROL = """\
<unk> <s> </s> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS]
[TOOL_CALLS] [IMG] <pad> [IMG_BREAK] [IMG_END] [PREFIX] [MIDDLE] [SUFFIX] [SYSTEM_PROMPT]
[/SYSTEM_PROMPT] [TOOL_CONTENT] [ARGS] [CALL_ID] <SPECIAL_22> <SPECIAL_23> [AUDIO] [BEGIN_AUDIO]
[TRANSCRIBE]
""".split()
"""The first ids; transformers' processor counts on that of [AUDIO]."""


def write_tokenizer(folder: Path) -> MistralCommonBackend:
    """A small `tekken.json` in the layout of the seventh version, which hears."""
    pairs = [base64.b64encode(each).decode("ascii") for each in byte_pairs()]
    content = {
        "config": {
            "pattern": _PATTERN,
            "num_vocab_tokens": len(pairs),
            "default_vocab_size": len(pairs) + len(_CONTROL),
            "default_num_special_tokens": len(_CONTROL),
            "version": "v7",
        },
        "vocab": [
            {"rank": rank, "token_bytes": each, "token_str": None}
            for rank, each in enumerate(pairs)
        ],
        "special_tokens": [
            {"rank": rank, "token_str": token, "is_control": True}
            for rank, token in enumerate(_CONTROL)
        ],
        "audio": {
            "sampling_rate": 16000,
            "frame_rate": 12.5,
            "audio_encoding_config": {"num_mel_bins": 128, "hop_length": 160, "window_size": 400},
            "chunk_length_s": 30.0,
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "tekken.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return MistralCommonBackend(file)
