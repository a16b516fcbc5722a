"""Keeps what was made of media files, by their content; nothing is made twice."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ovmer.baselines.cache import PARTS, cache_folder
from ovmer.runners.disk import replacing

_BLOCK = 1 << 20


class PartCache:
    """A folder of small JSON files for one detector: its result for each file, by the file's hash.

    A file that has the path, size and date of one that was looked up is not hashed again.
    """

    def __init__(self, maker: str, identity: Mapping[str, Any]) -> None:
        self.folder = cache_folder(PARTS) / f"{maker}-{_digest(json.dumps(identity))}"

    def find(self, path: Path) -> dict[str, Any] | None:
        """The cached entry for the file; None if it is new or cannot be read."""
        try:
            content = self.content(path)
            found: dict[str, Any] = json.loads((self.folder / f"{content}.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return found

    def keep(self, path: Path, values: Mapping[str, Any]) -> None:
        text = json.dumps(dict(values), ensure_ascii=False)
        with replacing(self.folder / f"{self.content(path)}.json", is_shared=True) as file:
            file.write(text.encode())

    def content(self, path: Path) -> str:
        """Hash of a file's bytes. Raises OSError where it cannot be read."""
        stat = os.stat(path)
        memo = cache_folder(PARTS) / "hashes" / _digest(f"{path}:{stat.st_size}:{stat.st_mtime_ns}")
        try:
            return memo.read_text("ascii")
        except OSError:
            digest = hashlib.blake2b(digest_size=16)
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
            with replacing(memo, is_shared=True) as out:
                out.write(digest.hexdigest().encode())
            return digest.hexdigest()


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=10).hexdigest()
