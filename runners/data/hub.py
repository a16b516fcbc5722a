"""Data sets of the Hugging Face hub as tables of clips: `clips=hf:OWNER/NAME[/CONFIG][:SPLIT]`.

The package `datasets` fetches a split, or takes it from its cache where there is no network. Its
rows become a table of JSON lines in our cache, media that it holds as bytes a file each.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ovmer.baselines.cache import MEDIA_FILES, cache_folder
from ovmer.baselines.errors import PrerequisiteError, first_line
from ovmer.runners.data.table_clips import media_file
from ovmer.runners.disk import replacing

PREFIX = "hf:"
_NAME = re.compile(r"(?P<repo>[\w.-]+(/[\w.-]+)?)(/(?P<config>[\w.-]+))?(:(?P<split>[^/]+))?")
_SPLIT = "train"


@cache
def table_of(clips: str) -> Path:
    """The table for `hf:OWNER/NAME[/CONFIG][:SPLIT]`; a split may be a slice, `train[:100]`.

    Raises PrerequisiteError without the package, and for a data set that is not to be had.
    """
    named = _NAME.fullmatch(clips.removeprefix(PREFIX))
    if named is None:
        raise PrerequisiteError(f"clips={clips}: write {PREFIX}OWNER/NAME[/CONFIG][:SPLIT]")
    split = named["split"] or _SPLIT
    data = _load(clips, named["repo"], named["config"], split)
    files = sorted(each["filename"] for each in data.cache_files)
    key = hashlib.blake2b(json.dumps([clips, files]).encode(), digest_size=8).hexdigest()
    name = re.sub(r"\W+", "_", f"{named['repo'].rpartition('/')[2]}_{split}").strip("_")
    table = cache_folder(MEDIA_FILES) / "hub" / key / f"{name}.jsonl"
    if not table.exists():
        lines = [json.dumps(row, ensure_ascii=False, default=str) for row in _rows(data)]
        with replacing(table, is_shared=True) as file:
            file.write("\n".join(lines).encode())
    return table


def _load(clips: str, repo: str, config: str | None, split: str) -> Any:
    """The split with its media as files or bytes, not decoded."""
    try:
        import datasets
    except ImportError as error:
        raise PrerequisiteError(
            f"clips={clips} needs the package datasets; pip install 'ovmer[datasets]'"
        ) from error
    try:
        data = datasets.load_dataset(repo, config, split=split, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise PrerequisiteError(
            f"clips={clips} cannot be loaded ({first_line(error)}); correct the name, or say "
            f"{PREFIX}OWNER/NAME/CONFIG:SPLIT"
        ) from error
    for name, feature in data.features.items():
        if hasattr(feature, "decode"):
            data = data.cast_column(name, type(feature)(decode=False))
    return data


def _rows(data: Any) -> Iterator[dict[str, Any]]:
    """The rows with class numbers replaced by names, without pictures."""
    from datasets import ClassLabel, Image

    kept = {name: each for name, each in data.features.items() if not isinstance(each, Image)}
    for row in data:
        found = dict[str, Any]()
        for name, feature in kept.items():
            value = row[name]
            inner = getattr(feature, "feature", None)
            if isinstance(feature, ClassLabel) and value is not None:
                value = feature.int2str(value)
            elif isinstance(inner, ClassLabel) and value is not None:
                value = [inner.int2str(each) for each in value]
            found[name] = _path(value)
        yield found


def _path(value: Any) -> Any:
    """The path of a medium, or the value itself if it is none."""
    if isinstance(value, Mapping) and value.keys() == {"bytes", "path"}:
        return value["path"] if value["bytes"] is None else str(media_file(value))
    return str(media_file(value)) if isinstance(value, bytes) else value
