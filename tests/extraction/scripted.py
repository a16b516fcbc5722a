"""A fake engine that answers by a function, for what no model can be made to say."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ovmer.runners.extraction.ask import LanguageModel
from ovmer.runners.extraction.engines import Outcome, Question, Reply, Sampling


class ScriptedEngine:
    """Keeps the prompts that it was asked; answers them in reverse order."""

    identity: Mapping[str, Any] = {"engine": "scripted", "model": "script", "revision": "1"}

    def __init__(self, answer: Callable[[str], str | Outcome]) -> None:
        self._answer = answer
        self.asked: list[Question] = []
        self.is_closed = False

    def complete(self, questions: Sequence[Question]) -> Iterator[tuple[int, Outcome]]:
        for place, question in reversed(list(enumerate(questions))):
            self.asked.append(question)
            answer = self._answer(question.prompt)
            yield place, Reply(answer) if isinstance(answer, str) else answer

    def close(self) -> None:
        self.is_closed = True


def scripted(
    cache: Path, answer: Callable[[str], str | Outcome], sampling: Sampling | None = None
) -> tuple[LanguageModel, ScriptedEngine]:
    engine = ScriptedEngine(answer)
    return LanguageModel(engine, sampling or Sampling(), cache), engine
