"""Location of checkpoints: a local folder or file, or a pinned revision of a hub repository.

A model is published in parts (language model, vision tower, connector), each in a repository or
folder of its own. `CheckpointPart` names one of them as `conf/baseline/NAME.yaml` does; `locate`
turns it into a path.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.file_hash import downloaded_from, sha256_of
from ovmer.baselines.hub import download


@dataclass
class CheckpointPart:
    """One published piece of a checkpoint. A `path` replaces the hub repository."""

    repo: str | None = None
    """Hub repository, `owner/name`."""
    revision: str = "main"
    """Commit hash, tag or branch of the repository."""
    files: list[str] = field(default_factory=list)
    """Patterns of the files that are downloaded; all of them when empty."""
    path: str | None = None
    """Local folder, or a single weight file."""
    ignore: list[str] = field(default_factory=list)
    """Patterns (`*` is anything) of tensors that the model has no use for, by their names in the
    files: the user's word that they are harmless. A tensor that the model needs stays needed."""
    folder: str | None = None
    """Name below the setting `weights`; the repository's by default."""
    gb: float | None = None
    """About the size of the files in 10^9 bytes, where it is known."""
    terms: str = ""
    """Licence, as the repository's page names it or the authors do, who have the last word."""
    package: str | None = None
    """Python package that ships the one file of `files`; it is looked for there, not on the hub."""
    get: str = ""
    """How to get files that cannot simply be downloaded from the hub; part of a sentence."""


TUNINGS = frozenset({"tuned", "adapter"})
"""Parts beside those of a baseline's yaml: what `ovmer train recipe=lora` writes (adapters, and
connectors), and an adapter in peft's layout."""


@dataclass
class Loading:
    """The parts of one checkpoint while a model is filled from them."""

    parts: Mapping[str, CheckpointPart]
    paths: Mapping[str, Path]
    notes: list[str] = field(default_factory=list)
    """Anything unusual about the files, and the tensors ignored; one sentence each."""

    @property
    def adapters(self) -> list[Path]:
        """Folders of low-rank adapters that are merged into the language model."""
        return [path for name, path in self.paths.items() if name in TUNINGS]

    def note_adapter(self, folder: Path) -> None:
        """Note that the adapter of `folder` is applied, and where it names another base model.

        A base model of another name may be the same one, moved or renamed; so it is no error.
        """
        note = f"the adapter {folder.name} is applied"
        file = folder / "adapter_config.json"
        base = read_json(folder, file.name).get("base_model_name_or_path") if file.is_file() else ""
        models = [
            Path(part.repo or part.path or "").name
            for name, part in self.parts.items()
            if name not in TUNINGS and (part.repo or part.path)
        ]
        if base and models and not any(name.lower() in str(base).lower() for name in models):
            note += f"; it names {base} as its base model, and this one is {', '.join(models)}"
        self.notes.append(note)

    def single_adapter(self) -> Path | None:
        """The folder of the adapter of a chat model, which is noted; None where it has none.

        Raises CheckpointError where there are several.
        """
        folders = self.adapters
        if len(folders) > 1:
            raise CheckpointError(
                "a chat model takes one adapter, but several are named: "
                f"{', '.join(map(str, folders))}; merge all but one into the model"
            )
        for folder in folders:
            self.note_adapter(folder)
        return folders[0] if folders else None

    def part_of(self, files: Sequence[Path]) -> str | None:
        """The part that the last of `files` belongs to."""
        for file in reversed(files):
            for name, path in self.paths.items():
                if file == path or path in file.parents:
                    return name
        return None

    def label(self, file: Path) -> str:
        """A file by its part and name, as two parts may have files of one name."""
        part = self.part_of([file])
        return file.name if part is None else f"{part} {file.name}"

    def ignores(self, key: str, files: Sequence[Path]) -> bool:
        """Whether the user ignores the tensor called `key`."""
        part = self.part_of(files)
        return part is not None and any(fnmatchcase(key, p) for p in self.parts[part].ignore)


BESIDE_CONTENT = ("path", "folder", "gb", "terms", "get")
"""Fields of a part that say nothing of what is in its files."""


