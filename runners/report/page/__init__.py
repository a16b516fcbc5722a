"""The HTML file: a template, style, scripts and libraries around compressed parts of data.

A part is JSON, gzip and base64 in a script element that browsers do not run; the page unpacks it
with their DecompressionStream. The order in the file is the order of need: leaderboards, scripts,
then each board's index and shards, so that the first view does not wait for the rest.

All text of models, data sets and file names is in the parts, and the scripts put it in by text
nodes; a Content-Security-Policy lets nothing run but the scripts of this folder, and loads nothing
from the network.
"""

import gzip
import hashlib
import json
import mimetypes
import os
from base64 import b64encode
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.report.boards import Leaderboard
from ovmer.runners.report.clips import index, shard, shard_starts

_STYLES = ("vendor/bootstrap.min.css", "style.css")
_LIBRARIES = ("vendor/preact.min.umd.js", "vendor/preact-hooks.umd.js", "vendor/htm.umd.js")
_MODULES = (
    "data.js",
    "search.js",
    "address.js",
    "pieces.js",
    "plots.js",
    "labels.js",
    "inputs.js",
    "leaderboard.js",
    "clusters.js",
    "filters.js",
    "gallery.js",
    "compare.js",
    "progress.js",
    "app.js",
)
"""Joined to one script, in which each may use what those before it define."""

_GZIP_LEVEL = 5


def write_page(
    output: Path, boards: Sequence[Leaderboard], embed: bool = False, reload: float = 0
) -> int:
    """Write the page at one stroke; returns its size in bytes.

    With `reload` it shows a running sweep, and reloads itself after that many seconds. Raises
    PrerequisiteError where its folder is missing or it is one, and OSError where it cannot be
    written.
    """
    if not output.parent.is_dir():
        raise PrerequisiteError(f"output: there is no folder {output.parent}")
    if output.is_dir():
        raise PrerequisiteError(f"output: {output} is a folder; name a file in it")
    fresh = output.with_name(f".{output.name}.new")
    try:
        with fresh.open("wb") as file, ThreadPoolExecutor(os.cpu_count()) as pool:
            _Writer(file, pool, output.resolve().parent, embed).write(boards, reload)
        fresh.replace(output)
    finally:
        fresh.unlink(missing_ok=True)
    return output.stat().st_size


class _Writer:
    def __init__(self, file: BinaryIO, pool: ThreadPoolExecutor, folder: Path, embed: bool) -> None:
        self._file, self._pool, self._folder, self._embed = file, pool, folder, embed
        self._embedded: dict[Path, str] = {}
        self._relative: dict[Path, str] = {}
        """The way from the page to each folder of media."""

    def write(self, boards: Sequence[Leaderboard], reload: float) -> None:
        before, _, after = _template().partition("{{parts}}")
        before, _, between = before.partition("{{leaderboards}}")
        self._file.write(before.encode())
        head = {
            "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "reload": reload,
            "first": max(range(len(boards)), key=lambda number: boards[number].weight),
            "boards": [board.as_json() for board in boards],
        }
        self._file.write(_part("leaderboards", head))
        self._file.write(between.encode())
        for written in self._compressed(self._parts(boards)):
            self._file.write(written)
        for path, address in self._embedded.items():
            self._file.write(_element(address, b64encode(path.read_bytes()), _mime(path)))
        self._file.write(after.encode())

    def _parts(self, boards: Sequence[Leaderboard]) -> Iterator[tuple[str, Any]]:
        for number, board in enumerate(boards):
            starts = shard_starts(board)
            yield f"index-{number}", index(board, starts, self._address)
            for k, (start, stop) in enumerate(pairwise([*starts, None])):
                assert start is not None
                yield f"shard-{number}-{k}", shard(board, start, stop)

    def _compressed(self, parts: Iterator[tuple[str, Any]]) -> Iterator[bytes]:
        """Compress in order, a few ahead in threads, as it takes most of the time."""
        waiting: deque[Future[bytes]] = deque()
        for name, content in parts:
            waiting.append(self._pool.submit(_part, name, content))
            if len(waiting) > 4:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _address(self, path: Path) -> str:
        """A link relative to the page, or `media:N` for a file that goes into it.

        No link looks like that, since a colon in a name is quoted.
        """
        if self._embed and path.is_file():
            return self._embedded.setdefault(path, f"media:{len(self._embedded)}")
        if path.parent not in self._relative:
            self._relative[path.parent] = os.path.relpath(path.parent.absolute(), self._folder)
        return quote(Path(self._relative[path.parent], path.name).as_posix())


def _part(name: str, content: Any) -> bytes:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    packed = gzip.compress(text.encode("utf-8", "replace"), _GZIP_LEVEL, mtime=0)
    return _element(name, b64encode(packed), "application/gzip")


def _element(name: str, content: bytes, mime: str) -> bytes:
    return f'<script id="{name}" type="text/plain" data-type="{mime}">'.encode() + (
        content + b"</script>\n"
    )


def _mime(path: Path) -> str:
    return mimetypes.guess_type(path.name)[0] or "application/octet-stream"


def _template() -> str:
    """The template with style and scripts inserted, and a policy that admits no others."""
    styles = [_read(name) for name in _STYLES]
    modules = "\n".join(_read(name) for name in _MODULES)
    scripts = [*map(_read, _LIBRARIES), f'"use strict";\n(() => {{\n{modules}\n}})();\n']
    policy = [
        "default-src 'none'",
        f"script-src {' '.join(map(_digest, scripts))}",
        f"style-src {' '.join(map(_digest, styles))}",
        "img-src data:",
        "media-src 'self' file: blob:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    page = _read("template.html")
    page = page.replace("{{policy}}", "; ".join(policy))
    page = page.replace("{{styles}}", "\n".join(f"<style>{each}</style>" for each in styles))
    return page.replace("{{scripts}}", "\n".join(f"<script>{each}</script>" for each in scripts))


def _digest(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _read(name: str) -> str:
    return files(__name__).joinpath(name).read_text(encoding="utf-8")
