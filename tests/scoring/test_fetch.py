"""Fetching from a server of our own: whole, cut and resumed, wrong, absent."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.commands.fetch import fetch_wheels
from ovmer.runners.scoring.tables import TABLES, read_tables

SOURCES = {f"/{table.source}": table.path for table in TABLES}


class _Server(ThreadingHTTPServer):
    """Serves the tables; `cut` bytes at most an answer, `spoilt` replaces the words."""

    def __init__(self, root: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = Path(root)
        self.cut: int | None = None
        self.spoilt: bytes | None = None
        self.knows_ranges = True
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        span = self.headers.get("Range") if self.server.knows_ranges else None
        self.server.asked.append((self.path, span))
        if self.path not in SOURCES:
            self.send_error(404)
            return
        content = self.server.spoilt or (self.server.root / SOURCES[self.path]).read_bytes()
        start = int(span.removeprefix("bytes=").removesuffix("-")) if span else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if span else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        rest = content[start:]
        self.wfile.write(rest if self.server.cut is None else rest[: self.server.cut])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(official: str) -> Iterator[_Server]:
    with _Server(official) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_whole(server: _Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetch_wheels(tmp_path, server.url)
    assert len(read_tables(tmp_path, "mer2025")) == len(read_tables(tmp_path, "mer2026")) == 7
    assert "mer2025: 7386 word forms\nmer2026: 7356 word forms\n" in capsys.readouterr().out
    assert not list(tmp_path.rglob("*.part"))
    asked = len(server.asked)
    assert asked == len(TABLES) == 8
    (tmp_path / "wheel2.xlsx").write_bytes(b"damaged")
    fetch_wheels(tmp_path, server.url)
    assert len(server.asked) == asked + 1  # what is there is left alone


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_cut_and_resumed(server: _Server, tmp_path: Path, knows_ranges: bool) -> None:
    server.knows_ranges = knows_ranges
    server.cut = 1000
    with pytest.raises(PrerequisiteError, match="goes on where this stopped"):
        fetch_wheels(tmp_path, server.url)
    assert (tmp_path / "format.csv.part").stat().st_size == 1000
    server.cut = None
    fetch_wheels(tmp_path, server.url)
    spans = [
        span for path, span in server.asked if path.endswith("Track23/emotion_wheel/format.csv")
    ]
    assert spans == [None, "bytes=1000-" if knows_ranges else None]


def test_a_part_that_is_longer_than_the_file(server: _Server, tmp_path: Path) -> None:
    (tmp_path / "format.csv.part").write_bytes(b"x" * 200_000)
    fetch_wheels(tmp_path, server.url)
    assert len(read_tables(tmp_path, "mer2025")) == 7


def test_another_file_in_its_place(server: _Server, tmp_path: Path) -> None:
    server.spoilt = b"<html>sign in</html>"
    with pytest.raises(PrerequisiteError, match="is not the published file"):
        fetch_wheels(tmp_path, server.url)
    assert not list(tmp_path.iterdir())


def test_no_such_file_and_no_server(server: _Server, tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match="answers 404"):
        fetch_wheels(tmp_path, f"{server.url}/elsewhere")
    for url in ("http://127.0.0.1:1", "nonsense"):
        with pytest.raises(PrerequisiteError, match=r"cannot be fetched .* machine with internet"):
            fetch_wheels(tmp_path, url)
