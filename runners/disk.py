"""Files that are locked, forced to the disk, and replaced as a whole.

Some file systems (Lustre as it is often mounted, some NFS and FUSE) have no flock or no fsync. Then
a warning says so, and a lock file that only one process can create excludes the others.
"""

import errno
import fcntl
import json
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.progress import say

_NOT_SUPPORTED = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EINVAL, errno.EOPNOTSUPP})


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO | None]:
    """A regular file to read; None where there is none.

    Raises PrerequisiteError for anything else of that name (a read of a FIFO would wait for ever)
    and for a file that cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise PrerequisiteError(f"{path} is no regular file; remove it")
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        yield None
    except OSError as error:
        raise PrerequisiteError(f"{path} cannot be read: {error.strerror}") from error


def read_bytes(path: Path) -> bytes | None:
    """The content of a regular file; None where there is none. Raises PrerequisiteError."""
    with _opened(path) as file:
        return None if file is None else file.read()


def read_lines(path: Path, at_once: int) -> Iterator[list[bytes]]:
    """The whole lines of a regular file, some at a time; none where there is no file.

    Raises PrerequisiteError.
    """
    with _opened(path) as file:
        whole = (line for line in file or () if line.endswith(b"\n"))
        while lines := list(islice(whole, at_once)):
            yield lines


def read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object that a file holds; None where there is no file.

    Raises PrerequisiteError for a file that holds anything else.
    """
    content = read_bytes(path)
    if content is None:
        return None
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise PrerequisiteError(f"{path} is no JSON ({error}); remove it") from error
    if not isinstance(found, dict):
        raise PrerequisiteError(f"{path} is no JSON object; remove it")
    return found


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file at one stroke; OSError names it where that fails."""
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path, *, is_shared: bool = False) -> Iterator[BinaryIO]:
    """A file to write, which replaces `path` at the end; OSError names it where that fails.

    One that `is_shared`, as in a cache, may be made by several processes or threads at a time;
    its folder is made, too.
    """
    fresh = path.with_name(f".{path.name}.new")
    if is_shared:
        fresh = path.with_name(f".{os.getpid()}-{threading.get_ident()}-{path.name}.new")
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with fresh.open("wb") as file:
            yield file
            file.flush()
            force_to_disk(file.fileno())
        fresh.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        fresh.unlink(missing_ok=True)


def force_to_disk(file: int) -> None:
    """`os.fsync`, or a warning where the file system has none."""
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
        _warn("this file system has no fsync: what the machine loses when it dies is up to it")


def lock(file: int, path: Path) -> Callable[[], None]:
    """Exclude other processes from writing `path`, open as `file`; returns what unlocks it.

    Closing the file drops a lock of flock. Raises PrerequisiteError where another process has it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise PrerequisiteError(
            f"another run is writing to {path.parent}; wait until it ends, or stop it"
        ) from error
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
        _warn("this file system has no flock: a file `.*.lock` excludes other runs instead")
        return _lock_file(path.with_name(f".{path.name}.lock"))
    return lambda: None


def _lock_file(path: Path) -> Callable[[], None]:
    """Create a lock file that names this process; that of a dead process here is replaced."""
    mine = f"{os.getpid()} {socket.gethostname()}"
    own = path.with_name(f"{path.name}.{os.getpid()}")
    own.write_text(mine)
    try:
        for _ in range(2):
            try:
                os.link(own, path)  # fails where it exists, on NFS too, and is never half written
                return lambda: path.unlink(missing_ok=True)
            except FileExistsError:
                _remove_stale(path, own)
    finally:
        own.unlink(missing_ok=True)
    raise _taken(path)


def _remove_stale(path: Path, own: Path) -> None:
    """Remove the lock of a process of this machine that has died; raises if it may be alive."""
    aside = own.with_name(f"{own.name}.old")
    try:
        holder = path.read_text()
        if _may_be_alive(holder):
            raise _taken(path)
        path.rename(aside)
        if aside.read_text() != holder:  # another process was quicker and holds it now
            os.link(aside, path)
            raise _taken(path)
    except FileNotFoundError:
        return  # given back meanwhile
    finally:
        aside.unlink(missing_ok=True)


def _may_be_alive(holder: str) -> bool:
    process, _, host = holder.partition(" ")
    if host != socket.gethostname() or not process.isdecimal():
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _taken(path: Path) -> PrerequisiteError:
    try:
        holder = "process {} on {}".format(*path.read_text().split())
    except (OSError, IndexError):
        holder = "it is not known which"
    return PrerequisiteError(
        f"another run ({holder}) is writing to {path.parent}; wait until it ends, or remove "
        f"{path} if it has"
    )


@cache
def _warn(sentence: str) -> None:
    """Once in a process."""
    say(sentence)
