"""Chat MLLMs in vLLM's own multimodal engine: the tokens are transformers'."""

from importlib.util import find_spec

import pytest
import transformers

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


def _round_down_places(monkeypatch) -> None:
    """Let transformers place tokens where vLLM can: Qwen3-Omni's frames lie between two places."""
    cls = transformers.Qwen3OmniMoeThinkerForConditionalGeneration
    exactly = cls.get_rope_index

    def rounded(self, *args, **options):
        places, past = exactly(self, *args, **options)
        return places.floor(), past.floor()

    monkeypatch.setattr(cls, "get_rope_index", rounded)


@pytest.mark.parametrize(
    "name",
    [
        "gemma4",
        "internvl3",
        "qwen2_5_omni",
        "qwen2_5_vl",
        "qwen2_audio",
        "qwen3_omni",
        "qwen3_vl",
    ],
)
def test_greedy_tokens_are_those_of_transformers(name, tmp_path, monkeypatch):
    adapter = configured(name).miniature(tmp_path)
    if name == "qwen3_omni":
        _round_down_places(monkeypatch)
    adapter.load(Machine(device="cpu", dtype="float32"))
    clips = list(zip(CLIPS, SUBTITLES, strict=True))
    expected = adapter.generate([prepared(adapter, *clip) for clip in clips])
    adapter.close()
    adapter.load(MACHINE)
    try:
        assert adapter.generate([prepared(adapter, *clip) for clip in clips]) == expected
    finally:
        adapter.close()
