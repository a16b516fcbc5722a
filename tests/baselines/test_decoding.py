"""Prompts to text on a tiny random Llama: an answer depends on its prompt and its seed alone."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, LogitsProcessorList

from ovmer.baselines.decoding.answers import Generated
from ovmer.baselines.decoding.continuous import transformers_engine
from ovmer.baselines.decoding.sampling import DrawPerRow, PresencePenalty, draw, warpers
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.errors import PrerequisiteError
from ovmer.baselines.miniature import random_tensors

VOCABULARY, WIDTH = 60, 32
GREEDY = GenerationSettings(max_new_tokens=12)
SAMPLED = GenerationSettings(
    max_new_tokens=12, do_sample=True, temperature=0.9, top_p=0.9, top_k=40, repetition_penalty=1.1
)
BEAMS = GenerationSettings(max_new_tokens=8, num_beams=3, length_penalty=0.8)
BEAM_SAMPLED = replace(BEAMS, do_sample=True, temperature=0.7, top_p=0.9)


class Letters:
    """Each id is one character."""

    bos_id, eos_id, stop_ids = 1, 2, (2,)

    def encode(self, text: str) -> list[int]:
        return [ord(letter) - 62 for letter in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(62 + i) for i in ids)


@pytest.fixture(scope="module")
def llm() -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    model = LlamaForCausalLM(config).eval()
    weights = random_tensors(model, seed=3)
    weights["lm_head.weight"] *= 0.6  # so that sampling has some choice
    model.load_state_dict(weights, strict=True)
    return model


@pytest.fixture(scope="module")
def prompts() -> list[Tensor]:
    stream = torch.Generator().manual_seed(0)
    return [torch.randn(length, WIDTH, generator=stream) for length in (5, 17, 1, 9, 30)]


def answers(
    llm: LlamaForCausalLM,
    settings: GenerationSettings,
    prompts: Sequence[Tensor | Sequence[int]],
    seeds: Sequence[int] | None = None,
) -> list[Generated]:
    seeds = range(len(prompts)) if seeds is None else seeds
    return transformers_engine(llm, Letters(), settings).generate(prompts, seeds)


@pytest.mark.parametrize("settings", [GREEDY, SAMPLED, BEAMS, BEAM_SAMPLED])
def test_a_batch_gives_each_clip_what_it_gets_alone(
    llm: LlamaForCausalLM, prompts: list[Tensor], settings: GenerationSettings
) -> None:
    together = answers(llm, settings, prompts)
    alone = [answers(llm, settings, [each], [i])[0] for i, each in enumerate(prompts)]
    turned = answers(llm, settings, prompts[::-1], range(len(prompts))[::-1])[::-1]
    assert together == alone == turned
    assert len({answer.text for answer in together}) > 1


def test_nothing_is_drawn_from_the_global_stream(
    llm: LlamaForCausalLM, prompts: list[Tensor]
) -> None:
    for settings in (SAMPLED, BEAM_SAMPLED):
        torch.manual_seed(5)
        state = torch.get_rng_state()
        first = answers(llm, settings, prompts)
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(6)
        assert answers(llm, settings, prompts) == first


def test_the_seed_makes_the_words(llm: LlamaForCausalLM, prompts: list[Tensor]) -> None:
    same = [prompts[0]] * 12
    assert len({each.text for each in answers(llm, SAMPLED, same, range(12))}) > 6
    assert len({each.text for each in answers(llm, SAMPLED, same, [4] * 12)}) == 1


def test_ids_and_their_embeddings_are_the_same_prompt(llm: LlamaForCausalLM) -> None:
    ids = [[1, 5, 6, 7], [1, 40]]
    table = llm.get_input_embeddings()
    vectors = [table(torch.tensor(each)).detach() for each in ids]
    assert answers(llm, GREEDY, ids) == answers(llm, GREEDY, vectors)
    assert [each.prompt_tokens for each in answers(llm, GREEDY, ids)] == [4, 2]


def test_padding_takes_no_part_in_the_penalty_on_repetition(llm: LlamaForCausalLM) -> None:
    settings = replace(GREEDY, repetition_penalty=1.8)
    engine = transformers_engine(llm, Letters(), settings)
    prompts = [[1, *range(3 + n, 7 + 2 * n)] for n in range(12)]
    together = engine.generate(prompts, seeds=range(12))
    alone = [engine.generate([prompt], [0])[0] for prompt in prompts]
    assert together == alone
    assert any(0 in answer.ids for answer in alone)  # the id that padding usually is


def test_presence_is_penalised_in_the_answer_alone_and_once(llm: LlamaForCausalLM) -> None:
    ids = [[1, 5, 6, 7], [1, *range(3, 30)]]
    settings = replace(GREEDY, presence_penalty=2.0)
    assert answers(llm, replace(GREEDY, presence_penalty=0.0), ids) == answers(llm, GREEDY, ids)
    together = answers(llm, settings, ids)
    assert together == [answers(llm, settings, [each])[0] for each in ids]
    scores = torch.tensor([[3.0, 2.5, 2.0]])
    penalty = PresencePenalty(0.75, known=2)
    assert penalty(torch.tensor([[1, 1]]), scores).tolist() == scores.tolist()
    assert penalty(torch.tensor([[1, 1, 0, 0]]), scores).tolist() == [[2.25, 2.5, 2.0]]


def test_unlikely_tokens_are_not_drawn_with_min_p() -> None:
    scores = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    (cut,) = warpers(GenerationSettings(do_sample=True, min_p=0.5))
    assert cut(torch.zeros(1, 1, dtype=torch.long), scores).isfinite().tolist() == [
        [True, True, False, False]
    ]


def test_draws_follow_the_distribution(llm: LlamaForCausalLM) -> None:
    """Chi-square of 4,000 first tokens against transformers' own warped probabilities."""
    prompt = torch.tensor([[1, 9, 8, 30]])
    logits = llm(prompt).logits[:, -1].detach()
    warped = LogitsProcessorList(warpers(SAMPLED))(prompt, logits)
    expected = warped.double().softmax(-1)[0]
    streams = [torch.Generator().manual_seed(seed) for seed in range(4000)]
    drawn = draw(warped.expand(4000, -1), streams)[:, 0]
    counts = torch.bincount(drawn, minlength=VOCABULARY)
    possible = expected > 0
    assert 5 < possible.sum() < VOCABULARY
    assert counts[~possible].sum() == 0
    frequent = expected * 4000 >= 5
    assert chisquare(_pooled(counts, frequent), _pooled(expected * 4000, frequent)).pvalue > 1e-3


