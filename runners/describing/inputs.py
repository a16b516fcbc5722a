"""What of a clip a baseline is given (`inputs=`): to see what each input brings.

all             what the baseline uses
video, audio    the picture alone, the sound alone
subtitle        the words alone: a black picture and silence in the place of the media
no_subtitle     all but the words
swapped_audio   the sound of another clip
black_video     a black picture as long as the clip's
silence         silence as long as the clip's sound
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ovmer.adapters.base import AUDIO, SUBTITLE, VIDEO
from ovmer.adapters.media.blank import PICTURE, SOUND
from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.data import Clip

ALL = "all"
_CHANGES = {
    "no_subtitle": SUBTITLE,
    "swapped_audio": AUDIO,
    "black_video": VIDEO,
    "silence": AUDIO,
}
"""Of those that change one input: which."""


@dataclass(frozen=True)
class ClipInputs:
    """A clip as the baseline is given it."""

    clip: Clip
    blank: frozenset[str] = frozenset()
    """Media that are read as blank (adapters/media/blank.py)."""
    notes: tuple[str, ...] = ()
    """For the clip's record."""


def check(inputs: str, uses: frozenset[str], who: str) -> None:
    """Raise PrerequisiteError where a baseline that uses so much is left nothing, or unchanged."""
    wanted = _CHANGES.get(inputs, inputs)
    if inputs == ALL or wanted in uses:
        return
    used = ", ".join(sorted(uses)) or "nothing"
    effect = "changes nothing" if inputs in _CHANGES else "leaves it nothing"
    raise PrerequisiteError(f"inputs={inputs} {effect}: {who} uses {used}; leave this pair out")


def keeps_subtitle(inputs: str) -> bool:
    """Whether the words are among what the baseline is given."""
    return inputs not in (VIDEO, AUDIO, "no_subtitle")


def give(inputs: str, clips: Sequence[Clip], seed: int) -> list[ClipInputs]:
    """The clips, in their order, with no more than `inputs` of them.

    `seed` chooses whose sound a clip gets under `swapped_audio`.
    """
    match inputs:
        case "video":
            return [ClipInputs(replace(clip, audio=None, subtitle=None)) for clip in clips]
        case "audio":
            return [
                ClipInputs(replace(clip, video=None, face=None, subtitle=None)) for clip in clips
            ]
        case "subtitle":
            return [ClipInputs(clip, frozenset({PICTURE, SOUND})) for clip in clips]
        case "no_subtitle":
            return [ClipInputs(replace(clip, subtitle=None)) for clip in clips]
        case "swapped_audio":
            return _swapped(clips, seed)
        case "black_video":
            return [ClipInputs(clip, frozenset({PICTURE})) for clip in clips]
        case "silence":
            return [ClipInputs(clip, frozenset({SOUND})) for clip in clips]
    return [ClipInputs(clip) for clip in clips]


def _swapped(clips: Sequence[Clip], seed: int) -> list[ClipInputs]:
    """Each clip with the sound of the next one in an order that hangs on seed and names alone.

    So none keeps its own, unless it is the only one with sound. Raises PrerequisiteError then.
    """

    def order(clip: Clip) -> bytes:
        return hashlib.blake2b(f"{seed}:{clip.name}".encode("utf-8", "replace")).digest()

    with_sound = sorted((clip for clip in clips if clip.audio is not None), key=order)
    if len(with_sound) == 1:
        raise PrerequisiteError(
            f"inputs=swapped_audio needs two clips with sound, and {with_sound[0].name} alone has "
            "any; choose more clips"
        )
    others = dict(
        zip(
            (clip.name for clip in with_sound),
            [*with_sound[1:], *with_sound[:1]],
            strict=True,
        )
    )
    found = []
    for clip in clips:
        other = others.get(clip.name)
        if other is None:
            found.append(ClipInputs(clip))
        else:
            note = f"the sound is that of the clip {other.name!r}"
            found.append(ClipInputs(replace(clip, audio=other.audio), notes=(note,)))
    return found
