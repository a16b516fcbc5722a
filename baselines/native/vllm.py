"""Chat MLLMs in vLLM's offline engine, through its own support of pictures and sound.

vLLM is given what `ChatProcessor` is given, the rendered prompt and the media as arrays, and runs
the checkpoint's processor itself; so both engines see the same frames and samples.
docs/baselines.md says of which models the greedy tokens are known to be those of transformers;
sampled ones depend on the clip's seed alone, as there, but are other draws.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.decoding.answers import VllmPrompt
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.decoding.vllm_engine import VllmEngine
from ovmer.baselines.decoding.vllm_offline import OfflineVllm, imported
from ovmer.baselines.errors import PrerequisiteError
from ovmer.baselines.native.processor import ChatProcessor, ClipMedia
from ovmer.baselines.native.vllm_plugin import CORRECTED

_IN_FLIGHT = 64
"""Clips at most, as each is held with its frames: some 40 MB."""


def start_chat_vllm(
    folder: Path,
    architecture: str,
    processor: ChatProcessor,
    settings: GenerationSettings,
    options: Mapping[str, Any],
    adapter: Path | None = None,
) -> VllmEngine:
    """The engine for prompts of `with_media`; `options` are arguments of `vllm.LLM`.

    `adapter` is a low-rank adapter of the language model. Raises PrerequisiteError where vLLM is
    missing, has no class for this model or cannot start with it, CheckpointError for an adapter
    that it does not take.
    """
    _check(folder, architecture, options.get("dtype", "auto"))
    # Every clip is seen once: a cache of processed media would only take memory.
    fixed: dict[str, Any] = {"mm_processor_cache_gb": 0, "seed": 0}
    if name := CORRECTED.get(architecture):
        fixed["hf_overrides"] = {"architectures": [name]}
    vllm = OfflineVllm(folder, fixed | dict(options), adapter=adapter)
    vllm.in_flight = min(vllm.in_flight, _IN_FLIGHT)
    return VllmEngine(vllm, processor, settings)


def with_media(prompt: str, media: ClipMedia, length: int, processor: ChatProcessor) -> VllmPrompt:
    """A rendered prompt, with one placeholder for each medium, and the media.

    `length` is in tokens, each placeholder expanded.
    """
    given = dict[str, Any]()
    if media.video is not None:
        given["video"] = [(media.video, dict(media.when or {}) | {"do_sample_frames": False})]
    if media.images:
        from PIL import Image

        given["image"] = [Image.fromarray(frame) for frame in media.images]
    if media.sound is not None:
        given["audio"] = [(media.sound, processor.rate)]
    request = {
        "prompt": prompt,
        "multi_modal_data": given,
        "mm_processor_kwargs": processor.options(media),
    }
    return VllmPrompt(request, length)


def _check(folder: Path, architecture: str, dtype: str) -> None:
    """Raises PrerequisiteError where vLLM cannot run the checkpoint.

    Without a class it would take its generic one, which in vLLM 0.32 stumbles over some processors
    at the first clip, and misses others.
    """
    vllm = imported()
    config = read_json(folder)
    known = vllm.ModelRegistry.get_supported_archs()
    if architecture not in CORRECTED and not known & set(config.get("architectures") or ()):
        raise PrerequisiteError(
            f"vLLM {vllm.__version__} has no class for {architecture}; say engine=transformers"
        )
    layers = config.get("text_config", config).get("layer_types") or ()
    if "linear_attention" in layers and dtype == "float32" and not torch.cuda.is_available():
        raise PrerequisiteError(
            f"vLLM {vllm.__version__} computes the linear attention of {architecture} on a CPU in "
            "bfloat16 alone; say machine.dtype=bfloat16 or engine=transformers"
        )
