"""The adapters: one file per MLLM, each behind `describe(video, audio, subtitle)`."""

if __name__ != "ovmer.adapters":
    raise ImportError("this package is imported as ovmer.adapters; install the project to use it")

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from ovmer.adapters.mllm import Mllm as Mllm

__all__ = [
    "AUDIO",
    "SUBTITLE",
    "VIDEO",
    "Adapter",
    "Answer",
    "ClipError",
    "Machine",
    "MissingModality",
    "Mllm",
    "Prepared",
    "PrerequisiteError",
    "Refused",
    "Unreadable",
    "register",
    "require_audio",
    "require_video",
]


def __getattr__(name: str) -> Any:
    """`Mllm`, the base class of models with checkpoints, imported when it is asked for."""
    if name == "Mllm":
        from ovmer.adapters.mllm import Mllm

        return Mllm
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
