"""VideoChat2 (Vicuna) as the OV-MER authors ran it: VideoChat's frames and chat, another model.

A clip without a picture is recorded as `missing_modality`. The subtitle and the question reach the
language model alone: the Q-Former reads one and the same sentence for every clip.
"""

from dataclasses import dataclass
from typing import ClassVar

from ovmer.adapters.models.videochat import VideoChatAdapter
from ovmer.adapters.registry import register
from ovmer.baselines.errors import PrerequisiteError


@register("videochat2")
@dataclass
class VideoChat2Adapter(VideoChatAdapter):
    """The published model, whose prompt does not say when its frames were taken."""

    model_class: ClassVar[str] = "ovmer.baselines.models.videochat2:VideoChat2"
    template: ClassVar[tuple[str, ...]] = (
        VideoChatAdapter.template[0],
        "</Video>\n###Human: {question}\n###Assistant:",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        # A single frame is a picture to upstream, with an instruction and positions of its own.
        if self.frames == 1:
            raise PrerequisiteError("baseline.frames must be at least 2")
