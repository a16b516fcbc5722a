"""One step of training on any port with a plain language model.

    start token + prompt embeddings of the port + embeddings of answer and end token -> LLM -> loss

The loss is the mean over all learned tokens of the batch: those of the answer, and the end token.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

IGNORED = -100
"""The label of a position that is not learned, as transformers' losses have it."""


@dataclass(frozen=True)
class Sample:
    """One clip with the question that is asked of it and the answer to be learned."""

    name: str
    inputs: Any
    """The input of the port's `embed`."""
    answer: Sequence[int]
    """Token ids, without the end token."""


@dataclass(frozen=True)
class SpecialTokens:
    """The token ids around prompt and answer.

    `start` is empty where prompts begin with their own. The end token is learned, but hidden by the
    attention mask where it is also `pad`, as the AffectGPT authors' `ids != pad` does; as the last
    of its row nothing attends to it.
    """

    start: Sequence[int]
    end: int
    pad: int


@dataclass(frozen=True)
class TrainingBatch:
    """Rows of one length: embeds [rows, length, width]; mask and labels [rows, length]."""

    embeds: Tensor
    mask: Tensor
    labels: Tensor


def assemble(
    prompts: Sequence[Tensor],
    answers: Sequence[Sequence[int]],
    embed: nn.Module,
    frame: SpecialTokens,
) -> TrainingBatch:
    """Prompt embeddings (each length x width) and answers (ids) side by side, filled up at the
    right; `embed` turns ids into embeddings."""
    device = prompts[0].device
    heads = [len(frame.start) + len(prompt) for prompt in prompts]
    length = max(head + len(answer) + 1 for head, answer in zip(heads, answers, strict=True))
    labels = torch.full((len(prompts), length), IGNORED, device=device)
    mask = torch.zeros_like(labels, dtype=torch.bool)
    rows = []
    for index, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        learned = torch.tensor([*answer, frame.end], device=device)
        end = heads[index] + len(learned)
        labels[index, heads[index] : end] = learned
        mask[index, : end - (frame.end == frame.pad)] = True
        start = torch.tensor(list(frame.start), dtype=torch.long, device=device)
        padding = torch.full((length - end,), frame.pad, device=device)
        before, after = embed(start), embed(torch.cat([learned, padding]))
        rows.append(torch.cat([before, prompt.to(after), after]))
    return TrainingBatch(torch.stack(rows), mask, labels)


class ModelWithLoss(nn.Module):
    """A port in training: a batch of samples -> the loss.

    Modules that hold nothing to be trained stay in evaluation mode, unless `frozen_in_train_mode`.
    """

    def __init__(
        self,
        model: nn.Module,
        prompts: Callable[[Sequence[Any]], Sequence[Tensor]],
        frame: SpecialTokens,
        frozen_in_train_mode: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.frame = frame
        self._prompts = prompts
        self._frozen_in_train_mode = frozen_in_train_mode

    def train(self, mode: bool = True) -> "ModelWithLoss":
        """Set train mode, except for frozen parts."""
        super().train(mode)
        if mode and not self._frozen_in_train_mode:
            for part in self.model.children():
                if not any(each.requires_grad for each in part.parameters()):
                    part.eval()
        return self

    def batch(self, samples: Sequence[Sample]) -> TrainingBatch:
        """The language model's input."""
        prompts = self._prompts([sample.inputs for sample in samples])
        llm: Any = self.model.llm
        embed = llm.get_input_embeddings()
        return assemble(prompts, [sample.answer for sample in samples], embed, self.frame)

    def forward(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """`loss`: the mean over the learned tokens of all samples."""
        batch = self.batch(samples)
        llm: Any = self.model.llm
        found = llm(
            inputs_embeds=batch.embeds,
            attention_mask=batch.mask.long(),
            labels=batch.labels,
            use_cache=False,
        )
        return {"loss": found.loss}

    def gradient_checkpointing_enable(self, **options: Any) -> None:
        """Enable it in the language model, whose activations fill the memory."""
        llm: Any = self.model.llm
        llm.gradient_checkpointing_enable(**options)
        llm.enable_input_require_grads()
