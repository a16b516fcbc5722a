"""A run on transformers that vLLM could have decoded says so; others say nothing."""

import pytest

from ovmer.runners.sweeping.hint import faster_engine
from tests.runners.jobs import job


def hint(*overrides: str, clips: int = 40) -> str | None:
    made = job("dataset=sample", "generation=greedy", *overrides)
    return faster_engine(made, made.adapter, clips)


def test_a_port_on_transformers_is_told_of_vllm() -> None:
    said = hint("baseline=video_llava")
    assert said is not None
    assert said.startswith("engine=vllm decodes this model too")
    assert "installed: " in said


@pytest.mark.parametrize(
    "overrides",
    [
        ("baseline=lexicon",),  # no language model
        ("baseline=otter",),  # which vLLM cannot decode
        ("baseline=video_llava", "engine=vllm"),
        ("baseline=video_llava", "engine.quantization=4bit"),  # other words
        ("baseline=video_llava", "embeddings=true"),  # which needs transformers
        ("baseline=video_llava", "+baseline.generation.greedy.num_beams=3"),
        ("baseline=video_llava", "dry_run=true"),
    ],
    ids="heuristic cross-attention vllm switch embeddings beams dry".split(),
)
def test_no_other_run_is(overrides: tuple[str, ...]) -> None:
    assert hint(*overrides) is None


def test_few_clips_are_not_worth_the_start_of_vllm() -> None:
    assert hint("baseline=video_llava", clips=31) is None
