"""Opening a media file of unknown worth, and naming it in an error."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ovmer.baselines.errors import MissingModality, Unreadable

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream


def where(path: Path) -> str:
    """A file's name with its folder, enough to find it in a data set."""
    return f"{path.parent.name}/{path.name}" if path.parent.name else path.name


def require_file(path: Path) -> None:
    """Raise MissingModality where there is no file, Unreadable where it has no bytes."""
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise MissingModality(f"there is no file {where(path)}") from error
    except OSError as error:
        raise Unreadable(f"{where(path)} cannot be opened: {error.strerror}") from error
    if path.is_dir():
        raise Unreadable(f"{where(path)} is a folder")
    if size == 0:
        raise Unreadable(f"{where(path)} is empty (0 bytes)")


@contextmanager
def open_container(path: Path) -> "Iterator[InputContainer]":
    """Open a video or sound file with PyAV; also turns errors of the body into Unreadable.

    PyAV reads the head of a file in about a millisecond, says what is wrong with it, and prints
    nothing. decord prints to stderr, past Python, and leaks a file handle for each video that has
    no sound track.
    """
    import av

    try:
        # An absolute path, so that no name can be taken for a protocol ("concat:...").
        with av.open(str(path.absolute()), metadata_errors="replace") as container:
            yield container
    except av.error.FFmpegError as error:
        raise Unreadable(
            f"{where(path)} is damaged, cut short, or not what its name says ({error.strerror})"
        ) from error


def require_codec(stream: "VideoStream | AudioStream", path: Path) -> None:
    """Raise Unreadable where a stream is in a coding that FFmpeg does not know."""
    if getattr(stream, "codec_context", None) is None:
        raise Unreadable(f"{where(path)} holds {stream.type} in a coding that is not known")
