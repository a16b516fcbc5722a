"""The class of transformers around a chat MLLM, loaded strictly."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from baselines.decoding.answers import Perceived
from baselines.device import resolve
from baselines.errors import CheckpointError
from baselines.native.classes import class_named


class ChatModel:
    """A model whose `generate` takes what `ChatProcessor` makes of a clip."""

    def __init__(self, llm: PreTrainedModel) -> None:
        self.llm = llm

    @classmethod
    def load(cls, folder: Path, architecture: str, device: str, dtype: str) -> "ChatModel":
        """Read a checkpoint folder in transformers' layout.

        `dtype=auto` is the checkpoint's own on a GPU and float32 on the CPU. Raises CheckpointError
        where tensors are missing or of another shape.
        """
        disable_progress_bar()
        place = resolve(device, dtype)
        kind = "auto" if dtype == "auto" and place.device.type != "cpu" else place.dtype
        try:
            model, found = class_named(architecture).from_pretrained(
                folder,
                dtype=kind,
                device_map={"": place.device},
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CheckpointError(f"{folder} holds no {architecture} ({first})") from error
        if absent := [*found["missing_keys"], *found["mismatched_keys"]]:
            raise CheckpointError(
                f"{folder} lacks {absent[0]} and {len(absent) - 1} more tensors of {architecture}; "
                "fetch it again, or correct baseline.architecture"
            )
        model.eval().requires_grad_(False)
        return cls(model)

    def embed(self, inputs: Perceived) -> Perceived:
        """The prompt as it is: the class of transformers embeds the media itself."""
        return inputs


def context_of(folder: Path, architecture: str) -> int:
    """How many tokens, answer included, the model is made for."""
    try:
        config: Any = class_named(architecture).config_class.from_pretrained(
            folder, local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"{folder} has no configuration of {architecture} ({first})"
        ) from error
    text = config.get_text_config()
    return int(getattr(text, "max_position_embeddings", 0) or 0)
