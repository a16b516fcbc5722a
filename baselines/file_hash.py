"""Hashes of weight files: every byte counts, and each file is read once.

Weights that differ in one tensor, or in one number, are other weights. A hash is kept in the user's
cache under the file's path, size and times of change; of these no user can set back the time of the
inode's change (st_ctime), so that an edited file is read again. The hub's cache calls large files
by their SHA-256, which makes reading unnecessary.
"""

import hashlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from ovmer.baselines.cache import HASHES, cache_folder

_SMALL = 16 << 20
"""Bytes of a file that is read anew, which takes no longer than a look into the cache."""
_LARGE = 1 << 30
"""Bytes of a file whose reading is announced."""
_BY_HASH = re.compile(r"[0-9a-f]{64}")


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file. Raises OSError where it cannot be read."""
    file = file.resolve()
    if file.parent.name == "blobs" and _BY_HASH.fullmatch(file.name):
        return file.name
    stat = file.stat()
    if stat.st_size < _SMALL:
        return _read(file)
    version = f"{file}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}"
    kept = cache_folder(HASHES) / hashlib.sha256(version.encode("utf-8", "replace")).hexdigest()
    try:
        if _BY_HASH.fullmatch(found := kept.read_text("ascii")):
            return found
    except (OSError, UnicodeDecodeError):
        pass
    if stat.st_size >= _LARGE:
        print(f"reading {file} once, {stat.st_size / 1e9:.1f} GB, for its hash", file=sys.stderr)
    found = _read(file)
    _keep(kept, found)
    return found


def downloaded_from(folder: Path, files: Sequence[Path]) -> str | None:
    """The commit from which `hf download --local-dir` brought these files of a folder.

    None where it left no note about one of them, or a file is no longer as it came.
    """
    commits = set()
    for file in files:
        name = file.relative_to(folder).as_posix()
        note = folder / ".cache" / "huggingface" / "download" / f"{name}.metadata"
        try:
            commit, etag = note.read_text("utf-8").splitlines()[:2]
        except (OSError, ValueError):
            return None
        if etag != (sha256_of(file) if _BY_HASH.fullmatch(etag) else _as_git_hashes(file)):
            return None
        commits.add(commit)
    return commits.pop() if len(commits) == 1 else None


def _as_git_hashes(file: Path) -> str:
    """The name that git gives a file's content, by which the hub knows small files."""
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _read(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _keep(place: Path, found: str) -> None:
    """Written beside and renamed; without a cache folder the file is read again next time."""
    fresh = place.with_name(f"{place.name}.new")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(found, "ascii")
        fresh.replace(place)
    except OSError:
        pass
