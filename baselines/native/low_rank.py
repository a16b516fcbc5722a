"""Low-rank adapters that a chat model is published with, one of which a clip's media choose.

Phi-4-multimodal has one for clips with a picture and one for sound alone, as peft writes them, in
folders of the checkpoint. Its model without them hardly works, says transformers' documentation.
"""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from ovmer.baselines.errors import CheckpointError, first_line
from ovmer.baselines.lora import random_lora

_FILE, _PREFIX = "adapter_model.safetensors", "base_model.model."
_TARGETS = r".*layers\.\d+\.(self_attn\.(qkv_proj|o_proj)|mlp\.(gate_up_proj|down_proj))"
"""What a miniature's adapters change: the linear layers of Phi-4's language model."""


def add_adapters(model: PreTrainedModel, folder: Path, chosen_by: Mapping[str, str]) -> None:
    """Let `model` use the adapter that belongs to the inputs it is given.

    `chosen_by` holds folders below `folder` by the name of an input, `image_pixel_values`; the
    first whose input a prompt has is used. Raises CheckpointError where a folder is missing, or
    its tensors are not exactly those of its adapter.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name in dict.fromkeys(chosen_by.values()):
        _add(model, folder / name, name)
    layers = [each for each in model.modules() if isinstance(each, BaseTunerLayer)]

    def choose(module: Any, args: Any, given: Mapping[str, Any]) -> None:
        """Before a prompt; the further tokens of its answer come without the media."""
        has = [name for inputs, name in chosen_by.items() if given.get(inputs) is not None]
        for layer in layers if has else []:
            layer.set_adapter(has[0], inference_mode=True)

    model.register_forward_pre_hook(choose, with_kwargs=True)


def _add(model: PreTrainedModel, folder: Path, name: str) -> None:
    from peft import PeftConfig, inject_adapter_in_model, set_peft_model_state_dict

    try:
        config = PeftConfig.from_pretrained(str(folder), local_files_only=True)
        tensors = load_file(folder / _FILE)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder} holds no low-rank adapter, without which the model hardly works "
            f"({first_line(error)}); fetch the whole repository"
        ) from error
    config.inference_mode = True
    with warnings.catch_warnings():  # of a second adapter, which is what is wanted
        warnings.filterwarnings("ignore", "Already found a `peft_config`")
        inject_adapter_in_model(config, model, name)
    tensors = {key.removeprefix(_PREFIX): each for key, each in tensors.items()}
    try:
        result = set_peft_model_state_dict(model, tensors, adapter_name=name)
    except RuntimeError as error:
        raise CheckpointError(
            f"the adapter in {folder} does not fit the model ({first_line(error)})"
        ) from error
    # Where a name is another tower's too, peft adds an adapter that is zero and changes nothing.
    kinds = {_kind(key) for key in tensors}
    absent = [
        key
        for key in result.missing_keys
        if f".{name}." in key and _kind(key.replace(f".{name}.", ".")) in kinds
    ]
    if differing := [*absent, *result.unexpected_keys]:
        raise CheckpointError(
            f"{folder / _FILE} {'lacks' if absent else 'has the unexpected'} {differing[0]}, one "
            f"of {len(differing)} tensors that are not the model's; is it the right file?"
        )


def _kind(key: str) -> str:
    """The name of a tensor in any layer."""
    return re.sub(r"\d+", "#", key)


def write_adapter(folder: Path, model: PreTrainedModel, seed: int) -> None:
    """Write a random adapter of rank 2 for a miniature of Phi-4, in peft's layout."""
    from peft import LoraConfig

    targets = re.compile(_TARGETS)
    modules = [name for name, _ in model.named_modules() if targets.fullmatch(name)]
    tensors = random_lora(model, modules, seed)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {f"{_PREFIX}{key}.weight": each.half() for key, each in tensors.items()}, folder / _FILE
    )
    LoraConfig(r=2, lora_alpha=4, target_modules=_TARGETS).save_pretrained(str(folder))
