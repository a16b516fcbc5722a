"""Chat MLLMs in vLLM's own multimodal engine: the tokens are transformers'."""

import json
from dataclasses import replace
from importlib.util import find_spec
from typing import cast

import pytest
import transformers

from ovmer.adapters.base import Machine
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.errors import PrerequisiteError
from ovmer.baselines.native.processor import ChatProcessor
from ovmer.baselines.native.vllm import start_chat_vllm
from tests.adapters.chat_models import CLIPS, SUBTITLES, configured, prepared

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
        "qwen2_5_omni",
        "qwen2_5_vl",
        "qwen2_audio",
        "qwen3_vl",
        *(
            pytest.param(name, marks=pytest.mark.by_hand)
            for name in (
                "audio_flamingo3",
                "gemma3n",
                "gemma4",
                "glm4_1v",
                "internvl3",
                "llava_next_video",
                "llava_onevision",
                "minicpm_v4_6",
                "qwen3_omni",
                "qwen3_omni_thinking",
            )
        ),
    ],
)
def test_greedy_tokens_are_those_of_transformers(name, tmp_path, monkeypatch):
    adapter = configured(name).miniature(tmp_path)
    if name.startswith("qwen3_omni"):
        _round_down_places(monkeypatch)
    # On a CPU vLLM has linear attention in bfloat16 alone.
    dtype = "bfloat16" if name == "minicpm_v4_6" else "float32"
    adapter.load(Machine(device="cpu", dtype=dtype))
    clips = list(zip(CLIPS, SUBTITLES, strict=True))
    expected = adapter.generate([prepared(adapter, *clip) for clip in clips])
    adapter.close()
    adapter.load(replace(MACHINE, dtype=dtype))
    try:
        assert adapter.generate([prepared(adapter, *clip) for clip in clips]) == expected
        assert adapter.generate([prepared(adapter, *clips[0])]) == expected[:1]
    finally:
        adapter.close()


@pytest.mark.parametrize(
    ("architecture", "layers", "sentence"),
    [
        ("Phi4MultimodalForCausalLM", "full_attention", "has no class for Phi4MultimodalForCausal"),
        ("Qwen3_5ForConditionalGeneration", "linear_attention", r"say machine\.dtype=bfloat16 or "),
    ],
)
def test_what_vllm_cannot_run_is_refused_before_it_is_loaded(
    architecture, layers, sentence, tmp_path, monkeypatch
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    config = {"architectures": [architecture], "text_config": {"layer_types": [layers]}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    settings, options = GenerationSettings(max_new_tokens=1), {"dtype": "float32"}
    with pytest.raises(
        PrerequisiteError, match=rf"^vLLM [\d.]+ .*{sentence}.*engine=transformers$"
    ):
        start_chat_vllm(tmp_path, architecture, cast(ChatProcessor, None), settings, options)
