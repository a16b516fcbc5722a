"""A hub on this machine, for tests: repositories are folders, and some of them have a fault."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests import loopback

COMMIT = "c0ffee" + "0" * 34
_REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"
_INFO = re.compile(rf"/api/models/{_REPO}(/revision/(?P<revision>[^/]+))?")
_TREE = re.compile(rf"/api/models/{_REPO}/tree/(?P<revision>[^/]+)")
_FILE = re.compile(rf"/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<name>.+)")


class Hub:
    """What the server holds, and what it was asked."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.gated: set[str] = set()
        """Repositories that want a token."""
        self.torn: set[str] = set()
        """Names of files whose transfer ends halfway."""
        self.sent = 0
        """Bytes of files."""
        self.tokens: list[str | None] = []
        self.url = ""

    def files(self, repo: str) -> dict[str, Path]:
        folder = self.root / repo
        found = [file for file in sorted(folder.rglob("*")) if file.is_file()]
        return {file.relative_to(folder).as_posix(): file for file in found}


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.tokens.append(self.headers.get("Authorization"))
        if match := _INFO.fullmatch(path):
            if self._allowed(match):
                siblings = [
                    {"rfilename": name, "size": file.stat().st_size}
                    for name, file in self.hub.files(match["repo"]).items()
                ]
                commit = _commit(match["revision"])
                self._json({"id": match["repo"], "sha": commit, "siblings": siblings})
        elif match := _TREE.fullmatch(path):
            if self._allowed(match):
                files = self.hub.files(match["repo"]).items()
                self._json([_entry(name, file) for name, file in files])
        elif match := _FILE.fullmatch(path):
            if self._allowed(match):
                self._file(match["repo"], match["name"], _commit(match["revision"]), body=body)
        else:
            self._refuse(404, "EntryNotFound")

    def _allowed(self, match: re.Match[str]) -> bool:
        repo, revision = match["repo"], match["revision"] or "main"
        if not (self.hub.root / repo).is_dir():
            self._refuse(401, "RepoNotFound")
        elif repo in self.hub.gated and not self.headers.get("Authorization"):
            self._refuse(401, "GatedRepo")
        elif repo in self.hub.gated and "granted" not in self.headers["Authorization"]:
            self._refuse(403, "GatedRepo")
        elif not re.fullmatch(r"main|[0-9a-f]{40}", revision):
            self._refuse(404, "RevisionNotFound")
        else:
            return True
        return False

    def _file(self, repo: str, name: str, commit: str, *, body: bool) -> None:
        file = self.hub.files(repo).get(name)
        if file is None:
            self._refuse(404, "EntryNotFound")
            return
        size, (start, end) = file.stat().st_size, (0, file.stat().st_size)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked:
            start, end = int(asked[1]), min(int(asked[2] or size - 1) + 1, size)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(end - start))
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{_etag(file)}"')
        self.send_header("Accept-Ranges", "bytes")
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.end_headers()
        if not body:
            return
        with file.open("rb") as content:
            content.seek(start)
            data = content.read(end - start)
        self.hub.sent += len(data)
        if name in self.hub.torn:
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
        else:
            self.wfile.write(data)

    def _json(self, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *given: object) -> None:
        pass


def _commit(revision: str | None) -> str:
    return COMMIT if revision in (None, "main") else revision


def _etag(file: Path) -> str:
    return hashlib.sha1(f"{file}{file.stat().st_size}".encode()).hexdigest()


def _entry(name: str, file: Path) -> dict[str, Any]:
    return {"type": "file", "path": name, "size": file.stat().st_size, "oid": _etag(file)}


@contextmanager
def serving(root: Path) -> Iterator[Hub]:
    """A hub with the repositories `root`/OWNER/NAME, at `Hub.url`."""
    hub = Hub(root)
    handler = type("Handler", (_Handler,), {"hub": hub})
    with loopback.serving(handler) as hub.url:
        yield hub
