"""The user's cache folder: language models, word tables, compiled vocabularies."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from platformdirs import user_cache_path

LANGUAGE_MODELS = "llm"
WORD_TABLES = "emotion_wheel"
VOCABULARIES = "vocabulary"
MEDIA_FILES = "media"
PARTS = "parts"
HASHES = "hashes"
KINDS = {
    LANGUAGE_MODELS: "language models as engines read them, 14 GB for each of 7B",
    WORD_TABLES: "the authors' word tables, from `ovmer fetch wheels`",
    VOCABULARIES: "word tables, compiled",
    HASHES: "hashes of weight files, so that each is read once",
    PARTS: "transcripts and face crops that were made from media files",
    MEDIA_FILES: "media files from the cells of a table of clips",
}
"""Folders below the cache folder; all but the word tables are made again when needed."""


def cache_folder(kind: str) -> Path:
    """The folder of one of KINDS; follows XDG_CACHE_HOME where the system has it."""
    return user_cache_path("ovmer", appauthor=False) / kind


def write_once(folder: Path, write: Callable[[Path], None]) -> None:
    """Have `write` fill a folder, unless it is there; it appears whole or not at all.

    It is written under another name, then renamed. Of several writers one writes and the others
    wait. Raises OSError where the disk is full or cannot be written, and what `write` raises.
    """
    if folder.exists():
        return
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        if folder.exists():
            return
        for torn in folder.parent.glob(f".{folder.name}-*"):  # of a writer that was killed
            shutil.rmtree(torn)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            write(partial)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
