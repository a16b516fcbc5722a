"""Chat MLLMs in vLLM's offline engine, through its own support of pictures and sound.

vLLM is given what `ChatProcessor` is given, the rendered prompt and the media as arrays, and runs
the checkpoint's processor itself; so both engines see the same frames and samples. All clips of a
call are in the engine at once. The README says of which models the greedy tokens are known to be
those of transformers; sampled ones depend on the clip's seed alone, as there, but are other draws.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ovmer.baselines.decoding.answers import Answers, Generated
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.decoding.vllm_engine import sampling
from ovmer.baselines.decoding.vllm_offline import OfflineVllm, Request, imported
from ovmer.baselines.errors import PrerequisiteError
from ovmer.baselines.native.processor import ChatProcessor, Media
from ovmer.baselines.native.vllm_plugin import CORRECTED

if TYPE_CHECKING:
    from vllm import SamplingParams


@dataclass(frozen=True)
class Shown:
    """A clip's rendered prompt, with one placeholder for each medium, and the media."""

    prompt: str
    media: Media
    length: int
    """In tokens, each placeholder expanded."""

    def __len__(self) -> int:
        return self.length


class ChatVllm:
    """Prompts with media -> texts."""

    def __init__(
        self,
        folder: Path,
        architecture: str,
        processor: ChatProcessor,
        settings: GenerationSettings,
        options: Mapping[str, Any],
    ) -> None:
        """`options` are arguments of `vllm.LLM`.

        Raises PrerequisiteError where vLLM is missing, has no class for this model or cannot start
        with it.
        """
        _check(folder, architecture, options.get("dtype", "auto"))
        self._processor, self._settings = processor, settings
        self._answers = Answers(processor, settings)
        # Every clip is seen once: a cache of processed media would only take memory.
        fixed: dict[str, Any] = {"mm_processor_cache_gb": 0, "seed": 0}
        if name := CORRECTED.get(architecture):
            fixed["hf_overrides"] = {"architectures": [name]}
        self._vllm = OfflineVllm(
            folder, switch="engine", options_key="engine.options", options=fixed | dict(options)
        )

    def generate(self, prompts: Sequence[Shown], seeds: Sequence[int]) -> list[Generated]:
        """One answer per prompt. `seeds` start the random stream of each."""
        found = dict[int, Generated]()
        for place, output in self._vllm.run(
            self._requests(prompts, seeds),
            enough=lambda output: self._answers.has_stop(output.outputs[0].token_ids),
        ):
            ids = self._answers.until_stop(list(output.outputs[0].token_ids))
            found[place] = self._answers.read(ids, len(output.prompt_token_ids or ()))
        return [found[place] for place in range(len(prompts))]

    def _requests(self, prompts: Sequence[Shown], seeds: Sequence[int]) -> Iterator[Request]:
        for place, (shown, seed) in enumerate(zip(prompts, seeds, strict=True)):
            yield place, self._asked(shown), self._params(len(shown), seed)

    def _asked(self, shown: Shown) -> dict[str, Any]:
        media, given = shown.media, dict[str, Any]()
        if media.video is not None:
            given["video"] = [(media.video, dict(media.when or {}) | {"do_sample_frames": False})]
        if media.images:
            from PIL import Image

            given["image"] = [Image.fromarray(frame) for frame in media.images]
        if media.sound is not None:
            given["audio"] = [(media.sound, self._processor.rate)]
        return {
            "prompt": shown.prompt,
            "multi_modal_data": given,
            "mm_processor_kwargs": self._processor.options(media),
        }

    def _params(self, prompt_tokens: int, seed: int) -> "SamplingParams":
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        kind = RequestOutputKind.CUMULATIVE if self._settings.stop else RequestOutputKind.FINAL_ONLY
        limit = max(1, self._answers.limit(prompt_tokens))
        told = sampling(self._settings, limit, seed, self._processor.stop_ids)
        # vLLM's own text drops a character whose bytes are not all there.
        return SamplingParams(**told, output_kind=kind, detokenize=False)

    def close(self) -> None:
        """End the engine's processes and give the memory back."""
        self._vllm.close()


def _check(folder: Path, architecture: str, dtype: str) -> None:
    """Raises PrerequisiteError where vLLM cannot run the checkpoint.

    Without a class it would take its generic one, which in vLLM 0.32 stumbles over some processors
    at the first clip, and misses others.
    """
    vllm = imported("engine")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
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
