"""Low-rank adapters inside a language model, by peft; `ovmer.baselines.lora` merges trained ones.

Training reads and writes one weight file a checkpoint: what is trained, and nothing else. In peft's
own layout that is adapter_model.safetensors with adapter_config.json; connectors are beside it in
connector.safetensors, under the names of the port's modules.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors.torch import save as as_safetensors
from torch import Tensor, nn

from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.lora import (
    ADAPTER_CONFIG,
    ADAPTER_FILES,
    CONNECTOR_FILE,
    PEFT,
    TRAINED_IN,
    check_model,
)
from ovmer.baselines.weight_files import Tensors, read_metadata, read_tensors
from ovmer.baselines.weight_index import some

ADAPTER_FILE = ADAPTER_FILES[0]
_PARTS = "parts"
"""Key in the metadata of these files: fingerprints of the parts that were not trained, as JSON."""


@dataclass(frozen=True)
class Lora:
    """Sizes of low-rank adapters; the scale is alpha / rank."""

    rank: int
    alpha: float
    dropout: float
    targets: Sequence[str]
    """Ends of the names of the modules that get one, e.g. `q_proj`."""


def attach(llm: nn.Module, lora: Lora) -> None:
    """Give `llm` adapters (A: Kaiming, B: zero, float32); nothing else of it can be trained.

    Raises CheckpointError where no module has a name of `targets`.
    """
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
        bias="none",
    )
    try:
        inject_adapter_in_model(config, llm)
    except ValueError as error:  # peft found no such module
        raise CheckpointError(
            f"train.lora.targets: no module of {type(llm).__name__} is called "
            f"{some(lora.targets)}; name some as they are in the model"
        ) from error
    for name, parameter in llm.named_parameters():
        parameter.requires_grad_(".lora_" in name)
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes, by name, in the module's order."""
    return {name: each for name, each in model.named_parameters() if each.requires_grad}


def fill(parameters: Mapping[str, nn.Parameter], tensors: Tensors, what: str) -> None:
    """Copy the tensors of files into the parameters of the same names.

    Raises CheckpointError where names or shapes differ: it is a checkpoint of another architecture
    or of other settings.
    """
    if lost := sorted(parameters.keys() - tensors.keys()):
        raise CheckpointError(
            f"{what} lacks {some(lost)}, which is trained here; was it made with other settings "
            "(train.fusion, train.lora, train.connectors)?"
        )
    if extra := sorted(tensors.keys() - parameters.keys()):
        raise CheckpointError(
            f"{what} holds {some(tensors[key].source for key in extra)}, for which these settings "
            "have no place; was it made with others (train.fusion, train.lora, train.connectors)?"
        )
    for name, parameter in parameters.items():
        if tensors[name].shape != tuple(parameter.shape):
            raise CheckpointError(
                f"{tensors[name].source} has shape {list(tensors[name].shape)} where "
                f"{list(parameter.shape)} is trained here; is it of another model or rank?"
            )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name].read())


def save(
    model: nn.Module,
    lora: Lora | None,
    folder: Path,
    parts: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write what is trained of a port into `folder`: adapters as peft has them, and connectors.

    Both hold the fingerprints of the frozen `parts` beside which they were trained.
    """
    found = {name: each.detach().cpu().contiguous() for name, each in trained(model).items()}
    about = {"format": "pt", TRAINED_IN: type(model).__name__, _PARTS: json.dumps(dict(parts))}
    adapters = {_published(name): found.pop(name) for name in list(found) if ".lora_" in name}
    if adapters and lora is not None:
        _write(adapters, folder / ADAPTER_FILE, about)
        content = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "r": lora.rank,
            "lora_alpha": lora.alpha,
            "lora_dropout": lora.dropout,
            "target_modules": list(lora.targets),
            "bias": "none",
            "inference_mode": True,
        }
        (folder / ADAPTER_CONFIG).write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    if found:
        _write(found, folder / CONNECTOR_FILE, about)


def _write(tensors: dict[str, Tensor], file: Path, about: dict[str, str]) -> None:
    """Write tensors with metadata in order: safetensors orders it by chance, and bytes differ."""
    content = as_safetensors(tensors, metadata=about)
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(about.items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // 8) * 8)  # so that tensors begin at multiples of 8
    file.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])


def restore(model: nn.Module, folder: Path) -> None:
    """Read what `save` wrote back into the same model with the same settings."""
    check_model(folder, model)
    fill(trained(model), _read(folder), str(folder))


def trained_beside(folder: Path, model: nn.Module) -> dict[str, str]:
    """The fingerprints of frozen parts that `save` wrote; empty for other programs' adapters.

    Raises CheckpointError where it wrote them for another class of model.
    """
    check_model(folder, model)
    files = (folder / ADAPTER_FILE, folder / CONNECTOR_FILE)
    file = next((each for each in files if each.is_file()), None)
    found: dict[str, str] = json.loads(read_metadata(file).get(_PARTS, "{}")) if file else {}
    return found


def _read(folder: Path) -> Tensors:
    tensors: Tensors = {}
    if (folder / ADAPTER_FILE).is_file():
        for name, tensor in read_tensors(folder / ADAPTER_FILE).items():
            tensors[f"llm.{name.removeprefix(PEFT)}".replace(".weight", ".default.weight")] = tensor
    if (folder / CONNECTOR_FILE).is_file():
        tensors |= read_tensors(folder / CONNECTOR_FILE)
    if not tensors:
        raise CheckpointError(
            f"{folder} holds neither {ADAPTER_FILE} nor {CONNECTOR_FILE}; choose a checkpoint's "
            "folder that `ovmer train` wrote for this baseline"
        )
    return tensors


def _published(name: str) -> str:
    return PEFT + name.removeprefix("llm.").replace(".default.weight", ".weight")
