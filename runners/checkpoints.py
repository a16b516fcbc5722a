"""Status of the baselines' checkpoints, before anything is loaded.

`survey` looks at files without torch, here or on the hub: which are there, whether they are whole,
and what tensors they hold. `compare` lets the model's own strict loader have its say, without
reading any data.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ovmer.adapters.mllm import Mllm
from ovmer.baselines.checkpoint import CheckpointPart, Loading, local
from ovmer.baselines.decoding.chat_models import ChatModelSource
from ovmer.baselines.errors import CheckpointError, PrerequisiteError, near
from ovmer.baselines.hub import download, listing, outline
from ovmer.baselines.inert_pickle import ITEM_BYTES
from ovmer.baselines.weight_index import TensorEntry, index_files, weight_files, weight_folders
from ovmer.runners.config import Settings, shipped_baselines
from ovmer.runners.job import Job

ALL = "all"
MISSING, WHOLE, FITS, REFUSED = "missing", "whole", "fits", "refused"
ON_HUB = "on the hub"
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "tok_embeddings.weight")
_FORMATS = ("pytorch_model*.bin", "model*.safetensors")
"""Patterns of weight files in transformers' layout."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_WEIGHTS = (".safetensors", ".bin", ".pth", ".pt", ".ckpt")


@dataclass
class PartStatus:
    """Status of one part."""

    baseline: str
    part: str
    source: str
    """Repository and revision, or what takes their place."""
    terms: str
    """Licence, as it is known from elsewhere."""
    gb: float | None
    """Of the files that are there, else as it is known from elsewhere; 10^9 bytes."""
    where: str = ""
    """Path on this machine, or a revision on the hub."""
    tensors: int = 0
    parameters: int = 0
    types: list[str] = field(default_factory=list)
    verdict: str = MISSING
    reason: str = ""
    notes: list[str] = field(default_factory=list)
    path: Path | None = None
    """What is read: the files, or outlines of them."""

    @property
    def is_fine(self) -> bool:
        return self.verdict in (WHOLE, FITS, ON_HUB)

    def as_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key != "path"}


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


def survey(
    name: str, adapter: Mllm, weights: str | None, outlines: Path | None = None
) -> Iterator[PartStatus]:
    """The status of each part; of weights only the headers are read.

    With a folder for `outlines` the hub is asked about what is not on this machine. Nothing is
    downloaded but configurations and vocabularies.
    """
    for part_name in adapter.needed_parts:
        part = adapter.checkpoint[part_name]
        found = PartStatus(name, part_name, _source(part), part.terms, part.gb)
        try:
            path = local(part, f"baseline.checkpoint.{part_name}.path", weights)
            if path is not None:
                found.path, found.where, found.verdict = path, str(path), WHOLE
                _look_into(found, path, part)
            elif outlines is not None and part.repo is not None:
                found.path = path = outlines / (part.folder or part.repo)
                what = f"checkpoint part {part_name!r}"
                commit = outline(part.repo, part.revision, part.files, what, path)
                found.where, found.verdict = f"{part.repo}@{commit}", ON_HUB
                _look_into(found, path, part)
            else:
                found.reason = part.get or f"ovmer fetch {name}"
        except CheckpointError as error:
            found.verdict, found.reason = REFUSED, str(error)
        yield found


def compare(statuses: Sequence[PartStatus], adapter: Mllm) -> None:
    """Fill in what the model's loader says of parts that are all there; imports torch."""
    import torch

    from ovmer.baselines.device import Placement

    if not all(each.is_fine for each in statuses):
        return
    paths = {each.part: each.path for each in statuses}
    parts = {
        name: replace(part, path=str(paths[name])) if name in paths else part
        for name, part in adapter.checkpoint.items()
    }
    adapter = replace(adapter, checkpoint=parts)
    loading = Loading(adapter.checkpoint, adapter.parts)
    try:
        adapter.read_tokenizer()
        adapter.build(Placement(torch.device("meta"), torch.float16, loading=loading))
    except PrerequisiteError as error:
        named = [each for each in statuses if str(each.path) in str(error)] or statuses[:1]
        for each in named:
            each.verdict, each.reason = REFUSED, str(error)
        return
    for each in statuses:
        each.verdict = FITS
    _assign_notes(loading.notes, statuses)


