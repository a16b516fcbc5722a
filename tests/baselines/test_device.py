"""Devices, and estimates of a GPU's memory, with a GPU that is only pretended."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
import transformers

from ovmer.baselines.decoding.engine_settings import VllmSettings
from ovmer.baselines.decoding.memory import batch_tokens, cache_bytes
from ovmer.baselines.device import (
    GIB,
    attention_backends,
    free_memory,
    limit_memory,
    memory_of,
    resolve,
)
from ovmer.baselines.errors import PrerequisiteError
from ovmer.baselines.faults import is_device_lost, is_out_of_memory
from ovmer.baselines.llama import llama_config

CUDA = torch.device("cuda")
HALF = torch.float16


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A GPU of 24 GiB, 14 of which torch's tensors take, 2 torch's cache and 1 another program."""
    state = SimpleNamespace(total=24 * GIB, others=1 * GIB, used=14 * GIB, cached=2 * GIB)

    def free(device: object) -> tuple[int, int]:
        return state.total - state.others - state.used - state.cached, state.total

    cuda = torch.cuda
    monkeypatch.setattr(cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda, "device_count", lambda: 1)
    monkeypatch.setattr(cuda, "mem_get_info", free)
    monkeypatch.setattr(cuda, "memory_reserved", lambda device: state.used + state.cached)
    monkeypatch.setattr(cuda, "memory_allocated", lambda device: state.used)
    monkeypatch.setattr(cuda, "set_per_process_memory_fraction", lambda share, device: None)
    yield state
    limit_memory(1.0)


@pytest.mark.parametrize("device", ["mps", "xpu", "meta"])
def test_devices_on_which_nothing_was_made_to_work_are_refused(device: str) -> None:
    with pytest.raises(PrerequisiteError, match=f"machine.device={device} is not supported"):
        resolve(device)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "int8", "Tensor", "half precision"])
def test_models_run_in_three_data_types(dtype: str) -> None:
    with pytest.raises(PrerequisiteError, match="use auto, float32, float16, bfloat16"):
        resolve("cpu", dtype)


def test_on_a_gpu_attention_avoids_cudnn_and_convolutions_avoid_tf32(
    card: SimpleNamespace,
) -> None:
    cudnn = torch.backends.cuda.cudnn_sdp_enabled(), torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cuda.enable_cudnn_sdp(True)
        torch.backends.cudnn.allow_tf32 = True
        resolve("cpu")
        assert "cudnn" in attention_backends(), "a run on the CPU changes nothing"
        assert resolve("auto").device == CUDA
        assert attention_backends() == ["flash", "efficient", "math"]
        assert not torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cuda.enable_cudnn_sdp(cudnn[0])
        torch.backends.cudnn.allow_tf32 = cudnn[1]


def test_what_torch_keeps_for_itself_counts_as_free(card: SimpleNamespace) -> None:
    assert free_memory(CUDA) == 9 * GIB
    assert memory_of(CUDA) == 24 * GIB


def test_a_worker_with_half_a_gpu_counts_on_half(card: SimpleNamespace) -> None:
    card.used = card.cached = 4 * GIB
    limit_memory(0.5)
    assert memory_of(CUDA) == 12 * GIB
    assert free_memory(CUDA) == 8 * GIB
    share = VllmSettings("vllm").arguments(CUDA, "float16")["gpu_memory_utilization"]
    assert share == pytest.approx(0.45)


# Shapes of the published configurations: Vicuna 7B, Qwen2.5 7B.
VICUNA = llama_config(
    {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    }
)
QWEN = transformers.Qwen2Config(
    hidden_size=3584,
    intermediate_size=18944,
    num_hidden_layers=28,
    num_attention_heads=28,
    num_key_value_heads=4,
)


def test_keys_and_values_of_a_token_are_counted() -> None:
    assert cache_bytes(VICUNA, HALF) == 2**19  # 0.5 MiB
    assert cache_bytes(QWEN, HALF) == 57344


def test_a_batch_is_made_for_the_free_memory(card: SimpleNamespace) -> None:
    assert batch_tokens(VICUNA, HALF, [CUDA]) == 8192
    assert batch_tokens(QWEN, HALF, [CUDA]) == 32768
    card.others -= GIB // 2
    assert batch_tokens(VICUNA, HALF, [CUDA]) == 8192, "a little more memory makes no other batches"
    card.total = 80 * GIB
    assert batch_tokens(VICUNA, HALF, [CUDA]) == 65536
    assert batch_tokens(VICUNA, HALF, [torch.device("cpu")]) == 0
    card.total = 16 * GIB
    assert batch_tokens(VICUNA, HALF, [CUDA]) == 1, "each clip by itself"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."), "memory"),
        (RuntimeError("CUDA error: out of memory"), "memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `x`"), "memory"),
        (RuntimeError("CUDA error: device-side assert triggered"), "lost"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "lost"),
        (RuntimeError("CUDA error: invalid configuration argument"), "other"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "other"),
        (KeyError("CUDA error: device-side assert triggered"), "other"),
    ],
)
def test_errors_of_a_device_are_distinguished(error: Exception, kind: str) -> None:
    assert is_out_of_memory(error) == (kind == "memory")
    assert is_device_lost(error) == (kind == "lost")
