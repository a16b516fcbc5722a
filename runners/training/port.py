"""Low-rank adapters in any port that has a plain language model."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovmer.adapters.affectgpt_prompts import question_and_answer
from ovmer.adapters.mllm import Mllm
from ovmer.adapters.question import QuestionTemplate
from ovmer.baselines.errors import ClipError, PrerequisiteError
from ovmer.runners.data import Clip
from ovmer.runners.job import Job
from ovmer.runners.training.examples import Example
from ovmer.runners.training.settings import TrainSettings
from ovmer.runners.training.trainable import FACE, FRAME, Trainable, some

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ovmer.baselines.training.step import Sample, SpecialTokens


class TrainablePort(Trainable):
    """Low-rank adapters in the language model of a port, and its connector if asked for."""

    def __init__(self, settings: TrainSettings, job: Job, folder: Path) -> None:
        super().__init__(settings, job, folder)
        recipe = self.recipe
        if recipe.lora.rank == 0 and not recipe.connectors:
            raise PrerequisiteError(
                "nothing would be trained: set train.lora.rank above 0, or name train.connectors"
            )
        if len(recipe.kinds) > 1 and set(recipe.kinds) - recipe.questions.keys():
            raise PrerequisiteError(
                "several train.kinds need a question each: "
                "'+train.questions.KIND=\"... {subtitle} ...\"'"
            )
        self._asking = {kind: self._adapter_for(kind) for kind in recipe.kinds}

    def _adapter_for(self, kind: str) -> Mllm:
        question = self.recipe.questions.get(kind)
        if question is None:
            return self.adapter
        return replace(
            self.adapter, prompt=QuestionTemplate(question, question.replace("{subtitle}", ""))
        )

    def lacks(self, example: Example) -> str:
        clip, wanted = example.clip, self.adapter.modalities
        having = {"video": self._picture(clip), "audio": clip.audio}
        asked = [kind for kind in having if kind in wanted]
        lost = [kind for kind in asked if having[kind] is None]
        return f"no {' and no '.join(lost)}" if lost and len(lost) == len(asked) else ""

    def _picture(self, clip: Clip) -> Path | None:
        return clip.face if self.visual == FACE else clip.video

    @property
    def hears(self) -> bool:
        return "audio" in self.adapter.modalities

    def sample(self, example: Example, kind: str) -> "Sample":
        from ovmer.baselines.training.step import Sample

        clip, wanted = example.clip, self.adapter.modalities
        item = self._asking[kind].prepare(
            self._picture(clip) if "video" in wanted else None,
            clip.audio if "audio" in wanted else None,
            clip.subtitle if self.job.uses_subtitle else None,
        )
        _, answer = question_and_answer(kind, example.values)
        return Sample(clip.name, item.inputs, self.adapter.tokenizer.encode(answer))

    def longest(self, examples: Sequence[Example]) -> int:
        import torch

        prompt = 0
        for example in examples:
            try:
                inputs = self.sample(example, self.recipe.kinds[0]).inputs
            except ClipError:
                continue
            with torch.no_grad():
                prompt = len(self.prompts([inputs])[0])
            break
        answers = [
            question_and_answer(kind, each.values)[1]
            for each in some(examples)
            for kind in self.recipe.kinds
        ]
        return prompt + max(len(self.adapter.tokenizer.encode(answer)) for answer in answers)

    def build(self, device: "torch.device", llm: "torch.dtype") -> "nn.Module":
        from ovmer.baselines.device import Placement
        from ovmer.baselines.training.lora import attach, restore, trained_beside

        built: Any = self.adapter.build(Placement(device, llm, remedy=""))
        self.model, self._device = built, device
        for name in self.recipe.connectors:
            part = dict(self.model.named_children()).get(name)
            if part is None or name == "llm":
                known = [n for n, _ in self.model.named_children() if n != "llm"]
                raise PrerequisiteError(
                    f"train.connectors: {type(self.model).__name__} has no module {name!r}; it has "
                    f"{', '.join(known)}"
                )
            part.float().requires_grad_(True)
        if self.lora is not None:
            attach(self.model.llm, self.lora)
        start = self.start
        if start is not None:
            self.check_start(start, trained_beside(start, self.model))
            restore(self.model, start)
        module: nn.Module = built
        return module

    def prompts(self, inputs: Sequence[Any]) -> "Sequence[Tensor]":
        from torch import Tensor

        from ovmer.baselines.transfer import to_device

        found = []
        for each in inputs:
            prompt = self.model.embed(to_device(each, self._device))
            if not isinstance(prompt, Tensor):
                raise PrerequisiteError(
                    f"{type(self.model).__name__} takes what it sees and hears inside its language "
                    "model, which train.step=port cannot train; choose another port"
                )
            found.append(prompt)
        return found

    @property
    def special_tokens(self) -> "SpecialTokens":
        from ovmer.baselines.training.step import SpecialTokens

        end = self.adapter.tokenizer.eos_id
        return SpecialTokens((), end, end)

    def save(self, folder: Path, iteration: int, loss: float) -> None:
        from ovmer.baselines.training.lora import save

        save(self.model, self.lora, folder, self.frozen_parts)

    def restore(self, folder: Path) -> None:
        from ovmer.baselines.training.lora import restore

        restore(self.model, folder)

    def trained(self, checkpoint: Path) -> dict[str, Any]:
        return {"checkpoint": {"tuned": checkpoint}}

    @property
    def visual(self) -> str:
        return str(self.settings.dataset.get("visual", FRAME))
