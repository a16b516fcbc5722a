"""Video-LLaVA: pixels, three stages of the tower, projector, prompt, logits, greedy ids."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ovmer.adapters.media.sampling import linspace
from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.device import Placement
from ovmer.baselines.models.video_llava import VideoLlava, VideoLlavaInputs, preprocess, read_sizes
from tests.golden_checks import assert_close, greedy, until

# Our code and upstream's differ in the order of float32 additions alone: 5e-7 was measured.
TOLERANCE = 1e-5
EXACT = 1e-6  # the same operations in the same order; 0 was measured
HALF = 5e-4  # rounding to half precision, in which one case stores its pixels
_SLOT = -200


def check(checkpoint: Path, case: Mapping[str, npt.NDArray[np.generic]]) -> None:
    llm, tower = checkpoint / "Video-LLaVA-7B", checkpoint / "LanguageBind_Video_merge"
    sizes = read_sizes(llm, tower)
    model = VideoLlava.load(llm, tower, Placement(torch.device("cpu"), torch.float32))

    frames, shown = case["frames"], int(case["pixel_sub_idx"][0])
    indices = linspace(len(frames), sizes.frames)
    assert indices == case["frame_idx"].tolist()
    pixels = preprocess(frames[indices], sizes.image)
    stored = case["pixel_values_sub"]
    assert_close("pixels", pixels[[shown]], stored, HALF if stored.itemsize == 2 else EXACT)

    seen: dict[str, torch.Tensor] = {}
    for stage, module in {
        "vit_pre": model.tower.pre_layrnorm,
        "vit_layer0": model.tower.layers[0],
        "encoder_out": model.tower,
        "connector_out": model.projector,
    }.items():
        module.register_forward_hook(lambda *call, stage=stage: seen.update({stage: call[2]}))
    texts: list[list[int]] = [[]]
    for token in case["prompt_ids"].tolist():
        if token == _SLOT:
            texts.append([])
        else:
            texts[-1].append(token)
    with torch.inference_mode():
        prompt = model.embed(VideoLlavaInputs(texts, pixels))
        logits = model.llm(inputs_embeds=prompt[None]).logits[0, -1]
    for stage in ("vit_pre", "vit_layer0"):
        assert_close(stage, seen[stage][[shown]], case[stage], TOLERANCE)
    for stage in ("encoder_out", "connector_out"):
        assert_close(stage, seen[stage], case[stage], TOLERANCE)
    assert_close("inputs_embeds", prompt, case["inputs_embeds"], TOLERANCE)
    assert_close("logits_last", logits, case["logits_last"], TOLERANCE)

    eos = read_json(llm)["eos_token_id"]
    expected = case["greedy_ids"]
    assert greedy(model.llm, prompt, len(expected), eos) == until(expected.tolist(), eos)
