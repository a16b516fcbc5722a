"""One model on several GPUs: which of its modules goes to which.

Layers follow each other from GPU to GPU, so that each computes while the others wait: it makes room
and no speed. (vLLM's tensor parallelism makes both.)
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from ovmer.baselines.device import Placement, check_room

Spread = Mapping[str, torch.device]
"""Names of modules and parameters, and their devices; "" is the whole model."""


def spread(
    model: PreTrainedModel, devices: Sequence[torch.device], dtype: torch.dtype, beside: int = 0
) -> Spread:
    """The device of each part of a model without weights, about as many bytes to each in turn.

    `beside` bytes are on the first device already. Layers of `_no_split_modules` stay whole, as
    what their residual connections add up must lie together; a head that is tied to the input
    embeddings lies with them.
    """
    if len(devices) == 1:
        return {"": devices[0]}
    parts = list(_parts(model, frozenset(model._no_split_modules or ())))
    each = (beside + sum(size for _, size in parts) * dtype.itemsize) / len(devices)
    found, done = dict[str, torch.device](), float(beside)
    for name, size in parts:
        middle = done + size * dtype.itemsize / 2
        found[name] = devices[min(int(middle // each), len(devices) - 1)]
        done += size * dtype.itemsize
    configs = (model.config, model.config.get_text_config())
    if any(getattr(each, "tie_word_embeddings", False) for each in configs):
        words, head = model.get_input_embeddings(), model.get_output_embeddings()
        names = {id(module): name for name, module in model.named_modules()}
        if id(head) in names and names[id(head)] in found:
            found[names[id(head)]] = device_of(names[id(words)], found)
    return found


def _parts(module: nn.Module, whole: frozenset[str], prefix: str = "") -> Iterator[tuple[str, int]]:
    """What goes to one device as a whole, in the order of the modules, and how many numbers."""
    direct = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    children = list(module.named_children())
    if type(module).__name__ in whole or not children:
        yield prefix, sum(each.numel() for each in module.parameters())
        return
    for name, tensor in direct:
        yield f"{prefix}.{name}".lstrip("."), tensor.numel()
    for name, child in children:
        yield from _parts(child, whole, f"{prefix}.{name}".lstrip("."))


def device_of(name: str, where: Spread) -> torch.device:
    """The device of a parameter or module."""
    while name not in where and name:
        name = name.rpartition(".")[0]
    return where[name]


def check_each(model: nn.Module, where: Spread, placement: Placement, beside: int = 0) -> None:
    """Raises PrerequisiteError where one of the GPUs has no room for its share of a model.

    `beside` bytes come to the device that the model begins on.
    """
    first = next(iter(where.values()))
    shares = dict.fromkeys(where.values(), 0)
    for name, tensor in model.named_parameters():
        shares[device_of(name, where)] += tensor.numel() * placement.dtype.itemsize
    for device, share in shares.items():
        check_room(share + (beside if device == first else 0), device, placement.remedy)


def connect(model: PreTrainedModel, where: Spread) -> None:
    """Let each part of a filled model take its inputs from wherever they are (accelerate's hooks).

    The output comes back to the device of the input.
    """
    from accelerate import dispatch_model

    named = {
        name: device.type if device.index is None else device.index
        for name, device in where.items()
    }
    # Buffers of a model that was built without weights are there already.
    options: dict[str, Any] = {"skip_keys": model._skip_keys_device_placement, "force_hooks": True}
    dispatch_model(model, named, **options)
