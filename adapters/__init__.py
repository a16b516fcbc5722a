"""What a newcomer extends: one file per MLLM, each behind `describe(video, audio, subtitle)`."""

if __name__ != "ovmer.adapters":
    raise ImportError("this package is imported as ovmer.adapters; install the project to use it")

from ovmer.adapters.base import (
    AUDIO,
    SUBTITLE,
    VIDEO,
    Adapter,
    Answer,
    Machine,
    Prepared,
    require_audio,
    require_video,
)
from ovmer.adapters.registry import register
from ovmer.baselines.errors import (
    ClipError,
    MissingModality,
    PrerequisiteError,
    Refused,
    Unreadable,
)

__all__ = [
    "AUDIO",
    "SUBTITLE",
    "VIDEO",
    "Adapter",
    "Answer",
    "ClipError",
    "Machine",
    "MissingModality",
    "Prepared",
    "PrerequisiteError",
    "Refused",
    "Unreadable",
    "register",
    "require_audio",
    "require_video",
]
