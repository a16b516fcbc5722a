"""Low-rank adapters (Hu et al., 2021), merged into the weights that they adapt."""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.weight_files import LazyTensor, Tensors, read_metadata, read_tensors
from ovmer.baselines.weight_index import some

# The spellings of peft before and since 0.3; after these renames a pair is MODULE.lora_A, .lora_B.
LORA_KEYS = ((r"\.(lora_[AB])(\.default)?\.weight$", r".\1"),)

ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")
ADAPTER_CONFIG = "adapter_config.json"
CONNECTOR_FILE = "connector.safetensors"
"""What `ovmer train` writes beside an adapter: modules trained whole, by the names in the port."""
TRAINED_IN = "model"
"""Key in the metadata of these files: the class of the model that `ovmer train` trained them in."""
PEFT = "base_model.model."
"""How peft's files begin the names of a language model's modules."""
_NO_SCALE = frozenset(
    "task_type auto_mapping peft_version peft_type base_model_name_or_path revision inference_mode "
    "lora_dropout megatron_core qalora_group_size runtime_config ensure_weight_tying loftq_config "
    "target_modules exclude_modules modules_to_save layers_to_transform layers_pattern "
    "lora_ga_config eva_config".split()
)
"""Keys of adapter_config.json that say nothing of how a finished adapter is applied."""
_HARMLESS_STARTS = ("true", "gaussian", "eva", "orthogonal", "mica", "lora_ga")
"""Values of `init_lora_weights` that leave the base weights alone; others (PiSSA, OLoRA, CorDA,
LoftQ) train another base model than the published one."""
_OF_ANOTHER = "was trained for another model than this one"


@dataclass(frozen=True)
class AdapterConfig:
    """How an adapter in peft's layout is applied."""

    r: int
    lora_alpha: float
    use_rslora: bool = False
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    """Scales of single modules: a regular expression for the end of a name, and its alpha."""
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    target_modules: Any = None
    modules_to_save: Any = None

    @classmethod
    def read(cls, folder: Path) -> "AdapterConfig":
        """Read adapter_config.json of `folder`.

        Raises CheckpointError where it is missing or asks for more than low-rank adapters.
        """
        content = read_json(folder, ADAPTER_CONFIG)
        start = str(content.pop("init_lora_weights", True)).lower()
        kind, bias = content.get("peft_type"), content.pop("bias", "none")
        content.pop("fan_in_fan_out", None)  # of GPT-2's layers, which no model here has
        own = {each: content.pop(each) for each in cls.__annotations__ if each in content}
        strange = sorted(key for key, value in content.items() if value and key not in _NO_SCALE)
        if kind != "LORA" or bias != "none" or strange or start not in _HARMLESS_STARTS:
            what = f"peft_type={kind}, bias={bias}, init_lora_weights={start}, {some(strange)}"
            raise CheckpointError(
                f"{folder / ADAPTER_CONFIG} is of no plain low-rank adapter ({what.rstrip(', ')}); "
                "merge it into its model with peft, and set baseline.checkpoint to the result"
            )
        try:
            return cls(**{key: value for key, value in own.items() if value is not None})
        except TypeError as error:
            raise CheckpointError(
                f"{folder / ADAPTER_CONFIG} lacks r or lora_alpha; fetch it again"
            ) from error

    def scale(self, module: str, rank: int) -> float:
        """The factor of B A for a module of that name."""
        matching = (
            a for key, a in self.alpha_pattern.items() if re.match(rf"(.*\.)?({key})$", module)
        )
        return next(matching, self.lora_alpha) / (math.sqrt(rank) if self.use_rslora else rank)


def read_adapter(folder: Path) -> Tensors:
    """The tensors of an adapter in peft's layout, by their names without `base_model.model.`.

    A pair is MODULE.lora_A and .lora_B; what was trained whole has the name of its parameter.
    Raises CheckpointError where `folder` holds none.
    """
    file = next((file for name in ADAPTER_FILES if (file := folder / name).is_file()), None)
    if file is None:
        raise CheckpointError(f"{folder} holds no {' or '.join(ADAPTER_FILES)}; is it an adapter?")
    tensors: Tensors = {}
    for name, tensor in read_tensors(file).items():
        name = name.removeprefix(PEFT).replace(".modules_to_save.", ".")
        tensors[re.sub(*LORA_KEYS[0], name)] = tensor
    return tensors


def check_model(folder: Path, model: nn.Module) -> None:
    """Raise CheckpointError where `ovmer train` wrote the files of `folder` for another model.

    Its language model may have the same shapes, so that the tensors would fit. Adapters of other
    programs do not say what they were trained in.
    """
    here = type(model).__name__
    for file in (folder / ADAPTER_FILES[0], folder / CONNECTOR_FILE):
        there = read_metadata(file).get(TRAINED_IN, here) if file.is_file() else here
        if there != here:
            raise CheckpointError(
                f"{file} was trained in {there}, and this model is {here}; choose the baseline "
                f"that it belongs to, or train an adapter for this one"
            )


