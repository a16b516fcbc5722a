"""Status of the baselines' checkpoints, before anything is loaded.

`survey` reads files without torch: which are there, whether they are whole, and what tensors
they hold. `compare` lets the port's own strict loader have its say, without reading any data.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ovmer.adapters.base import Machine
from ovmer.adapters.mllm import Mllm
from ovmer.baselines.checkpoint import CheckpointPart, Loading, download, listing, local
from ovmer.baselines.errors import CheckpointError, PrerequisiteError, near
from ovmer.baselines.inert_pickle import ITEM_BYTES
from ovmer.baselines.weight_index import TensorEntry, index_files, weight_files
from ovmer.runners.config import Settings, shipped_baselines
from ovmer.runners.job import Job

ALL = "all"
MISSING, WHOLE, FITS, REFUSED = "missing", "whole", "fits", "refused"
_TABLES = ("embed_tokens.weight", "wte.weight", "tok_embeddings.weight")
_FORMATS = {"pytorch_model": "pytorch_model*.bin", ".safetensors": "model*.safetensors"}
"""Patterns of weight files in transformers' layout, by format."""
_WEIGHTS = (".safetensors", ".bin", ".pth", ".pt", ".ckpt")


@dataclass
class PartStatus:
    """Status of one part."""

    baseline: str
    part: str
    source: str
    """Repository and revision, or what replaces them."""
    gb: float | None
    """Of the files that are there, else as it is known from elsewhere; 10^9 bytes."""
    where: str = ""
    """Path on this machine."""
    tensors: int = 0
    parameters: int = 0
    types: list[str] = field(default_factory=list)
    verdict: str = MISSING
    reason: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def is_fine(self) -> bool:
        return self.verdict in (WHOLE, FITS)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def baselines(names: Sequence[str], more: Sequence[str] = ()) -> list[tuple[str, Mllm]]:
    """The adapters of the named baselines, `all` being those that have a checkpoint.

    Raises PrerequisiteError for an unknown name, near which may be one of `more`, and for one
    without a checkpoint.
    """
    shipped = shipped_baselines()
    found = []
    for name in shipped if ALL in names else names:
        if name not in shipped:
            known = [*shipped, *more]
            raise PrerequisiteError(f"no baseline is called {name!r}; {near(name, known)}")
        settings = shipped[name]
        if "checkpoint" not in settings:
            if ALL in names:
                continue
            raise PrerequisiteError(f"the baseline {name} has no checkpoint of its own")
        adapter = Job(Settings(baseline=settings, engine={"name": "transformers"})).adapter
        if isinstance(adapter, Mllm):
            found.append((name, adapter))
    return found


def survey(name: str, adapter: Mllm, weights: str | None) -> Iterator[PartStatus]:
    """One finding a part; nothing is downloaded, and of weights only the headers are read."""
    for part_name in adapter.needed_parts:
        part = adapter.checkpoint[part_name]
        found = PartStatus(name, part_name, _source(part), part.gb)
        try:
            path = local(part, f"baseline.checkpoint.{part_name}.path", weights)
            if path is None:
                found.reason = part.get or f"ovmer fetch {name}"
            else:
                found.where = str(path)
                _look_into(found, path, part)
        except CheckpointError as error:
            found.verdict, found.reason = REFUSED, str(error)
        yield found


def compare(findings: Sequence[PartStatus], adapter: Mllm, weights: str | None) -> None:
    """Add the port loader's verdict on parts that are complete; imports torch."""
    import torch

    from ovmer.baselines.device import Placement

    # A class of transformers loads by itself, so there is no port to compare with.
    if not adapter.model_class or not all(each.is_fine for each in findings):
        return
    adapter = adapter.on(Machine(weights=weights))  # type: ignore[assignment]
    loading = Loading(adapter.checkpoint, adapter.parts)
    try:
        adapter.read_tokenizer()
        adapter.build(Placement(torch.device("meta"), torch.float16, loading=loading))
    except PrerequisiteError as error:
        for each in findings:
            if each.where and each.where in str(error):
                each.verdict, each.reason = REFUSED, str(error)
        if all(each.is_fine for each in findings):
            findings[0].verdict, findings[0].reason = REFUSED, str(error)
        return
    for each in findings:
        each.verdict = FITS
    findings[0].notes += loading.notes


