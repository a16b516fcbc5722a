"""Where a checkpoint is: a local folder or file, or a pinned revision of a hub repository.

A model is published in parts (language model, vision tower, connector), each in a place of its
own. `Part` names one of them as `conf/baseline/NAME.yaml` does; `locate` turns it into a path.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ovmer.baselines.errors import CheckpointError


@dataclass
class Part:
    """One published piece of a checkpoint. A `path` takes the place of the hub repository."""

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


@dataclass
class Loading:
    """The parts of one checkpoint while a model is filled from them."""

    parts: Mapping[str, Part]
    paths: Mapping[str, Path]
    notes: list[str] = field(default_factory=list)
    """What was unusual about the files and what was left aside, one sentence each."""

    def part_of(self, files: Sequence[Path]) -> str | None:
        """The part that the last of `files` belongs to."""
        for file in reversed(files):
            for name, path in self.paths.items():
                if file == path or path in file.parents:
                    return name
        return None

    def ignores(self, key: str, files: Sequence[Path]) -> bool:
        """Whether the user leaves the tensor called `key` aside."""
        part = self.part_of(files)
        return part is not None and any(fnmatchcase(key, p) for p in self.parts[part].ignore)


def locate(parts: Mapping[str, Part], name: str) -> Path:
    """The folder or file that holds the part called `name`; downloads it where it must.

    Raises CheckpointError where it is nowhere to be had.
    """
    if name not in parts:
        raise CheckpointError(
            f"the baseline names no checkpoint part {name!r}; set {_setting(name)} to its folder"
        )
    part = parts[name]
    if part.path is not None:
        path = Path(part.path).expanduser()
        if not path.exists():
            raise CheckpointError(f"{_setting(name)}={part.path} does not exist; correct the path")
        return path
    if part.repo is None:
        raise CheckpointError(
            f"checkpoint part {name!r} names neither a repository nor a path; set {_setting(name)}"
        )
    remedy = f"set {_setting(name)} to a folder that holds it"
    return download(part.repo, part.revision, part.files, f"checkpoint part {name!r}", remedy)


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


def download(repo: str, revision: str, files: Sequence[str], what: str, remedy: str) -> Path:
    """The folder of a hub repository's files (all of them without patterns), fetched if need be.

    Raises CheckpointError about `what`, ending in the `remedy`.
    """
    from huggingface_hub import snapshot_download

    # That package's HTTP library, whose errors it lets through, differs between its releases.
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]
    from huggingface_hub.utils import logging

    if "HF_HUB_VERBOSITY" not in os.environ:
        logging.set_verbosity_error()  # each retry is a warning; what comes of them is our sentence
    try:
        found = snapshot_download(repo, revision=revision, allow_patterns=list(files) or None)
    except (HTTPError, OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        raise CheckpointError(
            f"{what}, {repo} at revision {revision}, is not in the local cache and cannot be "
            f"downloaded ({reason}); {remedy}"
        ) from error
    return Path(found)
