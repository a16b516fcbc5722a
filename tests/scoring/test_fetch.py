"""Fetching from a server of our own: whole, cut, wrong, absent."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.commands import main
from ovmer.runners.scoring.download import download_tables
from ovmer.runners.scoring.vocabulary import SHIPPED, load_vocabulary
from ovmer.runners.scoring.word_tables import TABLES, is_complete, read_tables, wheel_root
from tests import loopback

SOURCES = {f"/{table.source}": table.path for table in TABLES}


@dataclass
class _Tables:
    """Served tables; `cut` bytes at most of an answer, `spoilt` replaces the words."""

    root: Path
    url: str = ""
    cut: int | None = None
    spoilt: bytes | None = None
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def server(official: str) -> Iterator[_Tables]:
    tables = _Tables(Path(official))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tables.asked.append(self.path)
            if self.path not in SOURCES:
                self.send_error(404)
                return
            content = tables.spoilt or (tables.root / SOURCES[self.path]).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: tables.cut])

        def log_message(self, *args: object) -> None:
            pass

    with loopback.serving(Handler) as tables.url:
        yield tables


def test_whole(server: _Tables, tmp_path: Path) -> None:
    root = download_tables(tmp_path / "wheels", server.url)
    assert len(read_tables(root, "mer2025")) == len(read_tables(root, "mer2026")) == 7
    assert [path.name for path in tmp_path.iterdir()] == ["wheels"]
    assert len(server.asked) == len(TABLES) == 8
    (root / "wheel2.xlsx").write_bytes(b"damaged")
    download_tables(root, server.url)
    assert len(server.asked) == 9  # what is there is left alone
    assert is_complete(root)


def test_a_download_that_is_cut_leaves_nothing(server: _Tables, tmp_path: Path) -> None:
    server.cut = 1000
    with pytest.raises(PrerequisiteError, match="run the command again"):
        download_tables(tmp_path / "wheels", server.url)
    assert not list(tmp_path.iterdir())


def test_another_file_of_the_same_name(server: _Tables, tmp_path: Path) -> None:
    server.spoilt = b"<html>sign in</html>"
    with pytest.raises(PrerequisiteError, match="is not the published file"):
        download_tables(tmp_path / "wheels", server.url)
    assert not list(tmp_path.iterdir())


def test_no_such_file_and_no_server(server: _Tables, tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match="answers 404"):
        download_tables(tmp_path / "wheels", f"{server.url}/elsewhere")
    for url in ("http://127.0.0.1:1", "nonsense"):
        with pytest.raises(PrerequisiteError, match=r"cannot be fetched .* machine with internet"):
            download_tables(tmp_path / "wheels", url)
    assert not list(tmp_path.iterdir())


def test_a_cache_folder_that_is_incomplete_counts_as_absent() -> None:
    wheel_root().mkdir(parents=True)
    try:
        assert load_vocabulary("auto").name == SHIPPED
    finally:
        wheel_root().rmdir()


def test_the_cache_is_shown_and_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = tmp_path / "ovmer" / "llm" / "vicuna" / "model.safetensors"
    model.parent.mkdir(parents=True)
    model.write_bytes(bytes(2_000_000))
    for arguments, size in ((["cache"], "0.002 GB"), (["cache", "clear=llm"], "0.000 GB")):
        monkeypatch.setattr(sys, "argv", ["ovmer", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        assert capsys.readouterr().out.splitlines()[2].split()[1:3] == size.split()
    assert not model.parent.parent.exists()
