"""The extractor that asks a language model, as the authors do.

A description goes through up to four questions, each of them a row of `steps.STEPS`:

    translate   Chinese into English, or English into Chinese           (translate=)
    merge       the description and the clip's subtitle into one text   (subtitle=merge)
    labels      the text's emotions, as a list
    target      the list's basic emotion or sentiment                   (target=)

All descriptions go through one question together, so that an engine is given all it can batch.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ovmer.baselines.decoding.answers import Generated
from ovmer.baselines.decoding.language_model import LanguageModel
from ovmer.baselines.errors import ClipError
from ovmer.runners.extraction.base import ClipDescription, ExtractedLabels
from ovmer.runners.extraction.steps import STEPS, StepPrompt, clean_reply, merging
from ovmer.runners.scoring.parsing import PARSERS, string_to_list

_CHINESE = re.compile(r"[\u4e00-\u9fff]")
_IN_OTHER = {"english": _CHINESE, "chinese": re.compile(r"[A-Za-z]{2}")}
"""Characters of a text that is to be translated into a language."""
_ECHOED = 60  # characters of a prompt's beginning that only an echo of it repeats
_MOST_WORDS = 5  # of a label: the longest of the wheels' vocabulary; more is a sentence

EMPTY = "the answer is empty"
CUT = "the answer was cut at its limit of tokens"
ECHO = "the answer repeats the prompt, so it counts as none"
CHINESE = "the answer is in Chinese, which no wheel knows"
NO_LIST = "the answer is no list of labels"
NO_CHOICE = "the answer is none of the words asked for"


@dataclass(frozen=True)
class QuestionChain:
    """The chain of questions for a description."""

    translate: str = "none"
    """none | english (descriptions with Chinese in them) | chinese (with English in them)"""
    merge: str | None = None
    """The step that merges subtitles; None leaves them out."""
    labels: str = "labels"
    target: str = "labels"
    """labels | basic_emotion | sentiment"""
    parser: str = "strict"
    """How the list is read: `strict` is the authors' way, `friendly` what was meant."""


@dataclass
class _Item:
    """A description on its way."""

    described: ClipDescription
    text: str
    raw: str = "[]"
    labels: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    trail: dict[str, str] = field(default_factory=dict)
    error: str | None = None

    def extracted(self) -> ExtractedLabels:
        notes = tuple(self.notes)
        return ExtractedLabels(
            self.described.name, self.labels, self.raw, notes, self.trail, self.error
        )


class LanguageModelExtractor:
    """Labels by the answers of a language model."""

    def __init__(
        self, name: str, model: LanguageModel, chain: QuestionChain, seed: int = 0
    ) -> None:
        """`seed` starts the random streams of the answers; a greedy model has none."""
        self._name, self.model, self._chain, self._seed = name, model, chain, seed
        wanted = {
            "translate": chain.translate != "none",
            "merge": chain.merge is not None,
            "labels": True,
            "target": chain.target != "labels",
        }
        self._stages = [stage for stage, is_wanted in wanted.items() if is_wanted]

    @property
    def identity(self) -> Mapping[str, Any]:
        return {
            "name": self._name,
            **self.model.identity,
            "seed": self._seed if self.model.generation.do_sample else None,
            **asdict(self._chain),
        }

    def extract(self, items: Sequence[ClipDescription]) -> Iterator[ExtractedLabels]:
        on_way = []
        for described in items:
            if described.is_labels and not described.in_sentence:
                labels = tuple(string_to_list(described.text))
                yield ExtractedLabels(described.name, labels, described.text)
            else:
                on_way.append(_Item(described, described.text))
        for stage in self._stages[:-1]:
            through = list(self._go_through(stage, on_way))
            yield from (item.extracted() for item in through if item.error)
            on_way = [item for item in through if not item.error]
        yield from (item.extracted() for item in self._go_through(self._stages[-1], on_way))

    def close(self) -> None:
        self.model.engine.close()

    def _go_through(self, stage: str, items: Sequence[_Item]) -> Iterator[_Item]:
        """Put one question of the chain to all items that need it; yields every item."""
        asked: list[tuple[_Item, StepPrompt]] = []
        for item in items:
            question = self._question(stage, item)
            if question is None:
                yield item
            else:
                asked.append((item, question))
        prompts = [question.prompt for _, question in asked]
        for index, outcome in self.model.ask(prompts, self._seed):
            item, question = asked[index]
            if isinstance(outcome, ClipError):
                item.error = f"{stage}: {outcome}"
            else:
                self._take(stage, item, question, outcome)
            yield item

    def _question(self, stage: str, item: _Item) -> StepPrompt | None:
        """The question about an item, if there is one. An empty text is asked about too, as the
        authors do."""
        chain = self._chain
        match stage:
            case "translate" if _IN_OTHER[chain.translate].search(item.text):
                return StepPrompt(f"to_{chain.translate}", {"reason": item.text})
            case "merge" if chain.merge:
                merged = merging(item.text, item.described.subtitle or "", chain.merge)
                if isinstance(merged, StepPrompt):
                    return merged
                item.text = item.trail["merge"] = merged
            case "labels":
                return StepPrompt(chain.labels, {"reason": item.text})
            case "target":
                return StepPrompt(chain.target, {"labels": clean_reply(item.raw)})
        return None

    def _take(self, stage: str, item: _Item, question: StepPrompt, reply: Generated) -> None:
        """Put a reply to use, and note what is wrong with it."""
        text = clean_reply(reply.text)
        item.notes += [f"{stage}: {note}" for note in reply.notes]
        item.notes += [f"{stage}: {CUT}"] * reply.is_cut
        if not text:
            item.notes.append(f"{stage}: {EMPTY}")
        elif STEPS[question.step].text[:_ECHOED] in reply.text:
            item.notes.append(f"{stage}: {ECHO}")
            text = ""
        match stage:
            case "labels":
                item.raw = reply.text
                item.labels = tuple(PARSERS[self._chain.parser](text))
                item.notes += self._complaints(text, item.labels)
            case "target":
                item.trail["labels"], item.raw = item.raw, reply.text
                word = STEPS[question.step].read(text)
                item.labels = (word,) if word else ()
                item.notes += [f"{stage}: {NO_CHOICE}"] * (word is None)
            case _:
                item.text = item.trail[stage] = text

    def _complaints(self, text: str, labels: Sequence[str]) -> list[str]:
        if _CHINESE.search(text) and self._chain.labels != "labels_chinese":
            return [f"labels: {CHINESE}"]
        if any(len(label.split()) > _MOST_WORDS or set(label) & set("[]") for label in labels):
            return [f"labels: {NO_LIST}"]
        return []
