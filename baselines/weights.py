"""Published weight files -> the tensors of a module, strictly and without a second copy in memory.

A checkpoint is a dict of `LazyTensor`: names and shapes are known, data is read when asked for.
What a port has to say about a file is a table of renames, applied to that dict:

    KEYS = (
        (r"rotary_emb\\.inv_freq$", None),              # None: known, and not used
        (r"^model\\.mm_projector\\.", "projector."),
        (r"^(model|lm_head)\\.", r"llm.\\1."),
    )
    with weightless():
        model = VideoLlava(config)
    load_strict(model, rename(read_tensors(folder), KEYS), place)

Guarantee: every tensor of the files is used or listed as unused, every tensor of the module is
filled, and shapes agree; else CheckpointError names the first ones that do not. Host memory peaks
at the module's own size (on a GPU: nothing) plus some hundred megabytes, also where the data type
changes. Files in torch's format of before 2020 cannot be mapped and are held whole until used up.
"""

import json
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import RLock
from typing import Any

import torch
from accelerate import init_empty_weights
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights

from baselines.device import Place
from baselines.errors import CheckpointError

REMAP_AFTER = 256 * 2**20
"""Bytes read from a mapped file before it is mapped anew, which gives its pages back."""

INDEX_FILES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")

# What training scripts leave beside their weights: settings in a dictionary of a class of their own
# (VideoChat and VideoChat2, utils/easydict.py). They are read as plain dictionaries.
_SETTINGS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (OrderedDict, "utils.easydict.EasyDict")
]

Renames = Sequence[tuple[str, str | None]]


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


def check_heads(tensor: LazyTensor, width: int, heads: int) -> None:
    """Raises CheckpointError where a width that was read off `tensor` does not go into the heads,
    of whose number weights say nothing."""
    if width % heads:
        raise CheckpointError(
            f"{tensor.source} has shape {list(tensor.shape)}, and {width} does not go into {heads} "
            "heads; is it the right file?"
        )


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
            raise CheckpointError(f"{file} repeats {_some(twice)} of an earlier shard")
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


def rename(tensors: Tensors, table: Renames) -> Tensors:
    """Each key with all regular expressions of the table substituted, in the table's order.

    A key that matches an expression whose replacement is None is left out.
    """
    found: Tensors = {}
    for published, tensor in tensors.items():
        key = renamed(published, table)
        if key is None:
            continue
        if key in found:
            raise CheckpointError(f"{tensor.source} and {found[key].source} both stand for {key}")
        found[key] = tensor
    return found


def renamed(key: str, table: Renames) -> str | None:
    """One key after all substitutions of the table; None where the table drops it."""
    for pattern, replacement in table:
        if replacement is not None:
            key = re.sub(pattern, replacement, key)
        elif re.search(pattern, key):
            return None
    return key


def renames(pairs: Sequence[tuple[str, str]]) -> Renames:
    """The table that turns the first name of each pair, a module's, into the second.

    `*` is a layer's number. As no name is an expression, a table of pairs can be turned round.
    """
    return tuple(
        ("^" + re.escape(old).replace(r"\*", r"(\d+)") + r"\b", new.replace("*", r"\1"))
        for old, new in pairs
    )


def join(*parts: Tensors) -> Tensors:
    """The tensors of several parts together. (`a | b` is for a part that overrides an earlier one.)

    Raises CheckpointError where two parts stand for the same tensor.
    """
    joined: Tensors = {}
    for part in parts:
        for key in sorted(part.keys() & joined.keys()):
            raise CheckpointError(f"{joined[key].source} and {part[key].source} are both {key}")
        joined.update(part)
    return joined


def rows(tensor: LazyTensor, part: slice) -> LazyTensor:
    """Some of a tensor's rows, which are its first dimension; nothing is read yet."""
    if not tensor.shape:
        raise CheckpointError(f"{tensor.source} is a single number; is it the right file?")
    count = len(range(tensor.shape[0])[part])
    return replace(tensor, shape=(count, *tensor.shape[1:]), read=lambda: tensor.read()[part])


def split(tensors: Tensors, fused: str, parts: Sequence[str]) -> Tensors:
    """Each tensor named `....fused....` as several named for the parts, of equally many rows.

    Attention often keeps queries, keys and values in one; `miniature.fuse` is the way back.
    """
    found: Tensors = {}
    for name, tensor in tensors.items():
        if f".{fused}." not in name:
            found[name] = tensor
            continue
        height, rest = divmod(tensor.shape[0] if tensor.shape else 0, len(parts))
        if rest or not height:
            raise CheckpointError(
                f"{tensor.source} has shape {list(tensor.shape)}, which is not {', '.join(parts)} "
                "of equally many rows; is it the right file?"
            )
        for place, part in enumerate(parts):
            own = slice(place * height, (place + 1) * height)
            found[name.replace(f".{fused}.", f".{part}.")] = rows(tensor, own)
    return found


