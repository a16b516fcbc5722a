"""Tensors and files of them, for the tests of ports."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ovmer.baselines.weight_files import LazyTensor, Tensors


def lazy(tensors: dict[str, Tensor]) -> Tensors:
    """Tensors as if they were read from a file."""
    return {
        key: LazyTensor(tuple(value.shape), f"file: {key}", lambda value=value: value)
        for key, value in tensors.items()
    }


def frames(count: int) -> Tensor:
    """Random frames (count x 224 x 224 x 3, uint8), by their number always the same."""
    stream = torch.Generator().manual_seed(count)
    return torch.randint(256, (count, 224, 224, 3), generator=stream, dtype=torch.uint8)


def rewrite(file: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Apply `change` to the state dict of a torch file that nests it."""
    content = torch.load(file, weights_only=True)
    change(content["model"])
    torch.save(content, file)