def _pooled(values: Tensor, frequent: Tensor) -> list[float]:
    """Rare tokens together, as the test needs five expected in each group."""
    rest = values[~frequent].sum().item()
    return [*values[frequent].tolist(), *([rest] if rest else [])]


def test_each_step_draws_anew() -> None:
    draw = DrawPerRow([7])
    flat = torch.zeros(1, 1000)
    tokens = {int(draw(torch.empty(1, 0), flat).argmax()) for _ in range(20)}
    assert len(tokens) > 15


def test_scores_that_are_not_numbers_do_not_crash() -> None:
    scores = torch.full((1, 10), torch.nan)
    assert 0 <= int(DrawPerRow([0])(torch.empty(1, 0), scores).argmax()) < 10


def test_stop_strings_end_each_row_by_itself(llm: LlamaForCausalLM, prompts: list[Tensor]) -> None:
    free = answers(llm, GREEDY, prompts)
    stop = [free[0].text[3:5], free[1].text[6:8]]
    stopped = answers(llm, replace(GREEDY, stop=stop), prompts)
    for whole, cut in zip(free, stopped, strict=True):
        ends = [whole.text.index(each) for each in stop if each in whole.text]
        assert cut.text == whole.text[: min(ends, default=None)]
        assert cut.new_tokens == min((end + 2 for end in ends), default=whole.new_tokens)
    assert stopped[0].new_tokens < free[0].new_tokens


def test_bad_words_and_repeated_ngrams_do_not_come(
    llm: LlamaForCausalLM, prompts: list[Tensor]
) -> None:
    free = answers(llm, GREEDY, prompts)[0].text
    without = answers(llm, replace(GREEDY, bad_words=[free[:1]]), prompts)[0].text
    assert free[0] not in without
    fresh = answers(llm, replace(GREEDY, no_repeat_ngram_size=1), prompts)[0].text
    assert len(set(fresh)) == len(fresh)


def test_the_checkpoints_own_settings_do_not_creep_in(
    llm: LlamaForCausalLM, prompts: list[Tensor]
) -> None:
    expected = answers(llm, GREEDY, prompts)
    llm.generation_config.repetition_penalty = 9.0
    llm.generation_config.min_new_tokens = 5
    assert answers(llm, GREEDY, prompts) == expected


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", 0.0),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("max_new_tokens", 0),
        ("num_beams", 0),
        ("min_p", 1.5),
        ("presence_penalty", 3.0),
    ],
)
def test_settings_out_of_range_are_named(key: str, value: float) -> None:
    with pytest.raises(PrerequisiteError, match=rf"^{key} of the generation preset is {value}"):
        GenerationSettings(**{key: value})  # type: ignore[arg-type]
