"""Continuous batching gives each prompt the words that transformers' `generate` gives it alone."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from ovmer.baselines.decoding.answers import Generated
from ovmer.baselines.decoding.continuous import ContinuousEngine, transformers_engine
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.decoding.transformers_engine import TransformersEngine
from ovmer.baselines.errors import ClipError, OutOfMemory
from ovmer.baselines.miniature import random_tensors
from tests.baselines.test_decoding import VOCABULARY, WIDTH, Letters

GREEDY = GenerationSettings(max_new_tokens=16)
SAMPLED = replace(GREEDY, do_sample=True, temperature=0.9, top_p=0.9, top_k=40)
SETTINGS = {
    "greedy": GREEDY,
    "sampled": SAMPLED,
    "penalty": replace(GREEDY, repetition_penalty=1.3),
    "n-grams": replace(GREEDY, no_repeat_ngram_size=3),
    "minimum": replace(GREEDY, min_new_tokens=9),
    "bad words": replace(GREEDY, bad_words=["a", "bc"]),
    "stop": replace(GREEDY, stop=["A", "fg"]),
    "length": replace(GREEDY, max_length=60),
    "all": replace(SAMPLED, repetition_penalty=1.1, min_new_tokens=3, stop=["k"], bad_words=["b"]),
}
BOUNDS = ((64, 0), (5, 0), (8, 200))
"""Rows, tokens."""


@pytest.fixture(scope="module")
def llm() -> LlamaForCausalLM:
    """With two heads that share keys and values, as many models have."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = LlamaForCausalLM(config).eval()
    weights = random_tensors(model, seed=3)
    weights["lm_head.weight"] *= 0.6
    model.load_state_dict(weights, strict=True)
    return model


def prompts_of(kind: str) -> list[Any]:
    """Of 1 to 50 tokens; `shared` begin with the same 30 ids, but for one."""
    stream = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 50, (16,), generator=stream).tolist()
    if kind == "embeddings":
        return [torch.randn(length, WIDTH, generator=stream) for length in lengths]
    begin = torch.randint(3, VOCABULARY, (30,), generator=stream).tolist() * (kind == "shared")
    own = [torch.randint(3, VOCABULARY, (each,), generator=stream).tolist() for each in lengths]
    return [[1, *begin, *each] for each in own[:-1]] + [[1, *own[-1]]]


@pytest.mark.parametrize("kind", ["embeddings", "shared"])
@pytest.mark.parametrize("name", SETTINGS)
def test_words_are_those_of_generate(llm: LlamaForCausalLM, kind: str, name: str) -> None:
    settings, prompts = SETTINGS[name], prompts_of(kind)
    alone = TransformersEngine(llm, Letters(), settings)
    expected = [alone.generate([each], [seed])[0] for seed, each in enumerate(prompts)]
    assert len({each.text for each in expected}) > len(prompts) // 2
    engine = ContinuousEngine(llm, Letters(), settings)
    for rows, tokens in BOUNDS:
        engine.limit(rows, tokens)
        assert engine.generate(prompts, range(len(prompts))) == expected, (rows, tokens)


