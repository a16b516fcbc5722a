"""config.json of HumanOmni's checkpoints: towers, projector and language model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from transformers import SiglipVisionConfig, WhisperConfig

from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.layers.branches import BRANCHES

LLM_FIELDS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "hidden_act",
    "bos_token_id",
    "eos_token_id",
)


@dataclass(frozen=True)
class HumanOmniConfig:
    """Fields of the main folder's config.json."""

    projector: str
    """A key of `BRANCHES`."""
    vision_tower: str
    """The name of SigLIP's folder, without the path, which may be one of the authors' disks."""
    audio_tower: str
    vision_width: int
    audio_width: int
    vision_layer: int
    frames: int
    has_tags: bool
    """Whether tags such as `<vi_start>` enclose the slots."""
    is_tied: bool
    llm: Mapping[str, Any]
    """The fields of a Qwen2Config."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises CheckpointError for the folder of something else."""
        published = read_json(folder)
        try:
            config = cls(
                projector=published["mm_projector_type"],
                vision_tower=Path(str(published["mm_vision_tower"])).name,
                audio_tower=Path(str(published["mm_audio_tower"])).name,
                vision_width=published["mm_hidden_size"],
                audio_width=published["audio_hidden_size"],
                vision_layer=published["mm_vision_select_layer"],
                frames=published["num_frames"],
                has_tags=published.get("mm_use_x_start_end", False),
                is_tied=published.get("tie_word_embeddings", False),
                llm={name: published[name] for name in LLM_FIELDS},
            )
        except KeyError as error:
            raise CheckpointError(
                f"{folder / 'config.json'} lacks {error}; is it the folder of a HumanOmni?"
            ) from None
        if config.projector not in BRANCHES:
            raise CheckpointError(
                f"{folder / 'config.json'} says mm_projector_type {config.projector!r}, which is "
                f"none of {', '.join(BRANCHES)}; is it the folder of a released HumanOmni?"
            )
        return config

    def check(self, folder: Path, siglip: SiglipVisionConfig, whisper: WhisperConfig) -> None:
        """Raises CheckpointError where the towers are not those that the model was trained with."""
        for name, part, wanted, given in (
            (self.vision_tower, "siglip", self.vision_width, siglip.hidden_size),
            (self.audio_tower, "whisper", self.audio_width, whisper.d_model),
        ):
            if wanted != given:
                raise CheckpointError(
                    f"{folder / 'config.json'} is made for {name}, {wanted} wide, but the tower "
                    f"given is {given} wide; set baseline.checkpoint.{part}.path to the folder of "
                    f"{name}, or choose the baseline of this checkpoint"
                )
