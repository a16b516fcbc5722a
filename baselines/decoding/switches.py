"""Switches of the transformers engine, all off by default because each changes the words."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from ovmer.baselines.device import Placement
from ovmer.baselines.errors import PrerequisiteError


def read_quantized(folder: Path, quantization: str, placement: Placement) -> PreTrainedModel:
    """The language model of an `LlmFolder` with `8bit` or `4bit` weights, as bitsandbytes has them.

    Raises PrerequisiteError where that package is missing.
    """
    config: dict[str, Any] = {"load_in_8bit": True}
    if quantization == "4bit":
        config = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_compute_dtype": placement.dtype,
        }
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            quantization_config=BitsAndBytesConfig(**config),
            dtype=placement.dtype,
            device_map={"": placement.device},
            local_files_only=True,
            trust_remote_code=False,
        )
    except ImportError as error:
        raise PrerequisiteError(
            f"engine.quantization={quantization} needs bitsandbytes, which cannot be imported "
            f"({str(error).splitlines()[0]}); install it with pip install 'ovmer[quantization]', "
            "or say engine.quantization=none"
        ) from error
    model.eval().requires_grad_(False)
    assert isinstance(model, PreTrainedModel)
    return model


def choose_attention(llm: PreTrainedModel, name: str) -> None:
    """Raises PrerequisiteError where this attention is not installed or not made for the model."""
    try:
        llm.set_attn_implementation(name)
    except (ImportError, ValueError) as error:
        raise PrerequisiteError(
            f"engine.attention={name} cannot be had here ({str(error).splitlines()[0]}); say "
            "engine.attention=auto"
        ) from error


def compiled(llm: PreTrainedModel) -> PreTrainedModel:
    """The model with its forward pass compiled when it is first used, for any length."""
    llm.forward = torch.compile(llm.forward, dynamic=True)
    return llm
