"""Attention of the newest token, for models in which several query heads share keys and values.

Wherever there is a mask, transformers repeats keys and values for every query head, at every token:
seven times for Qwen2.5-7B. The heads of a group can as well be several queries of one head, which
copies nothing.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

_NAME = "ovmer_grouped"


def use_grouped_attention(model: PreTrainedModel) -> None:
    """Have a plain decoder that attends by torch's own (`sdpa`) do so; others stay as they are."""
    config = model.config
    heads = getattr(config, "num_attention_heads", 0)
    if config._attn_implementation != "sdpa" or config.get_text_config() is not config:
        return
    if heads == getattr(config, "num_key_value_heads", heads):
        return
    AttentionInterface.register(_NAME, _attend)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    model.set_attn_implementation(_NAME)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **more: Any,
) -> tuple[Tensor, None]:
    """Shapes: query rows x heads x tokens x width, keys and values rows x groups x columns x width;
    returns rows x tokens x heads x width."""
    rows, heads, tokens, width = query.shape
    if tokens != 1 or attention_mask is None or more.get("position_bias") is not None:
        attended: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **more
        )
        return attended
    groups = key.shape[1]
    seen = scaled_dot_product_attention(
        query.view(rows, groups, heads // groups, width),
        key,
        value,
        attn_mask=attention_mask,
        dropout_p=more.get("dropout", 0.0),
        scale=more.get("scaling"),
    )
    return seen.reshape(rows, 1, heads, seen.shape[-1]), None