_PATCHING = RLock()


@contextmanager
def weightless() -> Iterator[None]:
    """Modules made inside have parameters without data (meta device) and real buffers.

    So tables that a module computes for itself, such as rotary frequencies, are right.
    """
    # Both patch torch's classes for the whole process: two threads that left in another order than
    # that in which they came would leave the patches behind.
    with _PATCHING, init_empty_weights(include_buffers=False), no_init_weights():
        yield


def load_strict(module: nn.Module, tensors: Tensors, place: Place) -> None:
    """Fill a module made `weightless`, tensor by tensor, straight in the target type and place.

    Floating-point tensors become `place.dtype`; buffers that the files lack keep theirs. `tensors`
    is emptied on the way, which closes each file as soon as it is used up. Afterwards the module is
    in evaluation mode and frozen. With `place.llm_folder` the weights of `module.llm` go there, and
    here stay weightless but for its input embeddings. Raises CheckpointError where files and module
    disagree.
    """
    _compare(module, tensors)
    if place.llm_folder is not None:
        place.llm_folder.keep(module.llm, _llm_of(module, tensors), place.dtype)
    for name in list(tensors):
        _place(module, name, tensors.pop(name).read(), place.device, place.dtype)
    for owner in module.modules():
        for name, buffer in owner.named_buffers(recurse=False):
            setattr(owner, name, buffer.to(place.device))
    module.eval().requires_grad_(False)


def _llm_of(module: nn.Module, tensors: Tensors) -> Tensors:
    """The tensors of `module.llm` by their names in it; all but the embeddings leave `tensors`."""
    llm: PreTrainedModel = module.llm
    words = llm.get_input_embeddings().weight
    stay = {
        name for name, value in module.named_parameters(remove_duplicate=False) if value is words
    }
    names = [name for name in tensors if name.startswith("llm.")]
    return {
        name.removeprefix("llm."): tensors[name] if name in stay else tensors.pop(name)
        for name in names
    }


def _compare(module: nn.Module, tensors: Tensors) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    model = type(module).__name__
    if not tensors:
        raise CheckpointError(f"the checkpoint holds no tensor for {model}")
    if unexpected := [tensors[name].source for name in tensors.keys() - expected.keys()]:
        raise CheckpointError(
            f"{model} has no place for {_some(unexpected)}; is this the checkpoint of that model?"
        )
    if missing := expected.keys() - tensors.keys():
        files = _files_of_kin(min(missing), tensors)
        raise CheckpointError(
            f"{model} needs {_some(missing)}, which should be in {_some(files)} but is not; "
            "is the checkpoint complete?"
        )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name]:
            raise CheckpointError(
                f"{tensor.source} has shape {list(tensor.shape)} but {model} as its configuration "
                f"has it needs {list(expected[name])}; do config and weights belong together?"
            )


def _files_of_kin(name: str, tensors: Tensors) -> set[str]:
    """The files that hold what is nearest to a missing tensor in the module's tree."""
    path = name.split(".")
    for depth in range(len(path) - 1, -1, -1):
        start = "".join(f"{part}." for part in path[:depth])
        if files := {each.file for key, each in tensors.items() if key.startswith(start)}:
            return files
    return set()


def _place(
    module: nn.Module, name: str, data: Tensor, device: torch.device, dtype: torch.dtype
) -> None:
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    kind = dtype if data.is_floating_point() else data.dtype
    placed = torch.empty(data.shape, dtype=kind, device=device).copy_(data)
    if leaf in owner._parameters:
        setattr(owner, leaf, nn.Parameter(placed, requires_grad=False))
    else:
        setattr(owner, leaf, placed)


def _some(names: Iterable[str], most: int = 3) -> str:
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
        raise CheckpointError(f"{index.parent} lacks the shard {_some(lost)}; fetch it again")
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
                f"or is torn ({_first_line(error)})"
            ) from error
        except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
            if self._mapped and "_use_new_zipfile_serialization" in str(error):
                self._mapped = False
                return self._load()
            raise _torn(self._file, error) from error


def _torn(file: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{file} is half downloaded or no weight file ({_first_line(error)}); fetch it again"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
