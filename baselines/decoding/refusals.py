"""Reads from a server's error what it does not take: a key of the request, or a medium."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ovmer.baselines.decoding.completions import ErrorBody, message_of

if TYPE_CHECKING:
    import openai

OF_VLLM = ("top_k", "min_p", "repetition_penalty", "min_tokens")
_OPTIONAL = (*OF_VLLM, "presence_penalty", "seed", "logprobs")
"""Keys of a request that are left out where the server does not know them, with a note."""
_NOT_KNOWN = re.compile(
    r"unrecogni[sz]ed|unknown|unexpected|unsupported|not supported|not permitted|extra|invalid",
    re.IGNORECASE,
)
"""In a server's message about such a key."""
_NOT_TAKEN = re.compile(
    r"not support|unsupported|not allowed|at most 0|no endpoints found|invalid content type",
    re.IGNORECASE,
)
_MEDIA = (
    (r"input[_ ]audio|audio input|0 audio", "sound", "set baseline.modalities=video"),
    (r"video_url|video input|0 video", "videos", "set baseline.picture=images"),
    (r"image_url|image input|0 image", "pictures", "set baseline.modalities=audio"),
)
"""How servers (OpenAI, OpenRouter, vLLM) name what their model cannot see or hear."""


def unknown_keys(error: "openai.APIStatusError | ErrorBody", asked: Mapping[str, Any]) -> list[str]:
    """The optional keys of a request that the server says it does not know."""
    if isinstance(error, ErrorBody):
        status, message = error.status, str(error)
    else:
        status, message = error.status_code, message_of(error.body) or str(error)
    if status not in (400, 422, None) or not _NOT_KNOWN.search(message):
        return []
    return [key for key in _OPTIONAL if key in asked and re.search(rf"\b{key}\b", message)]


def refused_medium(message: str) -> tuple[str, str] | None:
    """The medium that the server's model does not accept, and the setting that omits it."""
    if _NOT_TAKEN.search(message):
        for named, what, remedy in _MEDIA:
            if re.search(named, message, re.IGNORECASE):
                return what, remedy
    return None
