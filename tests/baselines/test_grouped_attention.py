"""Heads that share keys and values attend as transformers' own attention does."""

import copy

import pytest
import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from ovmer.baselines.decoding.grouped_attention import use_grouped_attention
from ovmer.baselines.decoding.row_cache import CACHE_ARGUMENT


def small(groups: int, attention: str = "sdpa") -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=48,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=groups,
        attn_implementation=attention,
    )
    return LlamaForCausalLM(config).eval()


@pytest.mark.parametrize("groups", [1, 2, 3])
@torch.inference_mode()
def test_a_step_and_a_prompt_are_those_of_transformers(groups):
    model, ids = small(groups), torch.arange(14).reshape(2, 7)
    mask = torch.ones(2, 8, dtype=torch.long)
    mask[1, :3] = 0  # padding before a shorter prompt
    cache, step = DynamicCache(config=model.config), torch.tensor([[7], [9]])
    prompt = model(ids, attention_mask=mask[:, :7], **{CACHE_ARGUMENT: cache}).logits
    again = copy.deepcopy(cache)
    expected = model(step, attention_mask=mask, **{CACHE_ARGUMENT: cache}).logits
    use_grouped_attention(model)
    assert model.config._attn_implementation == "ovmer_grouped"
    found = model(step, attention_mask=mask, **{CACHE_ARGUMENT: again}).logits
    # The same sums in float32, maybe by another kernel.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    empty = DynamicCache(config=model.config)
    once_more = model(ids, attention_mask=mask[:, :7], **{CACHE_ARGUMENT: empty}).logits
    torch.testing.assert_close(once_more, prompt, rtol=0, atol=0)


@pytest.mark.parametrize("model", [small(6), small(2, "eager")])
def test_others_stay_as_they_are(model):
    before = model.config._attn_implementation
    use_grouped_attention(model)
    assert model.config._attn_implementation == before
