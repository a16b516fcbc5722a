"""What a newcomer extends: one file per MLLM, each behind `describe(video, audio, subtitle)`."""

from adapters.base import (
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
from adapters.registry import register
from baselines.errors import ClipError, MissingModality, PrerequisiteError, Refused, Unreadable

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
