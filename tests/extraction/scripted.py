"""A fake engine that answers by a function, for what no model can be made to say."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ovmer.baselines.decoding.answers import Answered, Asked, Generated
from ovmer.baselines.decoding.language_model import LanguageModel
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.errors import ClipError


class ScriptedEngine:
    """Keeps the prompts that it was asked; answers them in reverse order."""

    identity: Mapping[str, Any] = {"engine": "scripted", "model": "script", "revision": "1"}

    def __init__(self, answer: Callable[[str], str | Generated | ClipError]) -> None:
        self._answer = answer
        self.asked: list[tuple[str, int]] = []
        self.is_closed = False

    def stream(self, asked: Asked) -> Answered:
        for key, question in reversed(list(asked)):
            self.asked.append(question)
            answer = self._answer(question[0])
            yield key, Generated(answer) if isinstance(answer, str) else answer

    def close(self) -> None:
        self.is_closed = True


def scripted(
    cache: Path,
    answer: Callable[[str], str | Generated | ClipError],
    generation: GenerationSettings | None = None,
) -> tuple[LanguageModel, ScriptedEngine]:
    engine = ScriptedEngine(answer)
    return LanguageModel(engine, generation or GenerationSettings(), cache), engine
