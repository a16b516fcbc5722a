"""Index of weight files: the tensors' names, shapes and types, without data or torch.

What people change in files without changing the model is undone here, and noted: a state dict
nested under another name, the prefix of a wrapper, settings beside the tensors, shards without an
index.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.inert_pickle import Inert, StoredTensor
from ovmer.baselines.torch_file import TorchFile, read_torch_file, torn

_STEMS = ("model.safetensors", "pytorch_model.bin")
_SHARD = re.compile(r"(?:model|pytorch_model)-(\d{5})-of-(\d{5})\.(?:safetensors|bin)")
_NAMES = (*_STEMS, "model-00001-of-00002.safetensors", "pytorch_model-00001-of-00002.bin")
INDEX_FILES = tuple(f"{stem}.index.json" for stem in _STEMS)

_NESTS = ("model", "state_dict", "model_state_dict", "module")
"""Names under which training scripts nest a state dict."""
_WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that DataParallel and torch.compile put before every name."""

_SAFE_TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64",
    "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a file; `key` is its name there."""

    key: str
    shape: tuple[int, ...]
    dtype: str
    stored: StoredTensor | None = None
    """Its offset in a torch file; None in a safetensors file, which is read by key."""


@dataclass
class WeightFile:
    """One file and its tensors, by their names without wrappers."""

    path: Path
    entries: dict[str, TensorEntry]
    notes: list[str] = field(default_factory=list)
    """Anything unusual about the file, or ignored in it; parts of sentences."""
    torch_file: TorchFile | None = None
    unused: list[str] = field(default_factory=list)
    """Names that a port's table of renames ignores."""


def index_files(path: Path, inner: str | None = None) -> list[WeightFile]:
    """The weight file at `path`, or those of the folder `path`, in the order of the shards.

    `inner` is the key under which a torch file usually nests its state dict; one that is flat, or
    nested under another common name, will do. Raises CheckpointError for files that are missing,
    half downloaded or something else.
    """
    files, note = weight_files(path)
    found = [index_file(file, inner) for file in files]
    if note:
        found[0].notes.append(note)
    return found


def index_file(file: Path, inner: str | None = None) -> WeightFile:
    """The tensors of one file. Raises CheckpointError."""
    check_head(file)
    if file.suffix == ".safetensors":
        index = _of_safetensors(file)
    else:
        index = _of_torch(read_torch_file(file), inner)
    for wrapper in _WRAPPERS:
        if index.entries and all(key.startswith(wrapper) for key in index.entries):
            index.entries = {key.removeprefix(wrapper): e for key, e in index.entries.items()}
            index.notes.append(f"all names begin with {wrapper!r}, which was taken off")
    return index


def weight_files(path: Path) -> tuple[list[Path], str]:
    """The weight files of a folder, and a note where there is no index of them.

    Raises CheckpointError where there are none, or shards are missing.
    """
    if path.is_file():
        return [path], ""
    problems = []
    for stem in _STEMS:
        try:
            if (index := path / f"{stem}.index.json").is_file():
                return _indexed(index), ""
            if (path / stem).is_file():
                return [path / stem], ""
            if shards := _unindexed(path, stem.rpartition(".")[2]):
                return shards, "it and the other shards have no index"
        except CheckpointError as error:  # the other format may be there in full
            problems.append(error)
    if problems:
        raise problems[0]
    raise CheckpointError(
        f"{path} has no weights: none of {', '.join((*INDEX_FILES, *_STEMS))} is there"
    )


def weight_folders(path: Path, patterns: Iterable[str]) -> set[Path]:
    """The folders, `path` or below it, in which hub patterns name weights in transformers' layout.

    A local copy may be that folder alone, so a folder that is not there counts as `path`.
    """
    parts = [pattern.rpartition("/") for pattern in patterns]
    named = [path / folder for folder, _, p in parts if any(fnmatchcase(n, p) for n in _NAMES)]
    return {folder if folder.is_dir() else path for folder in named}


def _indexed(index: Path) -> list[Path]:
    check_head(index)
    try:
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is no index of shards; fetch it again") from error
    files = [index.parent / shard for shard in shards]
    if lost := [file.name for file in files if not file.is_file()]:
        raise CheckpointError(f"{index.parent} lacks the shard {some(lost)}; fetch it again")
    return files


