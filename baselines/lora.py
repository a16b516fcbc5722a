"""Low-rank adapters (Hu et al., 2021), merged into the weights that they adapt."""

from collections.abc import Collection
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.weight_files import LazyTensor, Tensors

# The spellings of peft before and since 0.3; after these renames a pair is MODULE.lora_A, .lora_B.
LORA_KEYS = ((r"\.(lora_[AB])(\.default)?\.weight$", r".\1"),)


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
        if weight is None:  # which strict loading tells better
            continue
        rank = down.shape[:1]
        if (down.shape, up.shape) != (rank + weight.shape[1:], weight.shape[:1] + rank):
            raise CheckpointError(
                f"{down.source} and {up.source} have shapes {list(down.shape)} and "
                f"{list(up.shape)}, which do not fit {weight.source} of shape "
                f"{list(weight.shape)}; do the files belong together?"
            )
        scale = alpha / down.shape[0]
        merged[f"{module}.weight"] = replace(
            weight,
            source=f"{weight.source} + {scale:g} x {down.source}",
            read=partial(_merged, weight, down, up, scale),
            files=tuple(dict.fromkeys((*weight.files, *down.files, *up.files))),
        )
    return merged


def _merged(weight: LazyTensor, down: LazyTensor, up: LazyTensor, scale: float) -> Tensor:
    return weight.read().float().addmm(up.read().float(), down.read().float(), alpha=scale)
