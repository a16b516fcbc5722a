"""AffectGPT's lessons: which files of a clip are read, and how question and answer become ids."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ovmer.adapters.affectgpt_prompts import END_OF_ANSWER, Template
from ovmer.baselines.errors import Unreadable
from ovmer.baselines.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

AUDIO, FACE, FRAME = "audio", "face", "frame"


def encode_texts(
    tokenizer: Tokenizer,
    template: Template,
    subtitle: str,
    question: str,
    answer: str,
    longest: int,
    tokens: Mapping[str, int],
) -> tuple[list[list[int]], list[int]]:
    """The ids around the slots of the prompt, and those of the answer with its end mark.

    `tokens` says how many positions each kind of slot takes (one, where it is not named). Raises
    Unreadable where prompt and answer together are longer than `longest` tokens: upstream cuts each
    to that length and then refuses the sum, so in effect nothing is ever cut.
    """
    texts = [tokenizer.encode(text) for text in template.filled(subtitle, question)]
    ids = tokenizer.encode(answer + END_OF_ANSWER)
    slots = sum(tokens.get(slot, 1) for slot in template.slots)
    length = sum(map(len, texts)) + slots + len(ids)
    if length > longest:
        raise Unreadable(
            f"question and answer have {length} tokens and train.max_length is {longest}"
        )
    return texts, ids


def read_media(paths: Mapping[str, Path], frames: int = 8) -> "dict[str, Tensor]":
    """Read a clip's media from its files, by kind (face, frame, audio).

    `frames` x 224 x 224 x 3 (uint8) of pictures: frames in RGB, faces as they are stored, blue
    first, as at inference. 8 x 32000 of sound: stretches of two seconds, each less its mean.
    """
    import numpy as np
    import torch

    from ovmer.adapters.media import read_frames
    from ovmer.adapters.models.affectgpt import listen, look_at
    from ovmer.baselines.models.affectgpt import SIDE, centre

    found = {}
    for kind, path in paths.items():
        if kind == AUDIO:
            found[kind] = centre(torch.from_numpy(listen(path)))
            continue
        pixels = read_frames(path, partial(look_at, frames=frames), size=(SIDE, SIDE)).pixels
        flipped = np.ascontiguousarray(pixels[..., ::-1]) if kind == FACE else pixels
        found[kind] = torch.from_numpy(flipped)
    return found
