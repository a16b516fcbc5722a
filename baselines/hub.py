"""Files of hub repositories: whole ones into the hub's cache, and outlines of large ones.

Variables that matter: HF_HOME (where the cache is), HF_ENDPOINT (a mirror), HF_TOKEN (gated
repositories), HF_HUB_OFFLINE.
"""

import errno
import io
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any

from ovmer.baselines.errors import CheckpointError

_SMALL = 20 * 2**20
"""Bytes of a file that an outline holds whole: configurations, vocabularies."""
_CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_BLOCK = 2**16
"""Bytes that a request asks for at least."""


def download(repo: str, revision: str, files: Sequence[str], what: str, remedy: str) -> Path:
    """The folder of a hub repository's files (all of them without patterns), fetched if need be.

    Raises CheckpointError about `what`, ending in the `remedy`.
    """
    return Path(_from_hub(repo, revision, files, what, remedy))


def listing(repo: str, revision: str, files: Sequence[str], what: str) -> dict[str, int]:
    """The files of a hub repository that are not in the cache, and their bytes.

    Raises CheckpointError about `what` where the hub cannot be reached or refuses.
    """
    found = _from_hub(repo, revision, files, what, "try where there is network", dry_run=True)
    return {each.filename: each.file_size for each in found if each.will_download}


def outline(repo: str, revision: str, files: Sequence[str], what: str, folder: Path) -> str:
    """Write the files of a hub repository into `folder`, large weight files as their index alone.

    Those have their full size but are sparse: names, shapes and types can be read from them as from
    the files themselves, data cannot. It takes a few range requests a file.
    Returns the commit. Raises CheckpointError where the hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi, hf_hub_url

    with _sentences(repo, revision, what, "try where there is network"):
        info = HfApi().model_info(repo, revision=revision, files_metadata=True)
        wanted = [
            each
            for each in info.siblings or ()
            if not files or any(fnmatchcase(each.rfilename, pattern) for pattern in files)
        ]
        for each in wanted:
            size = int(each.size or 0)
            url = hf_hub_url(repo, each.rfilename, revision=info.sha)
            target = folder / each.rfilename
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy_index(io.BufferedReader(_Remote(url, size), _BLOCK), target, size)
    return str(info.sha)


class _Remote(io.RawIOBase):
    """A file of the hub, read by range requests."""

    def __init__(self, url: str, size: int) -> None:
        self._url, self._size, self._at = url, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer`, unless the file ends before. Raises the hub's errors."""
        from huggingface_hub.utils import (  # type: ignore[attr-defined]  # public by its docs
            build_hf_headers,
            hf_raise_for_status,
            http_backoff,
        )

        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        headers = build_hf_headers() | {"Range": f"bytes={self._at}-{end - 1}"}
        answer = http_backoff("GET", self._url, headers=headers, follow_redirects=True)
        hf_raise_for_status(answer)
        if len(answer.content) != end - self._at:
            raise OSError(f"{self._url} sent {len(answer.content)} bytes of {end - self._at}")
        buffer[: end - self._at] = answer.content
        self._at = end
        return len(answer.content)


def _copy_index(remote: IO[bytes], target: Path, size: int) -> None:
    """The bytes of a remote file that its index takes, at their places; all of a small file."""
    with target.open("wb") as local:
        if size <= _SMALL:
            local.write(remote.read())
            return
        if target.suffix == ".safetensors":
            head = remote.read(8)
            local.write(head + remote.read(int.from_bytes(head, "little")))
        elif remote.read(4) == b"PK\x03\x04":
            _copy_zip_index(remote, local, size)
        else:
            raise CheckpointError(
                f"{target.name} was written by a torch of before 2020, or is no weight file: its "
                "index cannot be read from afar"
            )
        local.truncate(size)


def _copy_zip_index(remote: IO[bytes], local: IO[bytes], size: int) -> None:
    """The directory of a torch file, and all members but its data."""
    with zipfile.ZipFile(remote) as archive:
        spans = [(archive.start_dir, size)]
        for info in archive.infolist():
            if "/data/" not in info.filename:
                start = info.header_offset
                spans.append((start, start + 30 + len(info.filename) + 128 + info.compress_size))
    for start, end in spans:
        remote.seek(start)
        local.seek(start)
        local.write(remote.read(min(end, size) - start))


@contextmanager
def _sentences(repo: str, revision: str, what: str, remedy: str) -> Iterator[None]:
    """Raises CheckpointError, ending in the `remedy`, for what the hub or its client refuses."""
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # That package's HTTP library, whose errors it lets through, differs between its releases.
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # isort: skip
    from huggingface_hub.utils import logging

    if "HF_HUB_VERBOSITY" not in os.environ:
        logging.set_verbosity_error()  # each retry is a warning; what comes of them is our sentence
    named = f"{what}, {repo} at revision {revision},"
    refusals = {
        GatedRepoError: "is gated: ask for access on its page of the hub, then set HF_TOKEN",
        RepositoryNotFoundError: "is not on the hub under that name, or private: check the name, "
        "or set HF_TOKEN",
        RevisionNotFoundError: "is not on the hub in that revision; set its revision to main, or "
        "to one of the page's history",
    }
    try:
        yield
    except (HTTPError, OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        why = f"is not in the local cache and cannot be downloaded ({reason})"
        if any(getattr(each, "errno", None) in _CLOSED for each in _causes(error)):
            why = f"cannot be written here ({reason}); set HF_HOME to a folder that can be written"
        for kind, refusal in refusals.items():  # the first is a kind of the second
            if any(isinstance(each, kind) for each in _causes(error)):
                why = refusal
                break
        raise CheckpointError(f"{named} {why}; {remedy}") from error


def _causes(error: BaseException) -> list[BaseException]:
    """An error and what it came of: the hub's client wraps refusals in sentences of its own."""
    cause = error.__cause__ or error.__context__
    return [error, *(_causes(cause) if cause else [])]


def _from_hub(
    repo: str, revision: str, files: Sequence[str], what: str, remedy: str, **options: Any
) -> Any:
    from huggingface_hub import snapshot_download

    with _sentences(repo, revision, what, remedy):
        return snapshot_download(
            repo, revision=revision, allow_patterns=list(files) or None, **options
        )