def _unindexed(folder: Path, suffix: str) -> list[Path]:
    """All shards by their names, which say how many there should be."""
    shards = sorted(file for file in folder.glob(f"*.{suffix}") if _SHARD.fullmatch(file.name))
    if not shards:
        return []
    numbered = [match for file in shards if (match := _SHARD.fullmatch(file.name))]
    count = int(numbered[0][2])
    if lost := set(range(1, count + 1)) - {int(match[1]) for match in numbered}:
        raise CheckpointError(
            f"{folder} lacks shard {min(lost)} of {count}, and an index; fetch the folder again"
        )
    if len(shards) != count:
        raise CheckpointError(
            f"{folder} holds shards of several models ({shards[0].name}, {shards[-1].name}) and no "
            "index of them; keep those of one"
        )
    return shards


def check_head(file: Path) -> None:
    """Recognise the usual placeholders for a weight file. Raises CheckpointError."""
    with file.open("rb") as stream:
        head = stream.read(64).lstrip().lower()
    if not head:
        raise CheckpointError(f"{file} is empty; fetch it again")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{file} is a git-lfs pointer, not the file itself; run git lfs pull")
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise CheckpointError(f"{file} is a web page, not a weight file; fetch it again")


def summary(names: Iterable[str]) -> str:
    """Names in groups, layers and what is below them together: `model.vision_tower.* (391)`."""
    parts = [
        f"{pattern} ({len(members)})" if len(members) > 1 else pattern
        for pattern, members in patterns(names).items()
    ]
    return some(parts, most=6)


def patterns(names: Iterable[str]) -> dict[str, list[str]]:
    """Names by patterns that stand for them: a name of its own, or `model.layers.*` for several."""
    groups: dict[str, list[str]] = {}
    for name in names:
        group = re.sub(r"\.\d+\..*", ".*", name).rpartition(".")[0] or name
        groups.setdefault(group, []).append(name)
    return {
        f"{group}.*" if len(members) > 1 else members[0]: members
        for group, members in groups.items()
    }


def some(names: Iterable[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    names = sorted(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _of_safetensors(file: Path) -> WeightFile:
    try:
        with safe_open(file, framework="numpy") as opened:
            parts = {key: opened.get_slice(key) for key in opened.keys()}  # noqa: SIM118
            entries = {
                key: TensorEntry(
                    key, tuple(part.get_shape()), _SAFE_TYPES.get(t := part.get_dtype(), t)
                )
                for key, part in parts.items()
            }
    except SafetensorError as error:
        raise torn(file, error) from error
    return WeightFile(file, entries)


def _of_torch(file: TorchFile, inner: str | None) -> WeightFile:
    state, notes = _state_dict(file, inner)
    entries, beside = dict[str, TensorEntry](), list[str]()
    for key, value in state.items():
        if isinstance(value, StoredTensor):
            entries[str(key)] = TensorEntry(str(key), value.shape, value.dtype, value)
        else:
            beside.append(str(key))
    if beside:
        notes.append(f"{some(beside)} beside the tensors, left aside")
    return WeightFile(file.path, entries, notes, file)


def _state_dict(file: TorchFile, inner: str | None) -> tuple[dict[Any, Any], list[str]]:
    """The dict that holds tensors, and a note if it has another name than expected."""
    state, under = file.content, list[str]()
    while isinstance(state, dict):
        if isinstance(state, Inert) and "_modules" in state:
            raise CheckpointError(
                f"{file.path} holds a pickled model ({state.origin}), not its weights; save its "
                "state_dict() with its authors' code"
            )
        nests = [name for name in _NESTS if _holds_tensors(state.get(name))]
        if inner is not None and not under and _holds_tensors(state.get(inner)):
            nests = [inner]
        elif any(isinstance(value, StoredTensor) for value in state.values()):
            break
        if len(nests) > 1:
            raise CheckpointError(
                f"{file.path} holds several state dicts ({', '.join(nests)}); save one of them"
            )
        if not nests or len(under) > 2:
            raise CheckpointError(f"{file.path} holds no state dict; is it the right file?")
        under += nests
        state = state[nests[0]]
    if not isinstance(state, dict):
        raise CheckpointError(f"{file.path} holds no state dict; is it the right file?")
    if under == ([inner] if inner else []):
        return state, []
    where = f"lies under {'.'.join(under)!r}" if under else "is not nested"
    return state, [f"its state dict {where}"]


def _holds_tensors(value: Any, depth: int = 2) -> bool:
    if not isinstance(value, dict):
        return False
    if any(isinstance(each, StoredTensor) for each in value.values()):
        return True
    return depth > 0 and any(_holds_tensors(value.get(name), depth - 1) for name in _NESTS)