def with_adapter(base: Tensors, folder: Path, model: nn.Module) -> Tensors:
    """`base`, the tensors of `model` by its names, with the adapter of `folder` merged in.

    The adapter is of the port's language model, `llm`; connectors that `ovmer train` left beside it
    take the place of the port's. Raises CheckpointError where it was trained in another model, or
    where one of its tensors has no counterpart or another shape.
    """
    check_model(folder, model)
    adapters, merged = dict[str, LazyTensor](), dict(base)
    if (connectors := folder / CONNECTOR_FILE).is_file():
        adapters |= read_tensors(connectors)
    if not adapters or (folder / ADAPTER_CONFIG).is_file():
        config = AdapterConfig.read(folder)
        adapters |= {f"llm.{name}": tensor for name, tensor in read_adapter(folder).items()}
    for name in [name for name in adapters if name.endswith(".lora_A")]:
        module = name.removesuffix(".lora_A")
        down, up = adapters.pop(name), adapters.pop(f"{module}.lora_B", None)
        weight = merged.get(f"{module}.weight")
        if weight is None or up is None:
            raise CheckpointError(f"{down.source} {_OF_ANOTHER}: there is no {module} to adapt")
        scale = config.scale(module.removeprefix("llm."), down.sides(2)[0])
        merged[f"{module}.weight"] = _pair(weight, down, up, scale)
    for name, tensor in adapters.items():
        if name not in merged or merged[name].shape != tensor.shape:
            raise CheckpointError(f"{tensor.source} {_OF_ANOTHER}: there is no {name} of its shape")
        merged[name] = tensor
    return merged


def attention_modules(llm: str, layers: int, projections: str) -> list[str]:
    """The `projections` (letters of q, k, v, o) of all attention in a LLaMA called `llm`."""
    names = [f"self_attn.{letter}_proj" for letter in projections]
    return [f"{llm}.model.layers.{layer}.{name}" for layer in range(layers) for name in names]


def random_lora(model: nn.Module, modules: Collection[str], seed: int) -> dict[str, Tensor]:
    """Adapters of rank 2 for `modules` of a miniature, so small that these keep their size."""
    stream = torch.Generator().manual_seed(seed)
    found = {}
    for module in modules:
        rows, columns = model.get_parameter(f"{module}.weight").shape
        for side, shape in (("A", (2, columns)), ("B", (rows, 2))):
            found[f"{module}.lora_{side}"] = torch.randn(shape, generator=stream) / columns
    return found


def take_lora(tensors: Tensors) -> Tensors:
    """Take the low-rank adapters out of renamed tensors."""
    return {name: tensors.pop(name) for name in list(tensors) if ".lora_" in name}


def merge_lora(base: Tensors, adapters: Tensors, alpha: float, modules: Collection[str]) -> Tensors:
    """`base` with W + alpha / rank * B A as the weight of each of `modules`, summed in float32.

    A is rank x in, B is out x rank. Raises CheckpointError unless exactly `modules` have both: a
    model that runs without its adapters answers fluently, and wrongly.
    """
    wanted = {f"{module}.lora_{side}" for module in modules for side in "AB"}
    if differing := sorted(wanted ^ adapters.keys()):
        files = ", ".join(sorted({each.file for each in adapters.values()})) or "the checkpoint"
        kind = "lacks" if differing[0] in wanted else "has the unexpected"
        raise CheckpointError(
            f"{files} {kind} {differing[0]}, one of {len(differing)} low-rank adapters that "
            f"are not as this model has them ({len(modules)} pairs); is it the right file?"
        )
    merged = dict(base)
    for module in modules:
        down, up = adapters[f"{module}.lora_A"], adapters[f"{module}.lora_B"]
        weight = base.get(f"{module}.weight")
        if weight is not None:  # else strict loading tells better
            rank = down.shape[0] if down.shape else 1
            merged[f"{module}.weight"] = _pair(weight, down, up, alpha / rank)
    return merged


def _pair(weight: LazyTensor, down: LazyTensor, up: LazyTensor, scale: float) -> LazyTensor:
    """`weight` with a pair merged in. Raises CheckpointError where their shapes do not fit."""
    rank = down.shape[:1]
    if (down.shape, up.shape) != (rank + weight.shape[1:], weight.shape[:1] + rank):
        raise CheckpointError(
            f"{down.source} and {up.source} have shapes {list(down.shape)} and "
            f"{list(up.shape)}, which do not fit {weight.source} of shape "
            f"{list(weight.shape)}; do the files belong together?"
        )
    return replace(
        weight,
        source=f"{weight.source} + {scale:g} x {down.source}",
        read=partial(_merged, weight, down, up, scale),
        files=tuple(dict.fromkeys((*weight.files, *down.files, *up.files))),
    )


def _merged(weight: LazyTensor, down: LazyTensor, up: LazyTensor, scale: float) -> Tensor:
    return weight.read().float().addmm(up.read().float(), down.read().float(), alpha=scale)
