"""`inputs=`: leave inputs of a clip out, or replace them, to measure what each one contributes.

all             what the baseline uses
video, audio    the picture alone, the sound alone
subtitle        the words alone: a black picture and silence instead of the media
no_subtitle     all but the words
swapped_audio   the sound of another clip
black_video     a black picture as long as the clip's
silence         silence as long as the clip's sound
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ovmer.adapters.base import AUDIO, SUBTITLE, VIDEO
from ovmer.adapters.media.blank import PICTURE, SOUND
from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.data import Clip
from ovmer.runners.lazy import LazySequence

ALL = "all"
_CHANGES = {
    "no_subtitle": SUBTITLE,
    "swapped_audio": AUDIO,
    "black_video": VIDEO,
    "silence": AUDIO,
}
"""Of those that change one input: which."""


def check(inputs: str, uses: frozenset[str], who: str) -> None:
    """Raise PrerequisiteError if a baseline is left without input, or its input unchanged.

    `uses` are its modalities.
    """
    wanted = _CHANGES.get(inputs, inputs)
    if inputs == ALL or wanted in uses:
        return
    used = ", ".join(sorted(uses)) or "nothing"
    effect = "changes nothing" if inputs in _CHANGES else "leaves it nothing"
    raise PrerequisiteError(f"inputs={inputs} {effect}: {who} uses {used}; leave this pair out")


def keeps_subtitle(inputs: str) -> bool:
    """Whether the subtitle is among the baseline's inputs."""
    return inputs not in (VIDEO, AUDIO, "no_subtitle")


def give(inputs: str, clips: Sequence[Clip], seed: int) -> Sequence[Clip]:
    """The clips, in their order, with no more than `inputs` of them.

    `seed` chooses whose sound a clip gets under `swapped_audio`.
    """
    changes: Mapping[str, Mapping[str, Any]] = {
        "video": {"audio": None, "subtitle": None},
        "audio": {"video": None, "face": None, "subtitle": None},
        "subtitle": {"blank": frozenset({PICTURE, SOUND})},
        "no_subtitle": {"subtitle": None},
        "black_video": {"blank": frozenset({PICTURE})},
        "silence": {"blank": frozenset({SOUND})},
    }
    if inputs == "swapped_audio":
        return _swapped(clips, seed)
    if inputs not in changes:
        return clips
    return LazySequence(clips, lambda clip: replace(clip, **changes[inputs]))


def _swapped(clips: Sequence[Clip], seed: int) -> list[Clip]:
    """Each clip with the sound of the next one in an order that depends on seed and names alone.

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
        if (other := others.get(clip.name)) is not None:
            note = f"the sound is that of the clip {other.name!r}"
            clip = replace(clip, audio=other.audio, notes=(*clip.notes, note))
        found.append(clip)
    return found
