"""A language model that is asked each question once: an engine behind the cache of answers."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from ovmer.baselines.errors import ClipError
from ovmer.runners.extraction.cache import Answers
from ovmer.runners.extraction.engines.base import Engine, Outcome, Question, Sampling


class LanguageModel:
    """Prompts -> outcomes; loads nothing as long as every answer is known."""

    def __init__(self, engine: Engine, sampling: Sampling, cache: Path) -> None:
        self.engine = engine
        self.sampling = sampling
        self._cache = cache
        self.known = 0
        """Questions whose answer was in the cache."""
        self.asked = 0
        """Questions that were put to the engine."""

    def ask(self, prompts: Sequence[str], seed: int = 0) -> Iterator[tuple[int, Outcome]]:
        """(place of the prompt, outcome), in any order; what is known comes first.

        The same prompt under the same seed is the same question, and has the same answer. Raises
        PrerequisiteError where the engine or the cache cannot go on.
        """
        places: dict[Question, list[int]] = {}
        for place, prompt in enumerate(prompts):
            places.setdefault(self._question(prompt, seed), []).append(place)
        questions = list(places)
        asker = {**self.engine.identity, **self.sampling.as_dict()}
        with Answers(self._cache, asker) as answers:
            unknown = []
            for question, known in zip(questions, answers.find(questions), strict=True):
                if known is None:
                    unknown.append(question)
                    continue
                self.known += 1
                yield from ((place, known) for place in places[question])
            if not unknown:
                return
            for index, outcome in self.engine.complete(unknown):
                question = unknown[index]
                self.asked += 1
                if not isinstance(outcome, ClipError):
                    outcome = answers.keep(question, outcome)
                yield from ((place, outcome) for place in places[question])

    def _question(self, prompt: str, seed: int) -> Question:
        """Its random stream starts at 31 bits of a hash of seed and prompt; greedy has none."""
        if self.sampling.is_greedy:
            return Question(prompt)
        digest = hashlib.blake2b(f"{seed}:{prompt}".encode("utf-8", "replace"), digest_size=4)
        return Question(prompt, int.from_bytes(digest.digest()) >> 1)
