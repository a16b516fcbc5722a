"""The weight files of a checkpoint (safetensors or torch's): tensors that are read on demand.

Nothing of a file stays in memory but the tensors that were read. What pickles hold beside tensors
is neither imported nor run (see `inert_pickle`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.inert_pickle import ITEM_BYTES, StoredTensor
from ovmer.baselines.torch_file import TorchFile, read_torch_file, torn
from ovmer.baselines.weight_index import TensorEntry, WeightFile, check_head, index_files, some


@dataclass(frozen=True)
class LazyTensor:
    """A tensor of a file that has not been read."""

    shape: tuple[int, ...]
    source: str
    """Path of its file and published key, for messages."""
    read: Callable[[], Tensor]
    """Returns the data, which is not kept."""
    files: tuple[Path, ...] = ()
    """The files that it is read from."""
    origin: WeightFile | None = None
    """The file, and what is to be said of it."""
    stored: StoredTensor | None = None
    """Its data's offset in a torch file, if the storage holds nothing else."""
    reason: str = ""
    """Why a model refuses it, where a table of renames says so (`weights.ForeignTensor`)."""

    @property
    def file(self) -> str:
        """The path of its file."""
        return self.source.partition(": ")[0]

    @property
    def key(self) -> str:
        """Its name in the file."""
        return self.source.rpartition(": ")[2]

    def sides(self, count: int) -> tuple[int, ...]:
        """The shape, of which whoever reads sizes off it expects `count` dimensions.

        Raises CheckpointError where there are more or fewer.
        """
        if len(self.shape) != count:
            raise CheckpointError(
                f"{self.source} has shape {list(self.shape)} where {count} dimensions are "
                "expected; is it the right file?"
            )
        return self.shape


Tensors = dict[str, LazyTensor]


def read_tensors(path: Path, inner: str | None = None) -> Tensors:
    """The tensors of a weight file, or of the weight files of a folder, in the order of the files.

    A folder holds safetensors or torch files, in one piece or in shards. `inner` is the key under
    which a torch file nests its state dict, e.g. "model"; see `weight_index` for what else will do.
    Raises CheckpointError for files that are missing, half downloaded or something else.
    """
    tensors: Tensors = {}
    for file in index_files(path, inner):
        found = {name: _lazy(file, entry) for name, entry in file.entries.items()}
        if twice := tensors.keys() & found.keys():
            raise CheckpointError(f"{file.path} repeats {some(twice)} of an earlier shard")
        tensors.update(found)
    return tensors


def read_metadata(file: Path) -> dict[str, str]:
    """The metadata of a safetensors file. Raises CheckpointError for something else."""
    try:
        with safe_open(file, framework="numpy") as opened:
            return opened.metadata() or {}
    except SafetensorError as error:
        raise torn(file, error) from error


def read_entry(file: Path, key: str) -> dict[str, Any]:
    """The entry `key` of a torch file beside its state dict, such as a configuration.

    Of an object it is the attributes. Raises CheckpointError where there is nothing of that name.
    """
    check_head(file)
    content = read_torch_file(file).content
    entry = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entry, dict):
        raise CheckpointError(f"{file} holds nothing under {key!r}; is it the right file?")
    return entry


def _lazy(file: WeightFile, entry: TensorEntry) -> LazyTensor:
    if file.torch_file is None or entry.stored is None:
        read = partial(_from_safetensors, file.path, entry.key)
    else:
        read = partial(_from_torch, file.torch_file, entry.stored)
    source = f"{file.path}: {entry.key}"
    return LazyTensor(entry.shape, source, read, (file.path,), file, entry.stored)


def _from_safetensors(file: Path, key: str) -> Tensor:
    # Opened for each tensor, so that its pages go when the tensor goes.
    with safe_open(file, framework="pt") as opened:
        tensor: Tensor = opened.get_tensor(key)
        return tensor


def _from_torch(file: TorchFile, tensor: StoredTensor) -> Tensor:
    kind: torch.dtype = getattr(torch, tensor.dtype)
    if not tensor.reach:
        return torch.empty(tensor.shape, dtype=kind)
    size = tensor.reach * ITEM_BYTES[tensor.dtype]
    data = np.fromfile(file.path, np.uint8, size, offset=file.start_of(tensor))
    if len(data) != size:
        raise CheckpointError(f"{file.path} became shorter while it was read; fetch it again")
    return torch.from_numpy(data).view(kind).as_strided(tensor.shape, tensor.stride)
