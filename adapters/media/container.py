"""Opening a media file of unknown worth, and naming it in an error."""

import errno
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovmer.baselines.errors import ClipError, MissingModality, Unavailable, Unreadable

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def where(path: Path) -> str:
    """A file's name with its folder, enough to find it in a data set."""
    return f"{path.parent.name}/{path.name}" if path.parent.name else path.name


def require_file(path: Path) -> None:
    """Check that `path` is a regular file with content, without opening it.

    Raises MissingModality where there is no file, Unavailable where the system does not say, and
    Unreadable for folders, pipes, devices and empty files.
    """
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise MissingModality(f"there is no file {where(path)}") from error
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP):
            raise Unreadable(f"{where(path)} cannot be opened: {error.strerror}") from error
        raise unavailable(path, error) from error
    for is_kind, name in _KINDS:
        if is_kind(status.st_mode):
            raise Unreadable(f"{where(path)} is {name}")
    if status.st_size == 0:
        raise Unreadable(f"{where(path)} is empty (0 bytes)")


def unavailable(path: Path, error: OSError) -> Unavailable:
    """The system's failure to give us a file, by name."""
    name = errno.errorcode.get(error.errno or 0, "unknown error")
    return Unavailable(
        f"{where(path)} could not be read: {error.strerror} ({name}); the next run tries it again"
    )


def unreadable(path: Path, reason: str) -> ClipError:
    """The error for a file that a library could not read: Unavailable if plain reading fails too.

    Libraries report a failing disk as damage, so the bytes are read once more without them.
    """
    try:
        with path.open("rb") as file:
            while file.read(1 << 20):
                pass
    except OSError as error:
        return unavailable(path, error)
    return Unreadable(f"{where(path)} {reason}")


@contextmanager
def open_container(path: Path, *, decodes: bool = True) -> "Iterator[InputContainer]":
    """Open a video or sound file with PyAV; also turns errors of the body into ClipError.

    Without `decodes` FFmpeg opens no decoder to see what is in the streams, and knows what the
    header says alone. That takes a fifth of the time for H.264 in MP4.

    PyAV reads the head of a file in about a millisecond, says what is wrong with it, and prints
    nothing. decord prints to stderr, past Python, and leaks a file handle for each video that has
    no sound track.
    """
    import av

    # PyAV 19 decodes metadata that is no UTF-8 without an error, and has no argument for it.
    is_strict = int(av.__version__.partition(".")[0]) < 19
    options: dict[str, Any] = {"metadata_errors": "replace"} if is_strict else {}
    if not decodes:
        options["options"] = {"codec_whitelist": "none"}
    try:
        # An absolute path, so that no name can be taken for a protocol ("concat:...").
        with av.open(str(path.absolute()), **options) as container:
            yield container
    except av.error.FFmpegError as error:
        reason = f"is damaged, cut short, or not what its name says ({error.strerror})"
        raise unreadable(path, reason) from error


def picture_stream(container: "InputContainer", path: Path) -> "VideoStream":
    """The first video stream that is no cover art; MissingModality where there is none."""
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            require_codec(stream, path)
            return stream
    raise MissingModality(f"{where(path)} holds no picture, only sound")


def require_codec(stream: "VideoStream | AudioStream", path: Path) -> None:
    """Raise Unreadable where a stream is in a coding that FFmpeg does not know."""
    if getattr(stream, "codec_context", None) is None:
        codec = "libx264" if stream.type == "video" else "aac"
        flag = stream.type[0]
        raise Unreadable(
            f"{where(path)} holds {stream.type} in a coding that neither decord nor PyAV can "
            f"decode here; re-encode it with ffmpeg -i {path.name} -c:{flag} {codec} NEW.mp4"
        )
