"""The weight files of a checkpoint (safetensors or torch's): tensors that are read when asked for.

Files in torch's format of before 2020 cannot be mapped and are held whole until used up.
"""

import json
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ovmer.baselines.errors import CheckpointError, first_line

REMAP_AFTER = 256 * 2**20
"""Bytes read from a mapped file before it is mapped anew, which gives its pages back."""

INDEX_FILES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")

# What training scripts leave beside their weights: settings in a dictionary of a class of their own
# (VideoChat and VideoChat2, utils/easydict.py). They are read as plain dictionaries.
_SETTINGS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (OrderedDict, "utils.easydict.EasyDict")
]


@dataclass(frozen=True)
class LazyTensor:
    """A tensor of a file that has not been read."""

    shape: tuple[int, ...]
    source: str
    """File name and published key, for messages."""
    read: Callable[[], Tensor]
    """Returns the data, possibly a view of the mapped file: copy it, and let go of it soon."""
    files: tuple[Path, ...] = ()
    """What it is read from."""

    @property
    def file(self) -> str:
        """The name of its file."""
        return self.source.partition(": ")[0]

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

    A folder holds safetensors or torch files, in one piece or in shards with an index. `inner` is
    the key under which a torch file nests its state dict, e.g. "model".
    Raises CheckpointError for files that are missing, half downloaded or something else.
    """
    tensors: Tensors = {}
    for file in _weight_files(path):
        _check_head(file)
        if file.suffix == ".safetensors":
            found = _read_safetensors(file)
        else:
            found = _TorchFile(file, inner).tensors()
        if twice := tensors.keys() & found.keys():
            raise CheckpointError(f"{file} repeats {some(twice)} of an earlier shard")
        tensors.update(found)
    return tensors


def read_entry(file: Path, key: str) -> dict[str, Any]:
    """What a torch file holds under `key` beside its state dict, such as a configuration."""
    _check_head(file)
    return _TorchFile(file, key).state


def nesting(file: Path, key: str) -> str | None:
    """`key` where a torch file nests its state dict under it, None where it does not."""
    _check_head(file)
    return key if key in _TorchFile(file, None).state else None


def some(names: Iterable[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    names = sorted(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _weight_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    for name in INDEX_FILES:
        if (path / name).is_file():
            return _shards(path / name)
    for name in SINGLE_FILES:
        if (path / name).is_file():
            return [path / name]
    raise CheckpointError(
        f"{path} has no weights: none of {', '.join(INDEX_FILES + SINGLE_FILES)} is there"
    )


def _shards(index: Path) -> list[Path]:
    _check_head(index)
    try:
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is no index of shards; fetch it again") from error
    files = [index.parent / shard for shard in shards]
    if lost := [file.name for file in files if not file.is_file()]:
        raise CheckpointError(f"{index.parent} lacks the shard {some(lost)}; fetch it again")
    return files


def _check_head(file: Path) -> None:
    """Tell the usual stand-ins for a weight file from one."""
    with file.open("rb") as stream:
        head = stream.read(64).lstrip().lower()
    if not head:
        raise CheckpointError(f"{file} is empty; fetch it again")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{file} is a git-lfs pointer, not the file itself; run git lfs pull")
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise CheckpointError(f"{file} is a web page, not a weight file; fetch it again")


def _read_safetensors(file: Path) -> Tensors:
    def read(key: str) -> Tensor:
        # Opened for each tensor, so that its pages go when the tensor goes.
        with safe_open(file, framework="pt") as opened:
            return opened.get_tensor(key)

    try:
        with safe_open(file, framework="pt") as opened:
            shapes = {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise _torn(file, error) from error
    return {
        key: LazyTensor(shape, f"{file}: {key}", partial(read, key), (file,))
        for key, shape in shapes.items()
    }


class _TorchFile:
    """A file written by `torch.save`, mapped, and mapped anew after every REMAP_AFTER bytes."""

    def __init__(self, file: Path, inner: str | None) -> None:
        self._file = file
        self._inner = inner
        self._mapped = True
        self._read = 0
        self.state = self._open()

    def tensors(self) -> Tensors:
        found = {}
        for key, value in self.state.items():
            if not isinstance(value, Tensor):
                nested = f"; its state dict may be nested under {key!r}" if value else ""
                raise CheckpointError(f"{self._file}: {key!r} is no tensor{nested}")
            source = f"{self._file}: {key}"
            read = partial(self._tensor, key)
            found[key] = LazyTensor(tuple(value.shape), source, read, (self._file,))
        return found

    def _tensor(self, key: str) -> Tensor:
        if self._mapped and self._read > REMAP_AFTER:
            self.state = self._open()
            self._read = 0
        tensor: Tensor = self.state[key]
        self._read += tensor.nbytes
        return tensor

    def _open(self) -> dict[str, Any]:
        content = self._load()
        if self._inner is not None:
            content = content.get(self._inner) if isinstance(content, dict) else None
        if not isinstance(content, dict):
            place = f" under {self._inner!r}" if self._inner else ""
            raise CheckpointError(f"{self._file} holds no state dict{place}; is it the right file?")
        return content

    def _load(self) -> Any:
        try:
            with torch.serialization.safe_globals(_SETTINGS):
                return torch.load(
                    self._file, map_location="cpu", weights_only=True, mmap=self._mapped
                )
        except pickle.UnpicklingError as error:
            raise CheckpointError(
                f"{self._file} holds something else than tensors and is not opened for safety, "
                f"or is torn ({first_line(error)})"
            ) from error
        except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
            if self._mapped and "_use_new_zipfile_serialization" in str(error):
                self._mapped = False
                return self._load()
            raise _torn(self._file, error) from error


def _torn(file: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{file} is half downloaded or no weight file ({first_line(error)}); fetch it again"
    )
