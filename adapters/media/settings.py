"""How this process reads media: the keys `media.*` of conf/config.yaml."""

from dataclasses import dataclass

from ovmer.baselines.errors import PrerequisiteError

READERS = ("auto", "decord", "pyav")


@dataclass(frozen=True)
class MediaSettings:
    """Settings of reading, the same for all clips and models of a run."""

    reader: str = "auto"
    """`auto`: decord where its frame numbers are exact, else PyAV in order; `decord`: as the
    authors' code read, wrong frames included; `pyav`: in order, always."""
    seconds: float = 300.0
    """The longest that reading one file may take; 0: no limit, and no processes for reading."""

    def __post_init__(self) -> None:
        if self.reader not in READERS:
            choices = ", ".join(READERS)
            raise PrerequisiteError(f"media.reader is {self.reader!r}; choose from {choices}")
        if not self.seconds >= 0:
            raise PrerequisiteError(f"media.seconds is {self.seconds}; give at least 0")


_current = MediaSettings()


def settings() -> MediaSettings:
    """Return those that hold in this process."""
    return _current


def configure(new: MediaSettings) -> None:
    """Let `new` hold for whatever is read from now on in this process."""
    global _current
    _current = new
