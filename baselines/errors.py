"""Every error that the project raises on purpose, in one tree.

    OvmerError
    ├── PrerequisiteError        the run cannot start; the user can fix it (path, key, package)
    │   └── CheckpointError      a weight file that is missing, torn, or not of this model
    └── ClipError                one clip failed; the run goes on and records `status`
        ├── Unreadable           a file is broken, empty, or not what its name says
        ├── MissingModality      the clip lacks what the model needs
        ├── OutOfMemory          even alone, the clip does not fit the device
        ├── Timeout              no answer within the limit
        ├── Unavailable          the system did not give us the file; it may next time
        └── Refused              a server declined to answer

Each message is one sentence that says what is wrong, where, and what to do. The tree is in
`baselines/` because it is the lowest layer; the others re-export what they raise.
"""

import difflib
import traceback
from collections.abc import Collection, Iterable
from enum import StrEnum
from importlib.metadata import entry_points
from pathlib import Path


class Status(StrEnum):
    """Outcome for one clip. A failure is never an empty answer."""

    OK = "ok"
    EMPTY = "empty"
    UNREADABLE = "unreadable"
    MISSING_MODALITY = "missing_modality"
    OUT_OF_MEMORY = "out_of_memory"
    TIMEOUT = "timeout"
    REFUSED = "refused"
    CRASHED = "crashed"
    UNAVAILABLE = "unavailable"
    NOT_FINITE = "not_finite"
    """The model gave numbers that are NaN or infinite."""


class OvmerError(Exception):
    """Root of the tree."""


class PrerequisiteError(OvmerError):
    """An error that the user can fix before the run starts; printed without a stack trace."""


class CheckpointError(PrerequisiteError):
    """A checkpoint that is missing, half downloaded, or of another model."""


class ClipError(OvmerError):
    """One clip failed."""

    status = Status.CRASHED


class Unreadable(ClipError):
    status = Status.UNREADABLE


class Unavailable(ClipError):
    """The system failed, not the file: no permission, no handles left, a disk or network error."""

    status = Status.UNAVAILABLE


class MissingModality(ClipError):
    status = Status.MISSING_MODALITY


class OutOfMemory(ClipError):
    status = Status.OUT_OF_MEMORY


class Timeout(ClipError):
    status = Status.TIMEOUT


class Refused(ClipError):
    status = Status.REFUSED


def one_of(key: str, value: str, choices: Collection[str]) -> None:
    """Raise PrerequisiteError where the value of a setting is none of the choices."""
    if value not in choices:
        raise PrerequisiteError(f"{key} is {value!r}; {near(str(value), choices)}")


def near(word: str, choices: Iterable[str]) -> str:
    """A sentence part that offers the names nearest to a mistyped word, or all of them.

    Names are compared without case, underscores and hyphens: `VideoLLaVA` finds `video_llava`.
    """
    choices = sorted(choices)
    plain = {choice: _plain(choice) for choice in choices}
    names, wanted = sorted(set(plain.values())), _plain(word)
    nearest = [wanted] if wanted in names else difflib.get_close_matches(wanted, names, cutoff=0.5)
    close = [choice for each in nearest for choice in choices if plain[choice] == each][:3]
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"choose one of {', '.join(choices)}"


def _plain(name: str) -> str:
    return name.casefold().replace("_", "").replace("-", "")


def where(error: BaseException) -> str:
    """File and line where an error arose, as the end of a sentence; not within a library if that
    was called by other code. An installed plug-in is no library."""
    frames = list(traceback.extract_tb(error.__traceback__))
    plug_ins = {each.module.partition(".")[0] for each in entry_points(group="ovmer.adapters")}
    frames = [each for each in frames if _library(each.filename) in {None, *plug_ins}] or frames
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def _library(file: str) -> str | None:
    """The installed package or module that a file belongs to."""
    parts = Path(file).parts
    if "site-packages" not in parts[:-1]:
        return None
    return parts[parts.index("site-packages") + 1].removesuffix(".py")


def first_line(error: BaseException) -> str:
    """The first line of a library's error message, as part of a sentence."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