def bring(name: str, adapter: Mllm, is_dry: bool) -> bool:
    """Download a baseline's parts into the hub's cache, or say what would come.

    Prints a line for each part. Returns whether all parts are there, or on the hub. Raises
    CheckpointError where the hub cannot be reached or refuses.
    """
    whole = True
    for part_name in adapter.needed_parts:
        part = adapter.checkpoint[part_name]
        label = f"{name} {part_name}"
        if part.repo is None or part.path is not None:
            whole = whole and part.path is not None
            print(f"{label}: {part.path or f'not on the hub; {part.get}'}")
        elif is_dry:
            files = listing(part.repo, part.revision, part.files, f"checkpoint part {part_name!r}")
            size = sum(files.values()) / 1e9
            print(f"{label}: {len(files)} files of {part.repo}, {size:.1f} GB to come")
        else:
            remedy = f"set baseline.checkpoint.{part_name}.path to a folder that holds it"
            what = f"checkpoint part {part_name!r}"
            path = download(part.repo, part.revision, part.files, what, remedy)
            print(f"{label}: {path}")
    return whole


def _source(part: CheckpointPart) -> str:
    if part.path is not None:
        return part.path
    return f"{part.repo}@{part.revision[:8]}" if part.repo else f"no hub ({part.folder})"


def _look_into(found: PartStatus, path: Path, part: CheckpointPart) -> None:
    """Files, tensors and words of a part that is there. Raises CheckpointError."""
    files = _files(path, part)
    found.gb = round(sum(file.stat().st_size for file in files) / 1e9, 2)
    weights = [file for file in files if file.suffix in _WEIGHTS]
    found.verdict = WHOLE
    if not weights:
        return
    entries: list[TensorEntry] = []
    for each in _indexed(path, weights):
        index = index_files(each)
        entries += [entry for file in index for entry in file.entries.values()]
        found.notes += [f"{file.path.name}: {note}" for file in index for note in file.notes]
    found.tensors = len(entries)
    found.parameters = sum(math.prod(entry.shape) for entry in entries)
    found.types = sorted({entry.dtype for entry in entries})
    if unknown := [kind for kind in found.types if kind not in ITEM_BYTES]:
        found.notes.append(f"data of type {', '.join(unknown)}")
    _check_words(found, path, entries)


def _files(path: Path, part: CheckpointPart) -> list[Path]:
    if path.is_file():
        return [path]
    patterns = list(part.files or ["*"])
    if any(mark in pattern for pattern in patterns for mark in _FORMATS):
        patterns += _FORMATS.values()  # a local folder may hold the other format
    found = sorted(file for file in {f for p in patterns for f in path.glob(p)} if file.is_file())
    if len(patterns) > len(part.files or ["*"]):
        weight_files(path)  # raises where none are there, or not all
    elif lost := [name for name in part.files if "*" not in name and not (path / name).is_file()]:
        raise CheckpointError(f"{path} has no {', '.join(lost)}; fetch it again")
    return found


def _indexed(path: Path, weights: Sequence[Path]) -> list[Path]:
    """Folders in transformers' layout as wholes, other weight files one by one."""
    folders = {file.parent for file in weights if file.name.startswith(("model", "pytorch_model"))}
    single = [
        file
        for file in weights
        if file.parent not in folders or file.suffix in (".pth", ".pt", ".ckpt")
    ]
    folders -= {file.parent for file in single}
    return [*sorted(folders), *single]


def _check_words(found: PartStatus, path: Path, entries: Sequence[TensorEntry]) -> None:
    """Rows of the table of words against config.json, and both against the tokenizer."""
    rows = {entry.shape[0] for entry in entries if entry.key.endswith(_TABLES) and entry.shape}
    if len(rows) != 1 or not (path / "config.json").is_file():
        return
    try:
        config: Mapping[str, Any] = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path / 'config.json'} is no JSON; fetch it again") from error
    text = config.get("text_config") or config
    stated, (count,) = text.get("vocab_size"), rows
    if isinstance(stated, int) and stated != count:
        found.notes.append(f"{count} rows of words, {stated} by config.json")
    if (path / "tokenizer.model").is_file():
        from ovmer.baselines.tokenizer import LlamaTokenizer

        if (pieces := len(LlamaTokenizer(path / "tokenizer.model"))) > count:
            found.verdict = REFUSED
            found.reason = f"tokenizer.model has {pieces} words, the weights {count}"
