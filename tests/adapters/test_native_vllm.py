"""Chat MLLMs in vLLM's own multimodal engine: the tokens are transformers'."""

from importlib.util import find_spec

import pytest

from adapters.base import Machine
from tests.adapters.test_native import CLIPS, SUBTITLES, configured, prepared

pytestmark = [
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed"),
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore"),  # of vLLM, in our process
]

MACHINE = Machine(
    device="cpu",
    dtype="float32",
    engine={
        "name": "vllm",
        "options": {
            "kv_cache_memory_bytes": 2**28,
            "max_model_len": 4096,
            "skip_mm_profiling": True,
        },
    },
)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen2_audio", "qwen2_5_omni"])
def test_greedy_tokens_are_those_of_transformers(name, tmp_path):
    adapter = configured(name).miniature(tmp_path)
    adapter.load(Machine(device="cpu", dtype="float32"))
    clips = list(zip(CLIPS, SUBTITLES, strict=True))
    expected = adapter.generate([prepared(adapter, *clip) for clip in clips])
    adapter.close()
    adapter.load(MACHINE)
    try:
        assert adapter.generate([prepared(adapter, *clip) for clip in clips]) == expected
    finally:
        adapter.close()
