"""The thinking part of a long answer: stored apart, never scored.

Models that reason aloud write it between markers of their own before the answer. Some chat
templates end the prompt with the opening marker, so that the answer begins inside the thinking. A
model's format is the setting `baseline.thinking`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ovmer.adapters.base import Answer
from ovmer.baselines.errors import PrerequisiteError, near

if TYPE_CHECKING:
    from ovmer.baselines.decoding.answers import Generated

CUT_WHILE_THINKING = "the answer ended within its thinking part; allow it more new tokens"


@dataclass(frozen=True)
class ThinkingFormat:
    """Blocks that come before the answer, in order, and what may enclose the answer itself."""

    blocks: tuple[tuple[str, str], ...]
    """Opening and closing marker of each; the last holds the thinking proper."""
    answer: tuple[str, str] | None = None


FORMATS: Mapping[str, ThinkingFormat] = {
    # DeepSeek-R1, Qwen3, GLM-4.1V, MiniCPM-o; HumanOmniV2 and R1-Omni add context and answer.
    "think": ThinkingFormat(
        (("<context>", "</context>"), ("<think>", "</think>")), ("<answer>", "</answer>")
    ),
    "thinking": ThinkingFormat((("<thinking>", "</thinking>"),), ("<answer>", "</answer>")),
    "kimi": ThinkingFormat((("◁think▷", "◁/think▷"),)),
    "mistral": ThinkingFormat((("[THINK]", "[/THINK]"),)),  # Magistral, Voxtral
    "gemma": ThinkingFormat((("<|channel>thought", "<channel|>"),)),  # Gemma 4, empty or not
    # gpt-oss: https://cookbook.openai.com/articles/openai-harmony
    "harmony": ThinkingFormat((("<|channel|>analysis", "<|channel|>final"),)),
}
CHOICES = ("auto", "none", *FORMATS)
"""`auto` takes the first format whose markers an answer has."""

_BOX = re.compile(r"<\|(?:begin|end)_of_box\|>")
"""Around what GLM's models find, or answer; no words."""
_CONTROL = re.compile(r"<\|(?:start|end|return|message|channel)\|>")
_STRIPPED = re.compile(
    r"\s*analysis(?P<thinking>.*?)(?:assistantfinal(?P<answer>.*)|\Z)", re.DOTALL
)
"""Harmony where the decoder has left out the control tokens."""


def check_format(name: str) -> None:
    """Raises PrerequisiteError where `name`, the setting, is none of `CHOICES`."""
    if name not in CHOICES:
        raise PrerequisiteError(f"baseline.thinking is {name!r}; {near(name, CHOICES)}")


