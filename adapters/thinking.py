"""The thinking part of a long answer: stored apart, never scored.

Models that reason aloud put it between markers of their own before the answer. Some chat templates
end the prompt with the opening marker, so that the answer begins inside the thinking.
"""

import re

_MARKERS = (
    ("<think>", "</think>"),  # DeepSeek-R1, Qwen3, GLM-4.1V, MiniCPM-o, R1-Omni
    ("<thinking>", "</thinking>"),
    ("◁think▷", "◁/think▷"),  # Kimi
    ("[THINK]", "[/THINK]"),  # Magistral, Voxtral
)

CUT_WHILE_THINKING = "the answer ended within its thinking part; allow it more new tokens"


def split_thinking(text: str, *, inside: bool = False) -> tuple[str, str]:
    """(thinking, answer), both stripped; ("", text) as it stands where there was no thinking.

    Thinking that never ends leaves no answer. `inside` says that the prompt had the opening marker.
    """
    for opening, closing in _MARKERS:
        head, opened, _ = text.partition(opening)
        begun = bool(opened) and not head.strip()
        if closing in text:
            # Up to the last end: models quote their markers while they think.
            thinking, _, answer = text.rpartition(closing)
        elif begun:
            thinking, answer = text, ""
        else:
            continue
        thinking = re.sub(rf"\A\s*{re.escape(opening)}", "", thinking)
        return thinking.strip(), answer.strip()
    return (text.strip(), "") if inside else ("", text)


def opens_thinking(prompt: str) -> bool:
    """Whether a prompt ends with the marker that opens the thinking."""
    return prompt.rstrip().endswith(tuple(opening for opening, _ in _MARKERS))
