"""The user's cache folder: language models, word tables, compiled vocabularies."""

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
    PARTS: "subtitles by ear and crops of faces that were made of media files",
    MEDIA_FILES: "media files from the cells of a table of clips",
}
"""Folders below the cache folder; all but the word tables are made again when needed."""


def cache_folder(kind: str) -> Path:
    """The folder of one of KINDS; follows XDG_CACHE_HOME where the system has it."""
    return user_cache_path("ovmer", appauthor=False) / kind