def one_line(text: str) -> str:
    """`text` without line breaks and tabs, and without blanks around it."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def without_thinking(
    generated: "Generated",
    thinking_format: str,
    clean: Callable[[str], str],
    *,
    inside: bool = False,
    most_tokens: int | None = None,
) -> Answer:
    """The answer, cleaned, with its thinking beside it.

    `inside` is as in `split_thinking`. An answer that ended within its thinking has a note; so has
    one that was cut, if `most_tokens`, the limit that cut it, is given.
    """
    thinking, text = split_thinking(generated.text, inside=inside, thinking_format=thinking_format)
    thinking, notes = generated.thinking or thinking, generated.notes
    if thinking and not text.strip():
        notes += (CUT_WHILE_THINKING,)
    elif generated.is_cut and most_tokens is not None:
        notes += (f"the answer was cut at {most_tokens} tokens",)
    return Answer(
        clean(text), generated.prompt_tokens, generated.new_tokens, notes=notes, thinking=thinking
    )


def split_thinking(
    text: str, *, inside: bool = False, thinking_format: str = "auto"
) -> tuple[str, str]:
    """(thinking, answer), both stripped; ("", text) unchanged if there was no thinking.

    Thinking that never ends leaves no answer. `inside` says that the prompt had the opening marker.
    """
    if thinking_format == "none":
        return "", text
    text = _BOX.sub("", text)
    names = FORMATS if thinking_format == "auto" else (thinking_format,)
    for name in names:
        found = _harmony(text, thinking_format) if name == "harmony" else _split(text, name)
        if found is not None:
            return found
    return (text.strip(), "") if inside else ("", text)


def opens_thinking(prompt: str) -> bool:
    """Whether a prompt ends with the marker that opens the thinking."""
    openings = tuple(kind.blocks[-1][0] for kind in FORMATS.values())
    return prompt.rstrip().endswith(openings)


def _split(text: str, name: str) -> tuple[str, str] | None:
    """The parts of an answer in one format; None where it has none of its markers."""
    kind, rest, thinking = FORMATS[name], text.strip(), list[str]()
    for opening, closing in kind.blocks:
        is_last = (opening, closing) == kind.blocks[-1]
        if not rest.startswith(opening) and not (is_last and closing in rest):
            continue
        end = _end_of_thinking(rest, closing, kind.answer) if is_last else None
        head, closed, tail = end or rest.partition(closing)
        thinking.append(head.strip().removeprefix(opening).strip())
        rest = tail.strip()
        if not closed:
            break
    if kind.answer is not None:
        # Thinking without its markers ends where a whole answer begins.
        if not thinking and (found := _whole(kind.answer).search(rest)):
            thinking.append(rest[: found.start()].strip())
            rest = rest[found.start() :]
        if rest.startswith(kind.answer[0]):
            return "\n".join(filter(None, thinking)), _enclosed(rest, *kind.answer)
        if thinking and kind.answer[0].startswith(rest):  # cut within the marker
            rest = ""
    return ("\n".join(filter(None, thinking)), rest) if thinking else None


def _end_of_thinking(
    rest: str, closing: str, answer: tuple[str, str] | None
) -> tuple[str, str, str]:
    """The thinking, its closing marker if it has one, and what follows.

    It ends where an answer's marker follows, for the first time where a model says everything
    twice: the reward that R1-Omni was trained with reads the first answer, too. Elsewhere it
    ends at the last closing marker, as models quote their markers while they think.
    """
    if answer is not None:
        if found := re.search(rf"{re.escape(closing)}(?=\s*{re.escape(answer[0])})", rest):
            return rest[: found.start()], closing, rest[found.end() :]
        if closing not in rest and (found := _whole(answer).search(rest)):
            return rest[: found.start()], closing, rest[found.start() :]
    return rest.rpartition(closing) if closing in rest else (rest, "", "")


def _enclosed(rest: str, opening: str, closing: str) -> str:
    """The answer between its markers; where it was cut, without the beginning of the second."""
    answer, closed, _ = rest.removeprefix(opening).partition(closing)
    for length in range(len(closing) - 1, 0, -1):
        if not closed and answer.endswith(closing[:length]):
            answer = answer[:-length]
            break
    return answer.strip()


def _whole(answer: tuple[str, str]) -> re.Pattern[str]:
    opening, closing = map(re.escape, answer)
    return re.compile(f"{opening}.*?{closing}", re.DOTALL)


def _harmony(text: str, wanted: str) -> tuple[str, str] | None:
    """The channels of gpt-oss: analysis is thinking, final the answer, commentary neither."""
    if "<|channel|>" not in text:
        found = _STRIPPED.match(text)
        if found is None or (wanted == "auto" and found["answer"] is None):
            return None
        return found["thinking"].strip(), (found["answer"] or "").strip()
    said = {"analysis": "", "final": ""}
    for part in text.split("<|channel|>")[1:]:
        channel, _, words = part.partition("<|message|>")
        name = (channel.split() or [""])[0]
        if name in said:
            words = re.sub(r"<\|start\|>\w+\s*\Z", "", words.strip())
            said[name] += _CONTROL.sub("", words).strip()
    return said["analysis"], said["final"]