def locate(
    parts: Mapping[str, CheckpointPart],
    names: Iterable[str] | None = None,
    weights: str | None = None,
    baseline: str = "BASELINE",
) -> dict[str, Path]:
    """The folder or file of each part (of `names`, where given); downloads what it must.

    `weights` is a folder with repositories as OWNER/NAME; with it nothing is downloaded. `baseline`
    is the name that `ovmer fetch` knows the parts by, for the error.
    Raises CheckpointError that names all missing parts.
    """
    wanted = list(parts if names is None else names)
    found, absent = dict[str, Path](), dict[str, CheckpointPart]()
    for name in wanted:
        if name not in parts:
            raise CheckpointError(
                f"the baseline names no checkpoint part {name!r}; set {_setting(name)} to its "
                "folder"
            )
        path = local(parts[name], _setting(name), weights)
        if path is None:
            absent[name] = parts[name]
        else:
            found[name] = path
    if absent and (weights is not None or any(part.repo is None for part in absent.values())):
        raise CheckpointError(f"{_named(absent, weights)}; {_remedies(absent, weights, baseline)}")
    for name, part in absent.items():
        lost = {other: part for other, part in absent.items() if other not in found}
        others = {other: part for other, part in lost.items() if other != name}
        what = f"checkpoint part {name!r}" + (f" ({part.gb:g} GB)" if part.gb else "")
        also = f"also {_named(others, weights)}; " if others else ""
        remedy = also + _remedies(lost, weights, baseline)
        found[name] = download(part.repo or "", part.revision, part.files, what, remedy)
    return {name: found[name] for name in wanted}


def local(part: CheckpointPart, setting: str, weights: str | None) -> Path | None:
    """Path of a part on this machine; None if it is not here.

    `setting` is its key in messages. Raises CheckpointError for a `path` or a `weights` that does
    not exist.
    """
    if part.path is not None:
        path = Path(part.path).expanduser()
        if not path.exists():
            raise CheckpointError(f"{setting}={part.path} does not exist; correct the path")
        return path
    if part.package is not None:
        return packaged(part.package, part.files[0])
    if weights is not None:
        root = Path(weights).expanduser()
        if not root.is_dir():
            raise CheckpointError(f"weights={weights} is no folder; correct the path")
        name = part.folder or part.repo
        return root / name if name and (root / name).exists() else None
    return None if part.repo is None else cached(part.repo, part.revision, part.files)


def packaged(package: str, name: str) -> Path | None:
    """The file called `name` that an installed Python package ships; nothing is imported."""
    spec = find_spec(package) if package.isidentifier() else None
    folders = (spec.submodule_search_locations if spec else None) or ()
    return next((file for each in folders if (file := Path(each) / name).is_file()), None)


