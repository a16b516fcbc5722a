"""The engine that decodes with `generate` of transformers, in left-padded batches."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)

from ovmer.baselines.decoding.answers import (
    AnswerReader,
    ConditionedPrompt,
    Generated,
    MediaPrompt,
    NotFinite,
    Prompt,
)
from ovmer.baselines.decoding.finite import FirstOrigin
from ovmer.baselines.decoding.hidden_states import PromptStates, prompt_states
from ovmer.baselines.decoding.memory import batch_tokens
from ovmer.baselines.decoding.sampling import (
    DrawPerRow,
    FiniteScores,
    bad_words_ids,
    penalties,
    warpers,
)
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.errors import ClipError
from ovmer.baselines.tokenizer import Tokenizer


class TransformersEngine:
    """Prompts -> texts with a causal language model of transformers.

    In float32 an answer does not depend on the other prompts of its batch.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Tokenizer,
        settings: GenerationSettings,
        dtype_key: str = "machine.dtype",
    ) -> None:
        """`dtype_key` is the setting of the model's data type, which messages name."""
        self._model = model
        self._dtype_key = dtype_key
        self._trace = FirstOrigin()
        self._tokenizer = tokenizer
        self._settings = settings
        self._reader = AnswerReader(tokenizer, settings)
        self.batch_tokens = batch_tokens(model.config, model.dtype, _devices_of(model))
        """Tokens of a batch that fits the free memory; 0: any number."""
        # The checkpoint's own generation settings must not fill in what ours leave open.
        model.generation_config = GenerationConfig()

    def generate(
        self, prompts: Sequence[Prompt], seeds: Sequence[int]
    ) -> list[Generated | ClipError]:
        """One answer per prompt. `seeds` start the random stream of each.

        A prompt with scores that are NaN or infinite has a NotFinite instead.

        Prompts are all of one kind. Errors of the device pass through.
        """
        settings = self._settings
        if settings.num_beams == 1 or not (settings.do_sample or settings.max_length):
            return self._batches(prompts, seeds)
        # One clip at a time: beam sampling draws from torch's global stream, and where beams end
        # shapes which of them wins.
        devices = [self._model.device] if self._model.device.type == "cuda" else []
        answers = list[Generated | ClipError]()
        for prompt, seed in zip(prompts, seeds, strict=True):
            with torch.random.fork_rng(devices=devices):
                torch.manual_seed(seed)
                answers += self._batch([prompt], [seed])
        return answers

    @torch.inference_mode()
    def prompt_states(self, prompt: Prompt, features: Sequence[Tensor]) -> PromptStates:
        """Hidden states of one prompt; see `hidden_states.prompt_states`."""
        return prompt_states(self._model, prompt, self._padded([prompt]), features)

    def _batches(
        self, prompts: Sequence[Prompt], seeds: Sequence[int]
    ) -> list[Generated | ClipError]:
        """Prompts whose media cannot be batched are answered separately."""
        groups: dict[object, list[int]] = {}
        for index, prompt in enumerate(prompts):
            kind = prompt.kind if isinstance(prompt, MediaPrompt) else None
            groups.setdefault(kind, []).append(index)
        answers: dict[int, Generated | ClipError] = {}
        for group in groups.values():
            batch = self._batch([prompts[i] for i in group], [seeds[i] for i in group])
            answers |= zip(group, batch, strict=True)
        return [answers[index] for index in range(len(prompts))]

    @torch.inference_mode()
    def _batch(
        self, prompts: Sequence[Prompt], seeds: Sequence[int]
    ) -> list[Generated | ClipError]:
        settings = self._settings
        limits = [self._reader.limit(len(prompt)) for prompt in prompts]
        inputs = self._padded(prompts)
        known = 0 if "inputs_embeds" in inputs else inputs["input_ids"].shape[1]
        scores = FiniteScores()
        processors = LogitsProcessorList([scores, *penalties(settings, known)])
        if settings.do_sample and settings.num_beams == 1:
            processors.extend([*warpers(settings), DrawPerRow(seeds)])
        criteria = StoppingCriteriaList()
        if settings.stop:
            criteria.append(_StopStrings(self._reader, known))
        with last_logits_only(self._model):
            rows = self._model.generate(
                **inputs,
                generation_config=self._config(max(1, *limits)),
                logits_processor=processors,
                stopping_criteria=criteria,
            )
        answers: list[Generated | ClipError] = [
            self._reader.read(row[:limit], len(prompt))
            for row, limit, prompt in zip(rows[:, known:].tolist(), limits, prompts, strict=True)
        ]
        for index, is_finite in enumerate(scores.rows(len(prompts))):
            if not is_finite:
                answers[index] = self._not_finite(prompts[index])
        return answers

    def _not_finite(self, prompt: Prompt) -> NotFinite:
        """The error of one prompt; the first names the layer, for which the prompt is read again.

        Encoders of chat models are within `generate`.
        """
        once = GenerationConfig(max_new_tokens=1, do_sample=False, pad_token_id=0)

        def again() -> None:
            self._model.generate(**self._padded([prompt]), generation_config=once)

        where = self._trace(self._model, again)
        return NotFinite("the scores of the model are", self._dtype_key, where)

    def _config(self, new_tokens: int) -> GenerationConfig:
        settings = self._settings
        config = GenerationConfig(
            max_new_tokens=new_tokens,
            min_new_tokens=settings.min_new_tokens or None,
            do_sample=False,
            num_beams=settings.num_beams,
            bad_words_ids=bad_words_ids(settings, self._tokenizer) or None,
            eos_token_id=list(self._tokenizer.stop_ids),
            pad_token_id=self._tokenizer.eos_id,
        )
        if settings.num_beams > 1:
            config.length_penalty = settings.length_penalty
            config.early_stopping = settings.early_stopping
            if settings.do_sample:
                config.update(
                    do_sample=True,
                    temperature=settings.temperature,
                    top_k=settings.top_k,
                    top_p=settings.top_p,
                    min_p=settings.min_p or None,
                )
        return config

    def _padded(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        device = self._model.device
        if conditioned := [prompt for prompt in prompts if isinstance(prompt, ConditionedPrompt)]:
            media = torch.stack([prompt.media for prompt in conditioned])
            return self._padded([prompt.ids for prompt in conditioned]) | {"media": media}
        if perceived := [prompt for prompt in prompts if isinstance(prompt, MediaPrompt)]:
            return self._padded([prompt.ids for prompt in perceived]) | self._media(perceived)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        columns = torch.arange(int(lengths.max()), device=device)
        mask = (columns >= lengths.max() - lengths[:, None]).long()
        if isinstance(prompts[0], Tensor):
            rows = [prompt.to(device, self._model.dtype) for prompt in prompts]  # type: ignore[union-attr]
            name = "inputs_embeds"
        else:
            rows = [torch.as_tensor(prompt, device=device) for prompt in prompts]
            name = "input_ids"
        padded = pad_sequence(rows, batch_first=True, padding_side="left")
        if name == "input_ids":
            # The penalty on repetition looks at the padding too, so let that be a token which the
            # prompt has anyway.
            first = torch.stack([row[0] for row in rows])
            padded = padded.where(mask.bool(), first[:, None])
        return {name: padded, "attention_mask": mask}

    def _media(self, prompts: Sequence[MediaPrompt]) -> dict[str, Any]:
        device, dtype = self._model.device, self._model.dtype
        media: dict[str, Any] = {
            name: pad_sequence(
                [prompt.per_token[name] for prompt in prompts],
                batch_first=True,
                padding_side="left",
            ).to(device)
            for name in prompts[0].per_token
        }
        for name in prompts[0].features:
            axis = -1 if name in prompts[0].packed else 0
            features = torch.cat([prompt.features[name] for prompt in prompts], axis)
            # One number a medium is a time (seconds per grid), which half precision would move.
            is_cast = features.is_floating_point() and features.dim() > 1
            media[name] = features.to(device, dtype if is_cast else None)
        return media | dict(prompts[0].switches)

    def close(self) -> None:
        """The model is its owner's to free."""


def _devices_of(model: PreTrainedModel) -> list[torch.device]:
    """Those that the model is spread over (`device_map.connect`, or transformers)."""
    where = getattr(model, "hf_device_map", None) or {"": model.device}
    return [torch.device(device) for device in dict.fromkeys(where.values())]


@contextmanager
def last_logits_only(model: PreTrainedModel) -> Iterator[dict[str, int]]:
    """The arguments by which `forward` computes logits for the last position alone: for all of a
    long prompt they take gigabytes. Classes that have no such argument are given what they need."""
    head = model.get_output_embeddings()
    if head is None or "logits_to_keep" in inspect.signature(model.forward).parameters:
        yield {} if head is None else {"logits_to_keep": 1}
        return
    hook = head.register_forward_pre_hook(lambda module, given: (given[0][:, -1:], *given[1:]))
    try:
        yield {}
    finally:
        hook.remove()


class _StopStrings(StoppingCriteria):
    """Ends each row as soon as its new text holds one of the strings."""

    def __init__(self, reader: AnswerReader, known: int) -> None:
        self._reader = reader
        self._known = known

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: object) -> Tensor:
        found = [self._reader.has_stop(row) for row in input_ids[:, self._known :].tolist()]
        return torch.tensor(found, device=input_ids.device)
