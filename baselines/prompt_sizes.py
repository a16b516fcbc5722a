"""Sizes of a checkpoint that a prompt depends on, known before any weight is loaded."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PromptSizes:
    """Read by a port's `read_sizes` from configurations and from the shapes in weight files."""

    context: int
    """Positions of the language model, for prompt and answer together."""
    positions: int = 0
    """Prompt positions that the clip takes; of a model that prompts frame by frame, a frame."""
    image: int = 0
    """Side of a frame in pixels."""
