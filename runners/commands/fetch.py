"""Fetch what cannot ship with the package.

    ovmer fetch wheels

downloads the authors' word tables (300 kB, Apache-2.0) at a pinned commit, each checked against
its checksum. What is there already is left alone, what was cut goes on where it stopped.
"""

import argparse
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners import cli
from ovmer.runners.scoring.tables import COMMIT, EDITIONS, REPOSITORY, TABLES, Table, wheel_root
from ovmer.runners.scoring.vocabulary import load_vocabulary

_SECONDS = 30  # without a byte, after which a server counts as gone
_CHUNK = 1 << 16


@cli.command
def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="ovmer fetch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=sorted(_FETCHERS))
    parser.add_argument("--to", metavar="FOLDER", type=Path, help="default: the user's cache")
    parser.add_argument(
        "--url", default=f"{REPOSITORY}/{COMMIT}", help="a mirror of the repository"
    )
    given = parser.parse_args()
    _FETCHERS[given.what](given.to, given.url)
    return cli.FINE


def fetch_wheels(root: Path | None, url: str) -> None:
    """Bring the word tables of both editions into `root` and compile them.

    Raises PrerequisiteError with one sentence where that cannot be.
    """
    told = root is not None
    root = (root or wheel_root()).expanduser()
    for table in TABLES:
        path = root / table.path
        if _checksum(path) == table.sha256:
            print(f"{path}: is there")
        else:
            _download(f"{url}/{table.source}", path, table)
            print(f"{path}: fetched")
    for edition in EDITIONS:
        words = len(load_vocabulary(root, edition).rows)
        print(f"{edition}: {words} word forms")
    where = f"say metric.wheel_root={root}" if told else "metric.wheel_root=auto finds them"
    print(f"the tables are in {root}; {where}")


_FETCHERS: dict[str, Callable[[Path | None, str], None]] = {"wheels": fetch_wheels}


def _checksum(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def _download(url: str, path: Path, table: Table) -> None:
    """Fetch `url` to `path`, by way of PATH.part, and only if its checksum is right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        _append(url, part)
    except urllib.error.HTTPError as error:
        raise PrerequisiteError(f"{url} answers {error.code} {error.reason}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise PrerequisiteError(
            f"{url} cannot be fetched ({reason}); the same command goes on where this stopped, or "
            f"copy the folder from a machine with internet and say metric.wheel_root=FOLDER"
        ) from error
    found = _checksum(part)
    if found != table.sha256:
        part.unlink()
        raise PrerequisiteError(
            f"{url} is not the published file (sha256 {str(found)[:12]}..., expected "
            f"{table.sha256[:12]}...); try again, or another --url"
        )
    os.replace(part, path)


def _append(url: str, part: Path) -> None:
    """Write what is still missing of `url` at the end of `part`; from the start if need be."""
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        answer = urllib.request.urlopen(request, timeout=_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        error.close()
        part.unlink()  # it was whole, or longer than the file: fetch it again
        answer = urllib.request.urlopen(url, timeout=_SECONDS)
    with answer, part.open("ab" if answer.status == http.client.PARTIAL_CONTENT else "wb") as file:
        while chunk := answer.read(_CHUNK):
            file.write(chunk)
        if answer.length:  # the connection ended early, which read() does not mind
            raise http.client.IncompleteRead(b"", answer.length)
