"""Switches of the transformers engine, all off by default because each changes the words."""

import re
from pathlib import Path

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from ovmer.baselines.errors import CheckpointError, PrerequisiteError, first_line
from ovmer.baselines.lora import PEFT, AdapterConfig, read_adapter
from ovmer.baselines.weight_index import some

_PAIR = re.compile(r"\.lora_[AB]$")


def quantized(built: PreTrainedModel, quantization: str, dtype: torch.dtype) -> BitsAndBytesConfig:
    """The settings of bitsandbytes for a model without weights: `8bit` or `4bit` linear layers.

    Encoders, connectors and the head stay as they are.
    """
    kept = unquantized(built)
    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=kept,
    )


def unquantized(built: PreTrainedModel) -> list[str]:
    """The linear layers outside the decoder: of encoders, of connectors, and the head."""
    decoder = built.get_decoder()
    own = set() if decoder is None or decoder is built else set(decoder.modules())
    head = built.get_output_embeddings()
    return [
        name
        for name, module in built.named_modules()
        if isinstance(module, nn.Linear) and (module is head or (own and module not in own))
    ]


def adapt(llm: PreTrainedModel, folder: Path, *, merge: bool) -> None:
    """Give a chat model the low-rank adapter of `folder`, in peft's layout, by peft.

    transformers translates names of modules that it has renamed since the adapter was trained.
    With `merge` W + scale B A becomes the weight, else both stay side by side (quantised weights
    cannot take the sum). Raises CheckpointError where the adapter is of another model,
    PrerequisiteError where peft is missing.
    """
    config, tensors = AdapterConfig.read(folder), read_adapter(folder)
    try:
        from peft import LoraConfig
        from peft.tuners.tuners_utils import BaseTunerLayer
    except ImportError as error:
        raise PrerequisiteError(
            f"the adapter {folder} needs peft, which cannot be imported ({first_line(error)}); "
            "pip install 'ovmer[train]'"
        ) from error
    state = {
        f"{PEFT}{name}" + ".weight" * bool(_PAIR.search(name)): tensor.read()
        for name, tensor in tensors.items()
    }
    try:
        found = llm.load_adapter(
            peft_config=LoraConfig(**vars(config)),
            adapter_state_dict=state,
        )
    except (ValueError, RuntimeError, KeyError) as error:
        raise CheckpointError(
            f"the adapter {folder} does not fit {type(llm).__name__} ({first_line(error)}); "
            "was it trained on this model?"
        ) from error
    wrong = [*found.missing_keys, *found.unexpected_keys, *map(str, found.mismatched_keys)]
    if wrong:
        raise CheckpointError(
            f"the adapter {folder} does not fit {type(llm).__name__}: {some(wrong)} is missing in "
            "one of them or of another shape; was it trained on this model?"
        )
    llm.eval().requires_grad_(False)
    for name, module in list(llm.named_modules()) if merge else []:
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True)
            llm.set_submodule(name, module.get_base_layer())


def choose_attention(llm: PreTrainedModel, name: str, key: str) -> None:
    """Raises PrerequisiteError where this attention is not installed or not made for the model.

    `key` is the setting that names it.
    """
    try:
        llm.set_attn_implementation(name)
    except (ImportError, ValueError) as error:
        raise PrerequisiteError(
            f"{key}={name} cannot be had here ({first_line(error)}); say {key}=auto"
        ) from error


def compiled(llm: PreTrainedModel) -> PreTrainedModel:
    """The model with its forward pass compiled when it is first used, for any length."""
    llm.forward = torch.compile(llm.forward, dynamic=True)
    return llm
