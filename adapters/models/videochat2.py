"""VideoChat2 (Vicuna) as the OV-MER authors ran it: VideoChat's frames and chat, another model.

A clip without a picture is recorded as `missing_modality`. The subtitle and the question reach the
language model alone: the Q-Former reads one and the same sentence for every clip.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ovmer.adapters.mllm import Model
from ovmer.adapters.models.videochat import VideoChatAdapter
from ovmer.adapters.registry import register
from ovmer.baselines.errors import PrerequisiteError

if TYPE_CHECKING:
    from ovmer.baselines.device import Place
    from ovmer.baselines.models.videochat import Sizes


@register("videochat2")
@dataclass
class VideoChat2Adapter(VideoChatAdapter):
    """The published model, which is not told when its frames were taken."""

    after: ClassVar[str] = "</Video>\n###Human: {question}\n###Assistant:"

    def __post_init__(self) -> None:
        super().__post_init__()
        # A single frame is a picture to upstream, with an instruction and positions of its own.
        if self.frames == 1:
            raise PrerequisiteError("baseline.frames must be at least 2")

    @cached_property
    def _sizes(self) -> "Sizes":
        from ovmer.baselines.models.videochat2 import read_sizes

        return read_sizes(self.parts["stages"], self.parts["llm"])

    def build(self, place: "Place") -> Model:
        from ovmer.baselines.models.videochat2 import VideoChat2

        return VideoChat2.load(self.parts["stages"], self.parts["llm"], place)

    def write_miniature(self, folder: Path, seed: int) -> dict[str, Path]:
        from ovmer.baselines.models.videochat2 import write_miniature

        return write_miniature(folder, seed)
