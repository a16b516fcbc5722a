"""OneLLM's universal projection: experts weighed by a router, and each sense's own ends.

What leaves no trace in the files is from `model/LLM/onellm.py` of csuhan/OneLLM at 8587a476.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention, silu
from transformers.models.llama.modeling_llama import LlamaRMSNorm

TOKENS = 30
"""Vectors that a clip becomes."""
MEL_BINS, MEL_FRAMES = 128, 1024
_EXPERT_HEADS = 16
_PATCH, _STEP = 16, 10


class SoundPatches(nn.Module):
    """A mel spectrogram in overlapping patches, each with its position."""

    def __init__(self, width: int) -> None:
        super().__init__()
        high, wide = ((side - _PATCH) // _STEP + 1 for side in (MEL_BINS, MEL_FRAMES))
        self.patches = nn.Conv2d(1, width, _PATCH, stride=_STEP)
        self.positions = nn.Parameter(torch.empty(1 + high * wide, width))

    def forward(self, mel: Tensor, class_token: Tensor) -> Tensor:
        """1 x 128 x 1024 -> 1 x 1213 x width."""
        patches = self.patches(mel[None]).flatten(2).transpose(1, 2)
        return torch.cat([class_token[None, None], patches], dim=1) + self.positions


class ExpertAttention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.wq, self.wk, self.wv, self.wo = (nn.Linear(width, width, bias=False) for _ in "qkvo")

    def forward(self, x: Tensor) -> Tensor:
        """Length x width -> the same; all look at all, without regard to order."""
        q, k, v = (w(x).unflatten(-1, (_EXPERT_HEADS, -1)) for w in (self.wq, self.wk, self.wv))
        heads = (part.transpose(0, 1)[None] for part in (q, k, v))
        found: Tensor = self.wo(scaled_dot_product_attention(*heads)[0].transpose(0, 1).flatten(1))
        return found


class GatedFeedForward(nn.Module):
    def __init__(self, width: int, ffn: int) -> None:
        super().__init__()
        self.w1, self.w3 = (nn.Linear(width, ffn, bias=False) for _ in range(2))
        self.w2 = nn.Linear(ffn, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.w2(silu(self.w1(x)) * self.w3(x))
        return found


class ExpertBlock(nn.Module):
    """A block of LLaMA without rotary positions and without a mask."""

    def __init__(self, width: int, ffn: int, eps: float) -> None:
        super().__init__()
        self.attention = ExpertAttention(width)
        self.feed_forward = GatedFeedForward(width, ffn)
        self.attention_norm = LlamaRMSNorm(width, eps)
        self.ffn_norm = LlamaRMSNorm(width, eps)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.ffn_norm(x))


class Router(nn.Module):
    """How much each expert has to say about each position."""

    def __init__(self, width: int, ffn: int, experts: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, ffn)
        self.fc2 = nn.Linear(ffn, experts)

    def forward(self, x: Tensor) -> Tensor:
        """Length x width -> length x experts, before the sigmoid."""
        found: Tensor = self.fc2(gelu(self.fc1(x)))
        return found


class SenseProjection(nn.Module):
    """The modules of one sense around the shared experts."""

    def __init__(self, width: int, router_ffn: int, experts: int, llm: int) -> None:
        super().__init__()
        self.into = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))
        self.tokens = nn.Parameter(torch.empty(1, TOKENS, width))
        self.router = Router(width, router_ffn, experts)
        self.out_of = nn.Sequential(nn.Linear(width, llm), nn.LayerNorm(llm))
        self.start = nn.Parameter(torch.empty(1, 1, llm))
        self.end = nn.Parameter(torch.empty(1, 1, llm))

    def forward(self, perceived: Tensor, experts: nn.ModuleList) -> Tensor:
        """Length x width -> (start, 30 tokens, end) x the language model's width."""
        x = torch.cat([self.tokens[0], self.into(perceived)])
        shares = self.router(x[:TOKENS]).sigmoid()
        shares = shares / shares.sum(dim=-1, keepdim=True)
        opinions = torch.stack([expert(x)[:TOKENS] for expert in experts], dim=-1)
        tokens = self.out_of((opinions * shares[:, None]).sum(dim=-1))
        return torch.cat([self.start[0], tokens, self.end[0]])
