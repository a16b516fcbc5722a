"""SECap, which describes the emotion of a speech clip in one Chinese sentence.

Sound alone: the model was never given what is said, so the subtitle is left out, and where the
picture's file is all there is, its sound track is heard. A clip without sound is recorded as
`missing_modality`. Scoring in English needs the answers translated: `extractor.translate=english`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import ClassVar

import numpy as np

from ovmer.adapters.base import AUDIO, Answer, Machine, Prepared, require_audio
from ovmer.adapters.media import read_sound
from ovmer.adapters.mllm import Mllm
from ovmer.adapters.registry import register
from ovmer.baselines.errors import ClipError, PrerequisiteError


@register("secap")
@dataclass
class SecapAdapter(Mllm):
    """The published model. Where it samples, it answers several times, and of the answers that are
    most alike the first counts, as in the result file of its authors."""

    candidates: int = 8
    kept: int = 5

    modalities: ClassVar[frozenset[str]] = frozenset({AUDIO})
    streams: ClassVar[bool] = False
    model_class: ClassVar[str] = "ovmer.baselines.models.secap:Secap"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.kept <= self.candidates:
            raise PrerequisiteError(
                f"baseline.kept is {self.kept}; give at least 1 and at most baseline.candidates, "
                f"which is {self.candidates}"
            )

    def load(self, machine: Machine) -> None:
        from ovmer.baselines.device import resolve
        from ovmer.baselines.layers.text2vec import Text2Vec

        super().load(machine)
        placement = resolve(machine.device, machine.dtype)
        self._vectors = Text2Vec.load(self.parts["similarity"], placement)

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        import torch

        from ovmer.baselines.layers.hubert import SAMPLE_RATE, normalise
        from ovmer.baselines.models.secap import SHORTEST_SAMPLES, SecapInputs

        sound = read_sound(require_audio(audio), SAMPLE_RATE, resampling="sinc_hann")
        sound = np.pad(sound, (0, max(0, SHORTEST_SAMPLES - len(sound))))
        texts = self.texts(self.prompt.about(None))
        return Prepared(SecapInputs(texts, normalise(torch.from_numpy(sound))))

    def _answer(self, batch: Sequence[Prepared]) -> list[Answer | ClipError]:
        if not self.generation.do_sample:
            return super()._answer(batch)
        return [self._chosen(item) for item in batch]

    def _chosen(self, item: Prepared) -> Answer | ClipError:
        """One of several answers, each drawn with a random stream of its own."""
        from ovmer.baselines.layers.text2vec import most_alike

        stream = Random(item.seed)
        draws = [replace(item, seed=stream.getrandbits(63)) for _ in range(self.candidates)]
        answers = []
        for answer in super()._answer(draws):
            if isinstance(answer, ClipError):
                return answer
            answers.append(answer)
        return answers[most_alike(self._vectors([a.text for a in answers]), self.kept)[0]]

    def texts(self, question: str, template: Sequence[str] | None = None) -> list[list[int]]:
        """The token ids before and after the sound. There are two start tokens: upstream puts one
        first and lets the tokenizer put another before the question."""
        start = self.tokenizer.bos_id
        return [[start], [start, *self.tokenizer.encode(question)]]

    def close(self) -> None:
        super().close()
        self.__dict__.pop("_vectors", None)
