"""Bring the authors' word tables, which do not ship here, into the user's cache."""

import shutil
import tempfile
from pathlib import Path

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.scoring.word_tables import (
    EDITIONS,
    TABLES,
    is_complete,
    read_tables,
    wheel_root,
)

_SECONDS = 30  # without a byte, after which a server counts as gone


def download_tables(root: Path | None, url: str) -> Path:
    """Bring the tables of both editions from below `url` into `root`; returns that folder.

    All files appear together or none does, and a complete folder is left unchanged. Raises
    PrerequisiteError where a file cannot be had or is not the published one.
    """
    folder = (root or wheel_root()).expanduser()
    if is_complete(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for table in TABLES:
            path = partial / table.path
            path.parent.mkdir(parents=True, exist_ok=True)
            if table.is_in(folder):
                shutil.copyfile(folder / table.path, path)
            else:
                _download(f"{url}/{table.source}", path, table.sha256)
        for edition in EDITIONS:
            read_tables(partial, edition)
        if folder.exists():
            for table in TABLES:
                (folder / table.path).parent.mkdir(parents=True, exist_ok=True)
                (partial / table.path).replace(folder / table.path)
        else:
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _download(url: str, path: Path, sha256: str) -> None:
    import pooch
    from requests import RequestException

    load = pooch.HTTPDownloader(timeout=_SECONDS)
    try:
        pooch.retrieve(url, f"sha256:{sha256}", path.name, path.parent, downloader=load)
    except RequestException as error:
        code = getattr(error.response, "status_code", None)
        reason = f"the server answers {code}" if code else str(error)
        raise PrerequisiteError(
            f"{url} cannot be fetched ({reason}); run the command again, or copy the folder "
            f"{wheel_root()} from a machine with internet"
        ) from error
    except ValueError as error:  # pooch's word for another checksum, and for a url that is none
        raise PrerequisiteError(
            f"{url} is not the published file ({error}); try again, or another --url"
        ) from error
