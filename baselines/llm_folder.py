"""The language model of a baseline as a folder of its own, in transformers' layout.

vLLM, and transformers' quantisers, read language models from such a folder and from nowhere else.
A port's language model (tensors renamed, LoRA merged in, embeddings of added tokens) is written
there once, in the type it runs in, and reused by all later runs.

Guarantee: the folder appears whole or not at all (`write_once`). Its name depends on everything
that it was made from: configuration, names, shapes, scale of adapters, type, and path, size and age
of the published files. A tokenizer is not part of it.
"""

import errno
import hashlib
import json
import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from ovmer.baselines.cache import write_once
from ovmer.baselines.errors import PrerequisiteError
from ovmer.baselines.weight_files import LazyTensor, Tensors

SHARD_BYTES = 2 * 2**30
"""Held in memory until it is written."""

_MADE_BY = 1
"""To be raised when the loaders come to make other weights of the same published files."""


class LlmFolder:
    """Keeps the language model of one baseline below `cache`."""

    def __init__(self, cache: Path, label: str) -> None:
        """`label` is how the folder's name begins."""
        self._cache = cache
        self._label = label
        self._path: Path | None = None

    @property
    def path(self) -> Path:
        """The folder, once a model has been kept."""
        if self._path is None:
            raise RuntimeError("no language model was kept")
        return self._path

    def keep(self, llm: PreTrainedModel, tensors: Tensors, dtype: torch.dtype) -> None:
        """Write the model unless it is there; `llm` gives the configuration, `tensors` the weights.

        Floating-point tensors become `dtype`. Raises PrerequisiteError where the disk is full or
        cannot be written.
        """
        self._path = self._cache / f"{self._label}-{_digest(llm, tensors, dtype)}"

        def write(folder: Path) -> None:
            _write_config(folder, llm, dtype)
            _write_weights(folder, tensors, dtype)

        try:
            write_once(self._path, write)
        except OSError as error:
            size = sum(math.prod(tensor.shape) for tensor in tensors.values()) * dtype.itemsize
            reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or error
            raise PrerequisiteError(
                f"the language model, {size / 2**30:.1f} GiB, cannot be kept in {self._cache} "
                f"({reason}); set engine.cache to a folder with room for it"
            ) from error


def _write_config(folder: Path, llm: PreTrainedModel, dtype: torch.dtype) -> None:
    config = llm.config.to_dict() | {
        "architectures": [type(llm).__name__],
        "dtype": str(dtype).removeprefix("torch."),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _write_weights(folder: Path, tensors: Tensors, dtype: torch.dtype) -> None:
    """Write in shards; each tensor is read when its shard is filled."""
    shard, index, total = dict[str, Tensor](), dict[str, str](), 0

    def save() -> None:
        file = f"model-{len(set(index.values())) + 1:05d}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        index.update(dict.fromkeys(shard, file))
        shard.clear()

    for name, tensor in tensors.items():
        data = tensor.read()
        kind = dtype if data.is_floating_point() else data.dtype
        shard[name] = torch.empty(data.shape, dtype=kind).copy_(data)
        total += shard[name].nbytes
        if sum(each.nbytes for each in shard.values()) >= SHARD_BYTES:
            save()
    if shard:
        save()
    content = {"metadata": {"total_size": total}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content), encoding="utf-8")


def _digest(llm: PreTrainedModel, tensors: Tensors, dtype: torch.dtype) -> str:
    config = json.dumps(llm.config.to_dict(), sort_keys=True, default=str)
    content = [_MADE_BY, type(llm).__name__, config, dtype]
    files = dict.fromkeys(file for tensor in tensors.values() for file in tensor.files)
    content += [(stat.st_size, stat.st_mtime_ns) for stat in (file.stat() for file in files)]
    content += [_of_tensor(name, tensors[name]) for name in sorted(tensors)]
    return hashlib.blake2b(repr(content).encode(), digest_size=6).hexdigest()


def _of_tensor(name: str, tensor: LazyTensor) -> tuple[str, tuple[int, ...], str]:
    return name, tensor.shape, tensor.source
