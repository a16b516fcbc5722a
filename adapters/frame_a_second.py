"""Base class of models that sample one frame a second."""

from abc import ABC
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ovmer.adapters.base import SUBTITLE, VIDEO, require_video
from ovmer.adapters.media import Frames, read_frames
from ovmer.adapters.media.sampling import per_second
from ovmer.adapters.mllm import Mllm
from ovmer.baselines.errors import PrerequisiteError


@dataclass
class FrameASecond(Mllm, ABC):
    """Sampling at one frame a second; of a longer clip `most_frames` of these are spread evenly."""

    most_frames: int = 100

    modalities: ClassVar[frozenset[str]] = frozenset({VIDEO, SUBTITLE})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.most_frames < 1:
            raise PrerequisiteError("baseline.most_frames must be at least 1")

    def look(self, video: Path | None) -> Frames:
        """The frames that the model sees. Raises MissingModality where there is no picture."""
        return read_frames(
            require_video(video), lambda count, fps: per_second(count, fps, self.most_frames)
        )
