"""The class of transformers around a chat MLLM, loaded strictly."""

from pathlib import Path

from transformers import PreTrainedModel

from baselines.chat import context_of as context_by
from baselines.chat import load_chat_model
from baselines.decoding.answers import Perceived
from baselines.native.classes import class_named


class ChatModel:
    """A model whose `generate` takes what `ChatProcessor` makes of a clip."""

    def __init__(self, llm: PreTrainedModel) -> None:
        self.llm = llm

    @classmethod
    def load(cls, folder: Path, architecture: str, device: str, dtype: str) -> "ChatModel":
        """Read a checkpoint folder in transformers' layout.

        Raises CheckpointError where tensors are missing or of another shape.
        """
        return cls(load_chat_model(folder, device, dtype, class_named(architecture), architecture))

    def embed(self, inputs: Perceived) -> Perceived:
        """The prompt as it is: the class of transformers embeds the media itself."""
        return inputs


def context_of(folder: Path, architecture: str) -> int:
    """How many tokens, answer included, the model is made for."""
    return context_by(folder, class_named(architecture).config_class, architecture)
