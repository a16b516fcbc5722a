"""Hashes of weight files: every byte counts, and each file is read once.

Weights that differ in one tensor, or in one number, are other weights. A hash is kept in the user's
cache under the file's path, size and times of change; of these no user can set back the time of the
inode's change (st_ctime), so that an edited file is read again. The hub's cache calls large files
by their SHA-256, which makes reading unnecessary.
"""

import hashlib
import re
import sys
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
