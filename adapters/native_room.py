"""Room in the context of a chat MLLM: what prompts take of it, and whether a clip's media fit."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ovmer.adapters.media import Frames, Samples
from ovmer.adapters.media.sampling import linspace
from ovmer.baselines.errors import ClipError, PrerequisiteError

if TYPE_CHECKING:
    from ovmer.baselines.native.processor import ChatProcessor, ClipMedia

MANY = 64
"""Above this many frames, blank ones are checked to fit the context before the clip is decoded."""


@dataclass
class ContextRoom:
    """The tokens that a prompt may take, beside those of its answer."""

    processor: "ChatProcessor"
    media: Callable[[Frames | None, Samples | None], "ClipMedia"]
    """A clip's media as the processor takes them."""
    system: str
    """The system message."""
    one_by_one: bool
    """Whether frames are images, of which each takes its tokens, and not a video."""
    context: int
    """Tokens, answer included, that the model is made for."""
    new_tokens: int
    is_miniature: bool
    engine_context: int | None = None
    """Tokens, answer included, that the engine was started with, where it has a limit."""
    _fitting: set[tuple[int, tuple[int, ...]]] = field(default_factory=set)
    """Numbers of frames, and their shapes, of which a large part fits the context."""

    @property
    def limit(self) -> int:
        """Tokens that a prompt may take."""
        return min(self.context, self.engine_context or self.context) - self.new_tokens

    def check(self, needed: int, frames: int) -> None:
        """Check that `needed` tokens of media and bare question fit.

        Raises PrerequisiteError if the model's context is too short, ClipError if only the
        engine's is.
        """
        if needed <= self.limit:
            return
        what, remedy = f"{frames} frames", "baseline.frames"
        if not frames:
            what, remedy = "the sound", "baseline.seconds"
        takes = f"with {what} a prompt takes {needed} tokens, but"
        beside = f"{self.limit} beside {self.new_tokens} new ones"
        if (whole := needed + self.new_tokens) <= self.context:
            raise ClipError(
                f"{takes} the engine was started with room for {beside}; set "
                f"engine.context={whole} or more"
            )
        whose, rest = "model", ""
        if self.is_miniature:
            whose, rest = "miniature", ", or raise baseline.shrink of its max_position_embeddings"
        raise PrerequisiteError(
            f"{takes} the {whose}'s context leaves it {beside}; lower {remedy}{rest}"
        )

    def check_frames(self, first: Frames, wanted: int) -> None:
        """Raises as `check` does where part of `wanted` frames would fill the context by itself.

        `first` is the clip's first frame: how many tokens frames take depends on their number and
        size, and grows with both.
        """
        if (key := (wanted, first.pixels.shape)) in self._fitting:
            return
        if self.one_by_one:
            one, two = (self.tokens_of(some, first) for some in (1, 2))
            self.check(one + (wanted - 1) * (two - one), wanted)
        else:
            some = MANY
            while some < wanted:
                self.check(self.tokens_of(some, first), some)
                some *= 2
            self.check(self.tokens_of(wanted, first, work=False), wanted)
        self._fitting.add(key)

    def tokens_of(self, some: int, first: Frames, *, work: bool = True) -> int:
        """Length in tokens of a prompt with `some` frames of a clip, and no other media.

        Without `work` 0 where that would take as long as with the frames themselves.
        """
        from ovmer.baselines.native.processor import Message

        pixels = np.zeros((some, *first.pixels.shape[1:]), np.uint8)
        indices = tuple(linspace(first.count, some, rounded=True))
        media = self.media(Frames(pixels, indices, first.fps, first.count), None)
        message = Message(media.kinds, "", self.system)
        if (needed := self.processor.length_with(message, media)) is not None:
            return needed
        return len(self.processor(message, media)) if work else 0