def _assign_notes(notes: Sequence[str], statuses: Sequence[PartStatus]) -> None:
    """Add each note to the part that it begins with, or else to the first."""
    for note in dict.fromkeys(notes):
        of = next((each for each in statuses if note.startswith(f"{each.part} ")), None)
        said = note.removeprefix(f"{of.part} ") if of else note
        if said not in (found := of or statuses[0]).notes:
            found.notes.append(said)


def download_parts(name: str, adapter: Mllm, is_dry: bool) -> bool:
    """Download a baseline's parts into the hub's cache; in a dry run only list the files.

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
            print(f"{label}: {_amount(files, part.repo)}")
        else:
            remedy = f"set baseline.checkpoint.{part_name}.path to a folder that holds it"
            what = f"checkpoint part {part_name!r}"
            path = download(part.repo, part.revision, part.files, what, remedy)
            print(f"{label}: {path}")
    return whole


def download_model(name: str, model: str, is_dry: bool) -> None:
    """The same for the language model of an extractor, named as its setting `model` does."""
    source = ChatModelSource.named(model)
    if is_dry:
        files = source.to_come()
        print(f"{name} model: {_amount(files, source.name)}")
    else:
        print(f"{name} model: {source.fetch()}")


def _amount(files: Mapping[str, int], repo: str) -> str:
    return f"{len(files)} files of {repo}, {sum(files.values()) / 1e9:.1f} GB to download"


def _source(part: CheckpointPart) -> str:
    if part.path is not None:
        return part.path
    if part.package is not None:
        return f"Python package {part.package}"
    revision = part.revision[:8] if _COMMIT.fullmatch(part.revision) else part.revision
    return f"{part.repo}@{revision}" if part.repo else f"no hub ({part.folder})"


def _look_into(found: PartStatus, path: Path, part: CheckpointPart) -> None:
    """Fill in files, tensors and notes of a part that is there. Raises CheckpointError."""
    files = _files(path, part)
    found.gb = round(sum(file.stat().st_size for file in files) / 1e9, 2)
    weights = [file for file in files if file.suffix in _WEIGHTS]
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
    _check_vocabulary(found, path, entries)


def _files(path: Path, part: CheckpointPart) -> list[Path]:
    if path.is_file():
        return [path]
    patterns, folders = list(part.files or ["*"]), weight_folders(path, part.files)
    if folders:
        patterns += _FORMATS  # a local folder may hold the other format
    there = {file.relative_to(path).as_posix(): file for file in sorted(path.rglob("*"))}
    there = {name: file for name, file in there.items() if file.is_file() and name[0] != "."}
    # Patterns as the hub reads them, whose * matches folders too. A folder laid out otherwise
    # (AffectGPT's, from a link) may still hold what the loader looks for.
    found = [f for name, f in there.items() if any(fnmatchcase(name, p) for p in patterns)]
    found = found or list(there.values())
    for folder in folders:
        weight_files(folder)  # raises where none are there, or not all
    lost = [name for name in part.files if "*" not in name and not (path / name).is_file()]
    if lost and not folders:
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


def _check_vocabulary(found: PartStatus, path: Path, entries: Sequence[TensorEntry]) -> None:
    """Compare the rows of the embedding with config.json and with the tokenizer."""
    rows = {entry.shape[0] for entry in entries if entry.key.endswith(_EMBEDDINGS) and entry.shape}
    if len(rows) != 1 or not (path / "config.json").is_file():
        return
    try:
        config: Mapping[str, Any] = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path / 'config.json'} is no JSON; fetch it again") from error
    text = config.get("text_config") or config
    stated, (count,) = text.get("vocab_size"), rows
    if isinstance(stated, int) and stated != count:
        found.notes.append(f"the embedding has {count} rows, vocab_size in config.json is {stated}")
    if (path / "tokenizer.model").is_file():
        from ovmer.baselines.tokenizer import LlamaTokenizer

        if (pieces := len(LlamaTokenizer(path / "tokenizer.model"))) > count:
            found.verdict = REFUSED
            found.reason = f"tokenizer.model has {pieces} tokens, the embedding {count} rows"
