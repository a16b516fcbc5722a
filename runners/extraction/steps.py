"""The questions that are put to the language model: one row each, prompt and reader of the reply.

The prompts are the authors', byte for byte, runs of blanks included (`prompts.json`; OV-MER's and
AffectGPT's toolkit/utils/qwen.py, MER2024's toolkit/utils/chatgpt.py). A prompt's slots are filled
literally and once: a description that spells `{subtitle}` or the prompt's own `; Output:` stays
what it is.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from ovmer.runners.scoring.parsing import listlist_to_list, string_to_list

_SLOT = re.compile(r"\{([a-z_]+)\}")
_LEADS = "输入 输出 翻译 让我们来翻译一下： output Output input Input".split()
_NOTHING_KNOWN = "Unable to judge the emotional state."
_BASIC_EMOTIONS = frozenset({"happy", "angry", "worried", "sad", "surprise", "neutral"})
_SENTIMENTS = frozenset({"positive", "negative", "neutral"})


def clean_reply(reply: str) -> str:
    """Clean a reply as the authors do: drop a leading `Output:` and all line feeds.

    Each lead is tried once, in this order, so several may go; so do one `:` and then one `：`.
    """
    reply = reply.strip()
    for lead in _LEADS:
        reply = reply.removeprefix(lead)
    reply = reply.strip().removeprefix(":").removeprefix("：").strip()
    return reply.replace("\n", "").strip()


@dataclass(frozen=True)
class PromptStep:
    """One question: the prompt it is asked with, and how the cleaned reply is read."""

    prompt: str
    """Its name in `prompts.json`."""
    read: Callable[[str], Any]
    """Cleaned reply -> value; None where the reply is none of the answers asked for."""

    @property
    def text(self) -> str:
        """The prompt with its slots open."""
        return _prompts()[self.prompt]

    @property
    def slots(self) -> tuple[str, ...]:
        """The names in curly braces, in the order of the prompt."""
        return tuple(_SLOT.findall(self.text))

    def render(self, **values: str) -> str:
        """The prompt with every slot filled; KeyError for a slot without a value."""
        return _SLOT.sub(lambda slot: values[slot[1]], self.text)


@cache
def _prompts() -> Mapping[str, str]:
    text = files("ovmer.runners.extraction").joinpath("prompts.json").read_text(encoding="utf-8")
    prompts: dict[str, str] = json.loads(text)
    return prompts


def _as_it_is(reply: str) -> str:
    return reply


def _one_of(words: frozenset[str]) -> Callable[[str], str | None]:
    """Exactly, case included, as the authors' metrics compare."""
    return lambda reply: reply if reply in words else None


def _first_sentence_of(words: frozenset[str]) -> Callable[[str], str | None]:
    return lambda reply: _one_of(words)(reply.split(".")[0])


_QWEN, _GPT = "qwen2.5_7b", "gpt-3.5"

STEPS: Mapping[str, PromptStep] = {
    "labels": PromptStep(f"{_QWEN}/labels_from_description", string_to_list),
    "labels_mer2024": PromptStep(f"{_GPT}/labels_from_description_english", string_to_list),
    "labels_chinese": PromptStep(f"{_GPT}/labels_from_description_chinese", string_to_list),
    "merge": PromptStep(f"{_QWEN}/merge_subtitle", _as_it_is),
    "merge_subtitle_alone": PromptStep(
        f"{_QWEN}/merge_subtitle_when_description_is_empty", _as_it_is
    ),
    "merge_chinese": PromptStep(f"{_GPT}/merge_subtitle_chinese", _as_it_is),
    "merge_chinese_subtitle_alone": PromptStep(
        f"{_GPT}/merge_subtitle_chinese_when_description_is_empty", _as_it_is
    ),
    "to_english": PromptStep(f"{_QWEN}/translate_chinese_to_english", _as_it_is),
    "to_chinese": PromptStep(f"{_QWEN}/translate_english_to_chinese", _as_it_is),
    "basic_emotion": PromptStep(f"{_QWEN}/basic_emotion_from_labels", _one_of(_BASIC_EMOTIONS)),
    "basic_emotion_from_description": PromptStep(
        f"{_QWEN}/basic_emotion_from_description", _first_sentence_of(_BASIC_EMOTIONS)
    ),
    "sentiment": PromptStep(f"{_QWEN}/sentiment_from_labels", _one_of(_SENTIMENTS)),
    "groups": PromptStep(f"{_GPT}/group_labels", listlist_to_list),
}


@dataclass(frozen=True, slots=True)
class StepPrompt:
    """A question: a step of the table with its slots filled."""

    step: str
    values: Mapping[str, str]

    @property
    def prompt(self) -> str:
        return STEPS[self.step].render(**self.values)


def merging(clue: str, subtitle: str, step: str = "merge") -> StepPrompt | str:
    """How a clue and a subtitle become one description: a question, or a text that needs none.

    Without a subtitle the clue stays as it is; without either the text is the authors' fixed one.
    """
    if not subtitle.strip():
        return clue if clue.strip() else _NOTHING_KNOWN
    if not clue.strip():
        return StepPrompt(f"{step}_subtitle_alone", {"subtitle": subtitle})
    return StepPrompt(step, {"reason": clue, "subtitle": subtitle})


def grouping(predicted: Sequence[str], true: Sequence[str]) -> StepPrompt:
    """The question which of a clip's labels mean the same: each once, lower-case, sorted.

    (The authors' order is that of a set of strings, which changes from process to process.)
    """
    labels = sorted({label.lower() for label in (*predicted, *true)})
    return StepPrompt("groups", {"python_list_of_unique_labels": str(labels)})
