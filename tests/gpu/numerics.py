"""Attention backends and convolutions of a device against float64 on the CPU."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import conv2d, scaled_dot_product_attention

from ovmer.baselines.device import resolve
from tests.gpu.table import NOTE, SKIPPED, Row

_BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
_SHAPES = {"32 heads": (32, 32, 128), "28 heads, 4 of keys": (28, 4, 128), "16, 2": (16, 2, 80)}
_BOUNDS = {torch.float16: 5e-3, torch.bfloat16: 4e-2}
"""Of values of about 1, a few units in the last place of each type."""


def check(device: str) -> Iterator[Row]:
    """A row for each backend and shape of heads, and one for a convolution."""
    where = resolve(device).device
    for backend, kind in _BACKENDS.items():
        for name, heads in _SHAPES.items():
            yield _attention(where, backend, kind, name, heads)
    yield _convolution(where)


def _attention(
    device: torch.device, backend: str, kind: SDPBackend, name: str, heads: tuple[int, int, int]
) -> Row:
    """In half precision, causal and masked as a left-padded batch is."""
    texts, fine = list[str](), True
    for dtype, bound in _BOUNDS.items():
        for masked in (False, True):
            try:
                error = _error(device, kind, heads, dtype, masked)
            except RuntimeError:  # not made for this
                continue
            fine = fine and error < bound
            texts.append(f"{'padded' if masked else 'causal'} {str(dtype)[6:]} {error:.1e}")
    item = f"{backend}, {name}"
    if not texts:
        return Row("attention", item, SKIPPED, "this device has it not")
    if backend == "cudnn":  # switched off in runs
        return Row("attention", item, NOTE, ", ".join(texts))
    return Row.of("attention", item, fine, ", ".join(texts))


def _error(
    device: torch.device,
    kind: SDPBackend,
    heads: tuple[int, int, int],
    dtype: torch.dtype,
    masked: bool,
) -> float:
    """The largest difference from float64 on the CPU."""
    many, few, width = heads
    stream = torch.Generator().manual_seed(0)
    sizes = [(2, count, 96, width) for count in (many, few, few)]
    query, key, value = (torch.randn(size, generator=stream).to(dtype) for size in sizes)
    mask = torch.ones(96, 96).tril().bool().expand(2, 1, 96, 96).clone()
    mask[1, :, :, :40] = False
    kept = slice(40, None) if masked else slice(None)
    true = _attend(query.double(), key.double(), value.double(), mask if masked else None)
    with sdpa_kernel(kind):
        given = (each.to(device) for each in (query, key, value))
        found = _attend(*given, mask.to(device) if masked else None).double().cpu()
    return float((found - true)[:, :, kept].abs().max())


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """As transformers calls it: heads of keys are repeated where there is a mask."""
    if mask is None:
        return scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    repeated = query.shape[1] // key.shape[1]
    key, value = (each.repeat_interleave(repeated, 1) for each in (key, value))
    return scaled_dot_product_attention(query, key, value, attn_mask=mask)


def _convolution(device: torch.device) -> Row:
    stream = torch.Generator().manual_seed(0)
    pixels = torch.randn(2, 3, 224, 224, generator=stream)
    kernel = torch.randn(64, 3, 14, 14, generator=stream) / 24
    found = conv2d(pixels.to(device), kernel.to(device), stride=14).double().cpu()
    error = float((found - conv2d(pixels.double(), kernel.double(), stride=14)).abs().max())
    return Row.of("convolution", "float32", error < 1e-4, f"differs by {error:.1e} (in TF32: 1e-3)")
