"""Loads a chat MLLM's checkpoint folder: the model, strictly, and its processor."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoProcessor, PreTrainedModel

from ovmer.baselines.chat import context_of as context_by
from ovmer.baselines.decoding.answers import MediaPrompt
from ovmer.baselines.errors import CheckpointError, PrerequisiteError, first_line
from ovmer.baselines.native.classes import class_named
from ovmer.baselines.native.mistral import NAME, MistralProcessor
from ovmer.baselines.native.processor import ChatProcessor


def _is_no_word_on_talker(record: logging.LogRecord) -> bool:
    # Qwen2.5-Omni's talker, which is not loaded here, has a vocabulary of 8,448 and by default ids
    # of the thinker's: transformers warns seven times of its own default wherever it reads both.
    message = record.getMessage()
    return not ("_token_id must be" in message and "(between 0 and 8447)" in message)


logging.getLogger("transformers.configuration_utils").addFilter(_is_no_word_on_talker)


class ChatModel:
    """A model whose `generate` takes the output of `ChatProcessor`."""

    def __init__(self, llm: PreTrainedModel) -> None:
        self.llm = llm

    def embed(self, inputs: MediaPrompt) -> MediaPrompt:
        """The prompt as it is: the class of transformers embeds the media itself."""
        return inputs


def context_of(folder: Path, architecture: str) -> int:
    """How many tokens, answer included, the model is made for."""
    return context_by(folder, class_named(architecture).config_class, architecture)


def read_processor(
    folder: Path, options: Mapping[str, Any], template: Mapping[str, Any]
) -> ChatProcessor:
    """The processor of a checkpoint folder; `options` are handed to it with every clip.

    `template` holds arguments of the chat template, and under `chat_template` another template, as
    Jinja or as the name of a file. Raises CheckpointError where the folder holds no processor that
    chats, PrerequisiteError where there is no such file.
    """
    try:
        processor = AutoProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise CheckpointError(
            f"{folder} holds no processor that transformers can build ({first_line(error)})"
        ) from error
    name = type(processor).__name__
    if not hasattr(processor, "tokenizer"):
        raise CheckpointError(
            f"{folder} holds a {name} alone, not the processor of a chat model that sees "
            "or hears; is it the right checkpoint?"
        )
    if type(processor.tokenizer).__name__ == NAME:
        return MistralProcessor(processor, folder, options)
    template = dict(template)
    if own := template.get("chat_template"):
        template["chat_template"] = _jinja(own)
    elif not processor.chat_template:  # Phi-4's processor leaves it to the tokenizer
        template["chat_template"] = processor.tokenizer.chat_template
        if not processor.tokenizer.chat_template:
            raise CheckpointError(
                f"the {name} of {folder} has no chat template; choose an instruct model, or say "
                "how it is asked with '+baseline.template={chat_template: FILE.jinja}'"
            )
    return ChatProcessor(processor, folder, options, template)


def _jinja(template: str) -> str:
    """A chat template, or that of the file of that name."""
    if "{" in template:
        return template
    try:
        return Path(template).read_text(encoding="utf-8")
    except OSError as error:
        raise PrerequisiteError(
            f"the chat_template {template!r} is neither Jinja nor a file "
            f"that can be read ({error.strerror})"
        ) from error