def test_a_prompt_enters_when_another_has_ended(llm: LlamaForCausalLM) -> None:
    """Eight rows, the first of which answers to its limit: the others do not wait for it."""
    settings = replace(SAMPLED, max_new_tokens=60, stop=list("abcdefgh"))
    engine = ContinuousEngine(llm, Letters(), settings)
    prompts = prompts_of("ids") * 4
    lengths = [each.new_tokens for each in engine.generate(prompts, range(len(prompts)))]
    assert max(lengths) > 4 * sorted(lengths)[len(lengths) // 2], "lengths are spread"
    engine.limit(8, 0)
    steps = list[int]()
    step = engine.step

    def counted(rows: Sequence[Any], cache: Any) -> Tensor:
        steps.append(len(rows))
        return step(rows, cache)

    engine.step = counted  # type: ignore[method-assign]
    drawn = list[int]()

    def asked() -> Iterator[tuple[int, tuple[Any, int]]]:
        for index, prompt in enumerate(prompts):
            drawn.append(index)
            yield index, (prompt, index)

    order = list[int]()
    for key, _ in engine.stream(asked()):
        order.append(key)
        assert len(drawn) <= len(order) + 8, "no more are drawn than there are rows"
    assert sorted(order) == list(range(len(prompts))) != order
    # Padded batches would step as long as the longest of each eight.
    padded = sum(8 * max(lengths[at : at + 8]) for at in range(0, len(lengths), 8))
    assert sum(steps) < sum(lengths) <= padded // 2
    assert max(steps) == 8


def test_what_prompts_share_is_computed_once(llm: LlamaForCausalLM) -> None:
    prompts = prompts_of("shared")[:-1]
    settings = replace(GREEDY, min_new_tokens=GREEDY.max_new_tokens)
    engine = ContinuousEngine(llm, Letters(), settings)
    computed = list[int]()
    hook = llm.model.layers[0].register_forward_pre_hook(
        lambda module, given: computed.append(given[0].shape[0] * given[0].shape[1])
    )
    try:
        engine.limit(4, 0)
        engine.generate(prompts, range(len(prompts)))
        shared, _ = sum(computed), computed.clear()
        engine.limit(1, 0)
        engine.generate(prompts, range(len(prompts)))
    finally:
        hook.remove()
    alone = sum(computed)
    assert alone == sum(map(len, prompts)) + len(prompts) * (GREEDY.max_new_tokens - 1)
    assert shared < alone - 31 * (len(prompts) - 4) + 4 * 50, "but for the first four"


def test_memory_that_runs_out_costs_rows_and_no_words(
    llm: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = prompts_of("ids")
    engine = ContinuousEngine(llm, Letters(), SAMPLED)
    expected = engine.generate(prompts, range(len(prompts)))
    step, refused = engine.step, list[int]()

    def full(rows: Sequence[Any], cache: Any) -> Tensor:
        if len(rows) > 3 and len(rows[0].ids) > 4:
            refused.append(len(rows))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return step(rows, cache)

    monkeypatch.setattr(engine, "step", full)
    assert engine.generate(prompts, range(len(prompts))) == expected
    assert 1 <= len(refused) < 5
    assert refused[0] > 12, "most had begun"


def test_only_the_prompt_that_fails_alone_has_no_answer(llm: LlamaForCausalLM) -> None:
    prompts = prompts_of("ids")
    engine = ContinuousEngine(llm, Letters(), GREEDY)
    expected = engine.generate(prompts, range(len(prompts)))
    prompts[5] = [1, VOCABULARY + 7]  # no such token
    found = engine.generate(prompts, range(len(prompts)))
    assert isinstance(found[5], ClipError)
    assert "IndexError" in str(found[5])
    assert found[:5] + found[6:] == expected[:5] + expected[6:]


def test_a_prompt_that_does_not_fit_alone_is_out_of_memory(
    llm: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = ContinuousEngine(llm, Letters(), GREEDY)
    prefill = engine.prefill

    def full(rows: Sequence[Any], *known: Any) -> Any:
        if any(len(row.prompt) == 40 for row in rows):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return prefill(rows, *known)

    monkeypatch.setattr(engine, "prefill", full)
    asked = [(key, ([1] * length, 0)) for key, length in enumerate((7, 9, 40, 11, 12))]
    found = dict(engine.stream(asked))
    assert [isinstance(found[key], OutOfMemory) for key in range(5)] == [0, 0, 1, 0, 0]
    with pytest.raises(MemoryError, match="use a larger GPU"):
        engine.generate([[1] * 40], [0])


def test_what_a_row_leaves_behind_that_is_not_finite_harms_no_later_one(
    llm: LlamaForCausalLM,
) -> None:
    prompts = prompts_of("embeddings")
    engine = ContinuousEngine(llm, Letters(), GREEDY)
    engine.limit(2, 0)
    expected = engine.generate(prompts, range(len(prompts)))
    prompts[1] = torch.full((49, WIDTH), torch.nan)
    found = engine.generate(prompts, range(len(prompts)))
    assert [isinstance(each, Generated) for each in found] == [i != 1 for i in range(len(prompts))]
    assert found[2:] == expected[2:]


def test_models_that_do_not_see_all_tokens_keep_generate(llm: LlamaForCausalLM) -> None:
    assert isinstance(transformers_engine(llm, Letters(), GREEDY), ContinuousEngine)
    beams = replace(GREEDY, num_beams=2)
    assert not isinstance(transformers_engine(llm, Letters(), beams), ContinuousEngine)
    window = Qwen2Config(
        hidden_size=32,
        intermediate_size=32,
        num_attention_heads=2,
        num_key_value_heads=2,
        vocab_size=40,
        num_hidden_layers=2,
        use_sliding_window=True,
        sliding_window=8,
        max_window_layers=1,
    )
    assert not ContinuousEngine.supports(Qwen2ForCausalLM(window), GREEDY)

    class Own(LlamaForCausalLM):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError

    assert not ContinuousEngine.supports(Own(llm.config), GREEDY)