def cached(repo: str, revision: str, files: Sequence[str]) -> Path | None:
    """The hub's cache of a repository; None where one of the files is missing.

    Its client knows all of them if it keeps a list, which early releases did not.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    from ovmer.baselines.weight_index import weight_files, weight_folders

    try:
        allowed = list(files) or None
        path = Path(
            snapshot_download(
                repo, revision=revision, allow_patterns=allowed, local_files_only=True
            )
        )
        for folder in weight_folders(path, files):
            weight_files(folder)
    except (LocalEntryNotFoundError, HFValidationError, OSError, CheckpointError):
        return None
    return path if all((path / name).exists() for name in files if "*" not in name) else None


def _named(parts: Mapping[str, CheckpointPart], weights: str | None) -> str:
    """The parts that are not there, and their size."""
    named = "; ".join(f"{name}: {_described(part)}" for name, part in parts.items())
    known = sum(part.gb or 0 for part in parts.values())
    size = f", {known:.1f} GB where sizes are known" if known and len(parts) > 1 else ""
    where = f" below weights={weights}" if weights else ""
    return f"missing{where}{size}: {named}"


def _remedies(parts: Mapping[str, CheckpointPart], weights: str | None, baseline: str) -> str:
    """Every way to parts that are not there, and the one without them."""
    remedies = [f"set {_setting(name)}" for name in list(parts)[:1]]
    if weights is None:
        remedies.append("set weights=FOLDER, which holds OWNER/NAME folders")
    if any(part.repo for part in parts.values()):
        remedies.append(
            f"run `ovmer fetch {baseline}` where there is network (HF_HOME is where the cache is, "
            "HF_ENDPOINT a mirror, HF_TOKEN for gated repositories, HF_HUB_OFFLINE=1 forbids it)"
        )
    remedies.append("try it without weights by dry_run=true")
    return ", or ".join(remedies)


def _described(part: CheckpointPart) -> str:
    words = [f"{part.repo} at revision {part.revision}" if part.repo else "in no hub repository"]
    if part.package:
        words = [f"in the Python package {part.package}"]
    if part.folder:
        words.append(f"as {part.folder}")
    if part.gb:
        words.append(f"{part.gb:g} GB")
    return ", ".join(words) + (f" ({part.get})" if part.get else "")


def fingerprint(path: Path, patterns: Sequence[str] = ()) -> str:
    """A hash of a file, or of a folder's files.

    Of a folder those files count that match one of the patterns, by path or by name; all of them
    where none does. The name of a single file is no part of its hash.
    """
    files = [path] if path.is_file() else _matching(path, patterns)
    stats = [file.stat() for file in files]
    return _hash_of(
        tuple((f, stat.st_size, stat.st_ctime_ns) for f, stat in zip(files, stats, strict=True))
    )


@cache
def _hash_of(files: tuple[tuple[Path, int, int], ...]) -> str:
    """Hash of files, cached by their size and time of change."""
    digest = hashlib.blake2b(digest_size=10)
    for file, size, _ in files:
        name = file.name if len(files) > 1 else ""
        digest.update(f"{name}:{size}:{sha256_of(file)}".encode())
    return digest.hexdigest()


def _matching(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """Files at any depth, hidden ones left out, in the order of their names."""
    files = {
        file.relative_to(folder).as_posix(): file
        for file in folder.rglob("*")
        if file.is_file() and not any(p.startswith(".") for p in file.relative_to(folder).parts)
    }
    chosen = {
        file
        for pattern in patterns
        for name, file in files.items()
        if fnmatchcase(name, pattern) or fnmatchcase(file.name, pattern.rpartition("/")[2])
    }
    return sorted(chosen or files.values(), key=lambda file: (file.name, str(file)))


def describe_part(
    part: CheckpointPart, weights: str | None, *, look: bool = True
) -> dict[str, Any]:
    """Identity of a part, as plain values: its source and its content.

    `content` is present if the files are on this machine, and `commit` if the hub's cache or the
    notes of `hf download --local-dir` name it.
    A part with a `path` is identified by its content alone. With `look=False` neither the hub's
    cache nor the folder `weights` is read.
    """
    kept = {"ignore": part.ignore} if part.ignore else {}
    source = {"repo": part.repo, "revision": part.revision}
    identity = {key: value for key, value in source.items() if value}
    if part.path is None and not look:
        return identity | kept
    try:
        path = local(part, "", weights)
    except CheckpointError:
        path = None
    if path is None:
        return identity | kept
    content = {"content": fingerprint(path.resolve(), tuple(part.files))}
    if part.path is not None:
        return content | kept
    name = path.name if weights is None else None
    if weights is not None and path.is_dir():
        name = downloaded_from(path, _matching(path, part.files))
    commit = {"commit": name} if name else {}
    return identity | commit | content | kept


def file_of(part: Path, name: str) -> Path:
    """The file `part` itself, or the one called `name` in the folder `part`.

    Raises CheckpointError where there is none.
    """
    file = part / name if part.is_dir() else part
    if not file.is_file():
        raise CheckpointError(f"{part} has no {name}; is it the right folder?")
    return file


def read_json(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """A JSON file of a checkpoint folder. Raises CheckpointError where it is missing or broken."""
    file = folder / name
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} has no {name}; is it the right folder?") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{file} is no valid JSON ({error}); fetch it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds no JSON object; fetch it again")
    return content


def _setting(name: str) -> str:
    return f"baseline.checkpoint.{name}.path"
