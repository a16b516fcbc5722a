"""Requests: a clip as the adapter gets it, with its fingerprint and its seed."""

import hashlib
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ovmer.adapters.base import AUDIO, VIDEO
from ovmer.runners.content import file_hash

_STAT = re.compile(r"\d+-\d+")
"""Size and time of change of a file in a fingerprint."""


@dataclass(frozen=True, slots=True)
class ClipRequest:
    """An adapter's input for one clip; None for what it does not use or the clip lacks."""

    name: str
    video: Path | None
    audio: Path | None
    subtitle: str | None
    truth: tuple[str, ...]
    fingerprint: Mapping[str, str]
    clues: tuple[str | None, ...] = ()
    question: str | None = None
    """The task's question; None: the adapter's own."""
    blank: frozenset[str] = frozenset()
    """Media that are read as blank, see inputs.py."""
    notes: tuple[str, ...] = ()
    """For the clip's record."""
    answers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What a task may be answered with (`Prepared.answers`)."""


def clip_seed(seed: int, name: str) -> int:
    """Start of a clip's random stream: 63 bits of a hash of (seed, name), the same everywhere."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def with_content(request: ClipRequest) -> Mapping[str, str]:
    """The request's fingerprint, in which size and date of each file have its content behind them:
    by it a later run knows a file that was copied or touched. An unreadable file stays without."""
    found = request.fingerprint
    for kind, path in ((VIDEO, request.video), (AUDIO, request.audio)):
        if path is not None and _STAT.fullmatch(found.get(kind, "")):
            with suppress(OSError):
                stat = os.stat(path)
                content = file_hash(path, stat.st_size, stat.st_mtime_ns)
                found = {**found, kind: f"{found[kind]}-{content}"}
    return found
