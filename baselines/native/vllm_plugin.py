"""The entry point of the group `vllm.general_plugins`, which vLLM calls in each of its processes.

It does nothing in a vLLM that we did not start. In ours it names our classes, empties blocks of the
KV cache before they are used again, and lets the engine's processes end with the process that
started them: vLLM 0.32's own go on when that is killed
(https://github.com/vllm-project/vllm/issues/55510) and keep the GPU's memory.
"""

import multiprocessing
import os
import warnings

from ovmer.baselines.starter import STARTED_BY, end_after

_CLASSES = {
    "Gemma3nForConditionalGeneration": "ovmer.baselines.native.vllm_gemma:Gemma3n",
    "Gemma4ForConditionalGeneration": "ovmer.baselines.native.vllm_gemma:Gemma4",
    "MiniCPMV4_6ForConditionalGeneration": "ovmer.baselines.native.vllm_minicpm:MiniCpm",
    "Qwen2_5OmniThinkerForConditionalGeneration": "ovmer.baselines.native.vllm_omni:Thinker2_5",
    "Qwen3OmniMoeThinkerForConditionalGeneration": "ovmer.baselines.native.vllm_omni:Thinker3",
}

CORRECTED = {architecture: f"Ovmer{architecture}" for architecture in _CLASSES}
"""Architecture -> the name under which vLLM uses our class instead of its own."""


def register() -> None:
    """Name our classes to vLLM, which imports them when it is asked for one."""
    if not (started_by := os.environ.get(STARTED_BY)):
        return
    if started_by != str(os.getpid()):
        end_with_parent()
    for change, what in (
        (_register_classes, f"ovmer's corrections of {', '.join(_CLASSES)}"),
        (_empty_blocks, "ovmer's emptying of the KV cache after a clip that gave NaN"),
    ):
        try:
            change()
        except (ImportError, AttributeError) as error:
            # vLLM calls every plug-in of the environment: an error would stop its other models.
            warnings.warn(f"{what} cannot be had in this vLLM ({error})", stacklevel=1)


def _register_classes() -> None:
    from vllm import ModelRegistry
    from vllm.model_executor.models.config import MODELS_CONFIG_MAP as SETTINGS

    for architecture, where in _CLASSES.items():
        name = CORRECTED[architecture]
        ModelRegistry.register_model(name, where)
        if architecture in SETTINGS:  # Gemma 4's heads of two sizes ask for one kernel on a GPU
            SETTINGS[name] = SETTINGS[architecture]


def _empty_blocks() -> None:
    """Let vLLM zero each block of the KV cache when a request gets it, as it does for models that
    need it. Otherwise NaN that one clip left in a block are multiplied by the zero weight of unused
    slots, and the next clip is NaN too: on a CPU, and with FlashAttention 3
    (https://github.com/Dao-AILab/flash-attention/issues/1745,
    https://github.com/vllm-project/vllm/pull/50283)."""
    from vllm.v1.kv_cache_interface import KVCacheConfig

    if not isinstance(KVCacheConfig.needs_kv_cache_zeroing, property):
        raise AttributeError("KVCacheConfig.needs_kv_cache_zeroing is no property")
    KVCacheConfig.needs_kv_cache_zeroing = property(lambda self: True)


def end_with_parent() -> None:
    """End this process, which multiprocessing started, as soon as its parent has ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        end_after(parent.sentinel)
