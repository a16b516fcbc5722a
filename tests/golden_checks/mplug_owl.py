"""mPLUG-Owl: frames, pixels, embeddings, tower, abstractor, prompt, logits, greedy ids."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ovmer.adapters.media.sampling import segment_offsets
from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.device import Placement
from ovmer.baselines.layers.clip_vision import normalise
from ovmer.baselines.models.mplug_owl import MplugOwl, MplugOwlInputs, read_sizes
from tests.golden_checks import assert_close, greedy, until

# Our code and upstream's differ in the order of float32 additions alone: 7e-7 was measured.
TOLERANCE = 1e-5
LEFT_ASIDE = {"greedy_min_gap": "how safe the greedy ids are from rounding, no stage"}


def check(checkpoint: Path, case: Mapping[str, npt.NDArray[np.generic]]) -> None:
    sizes = read_sizes(checkpoint)
    model = MplugOwl.load(checkpoint, Placement(torch.device("cpu"), torch.float32))

    indices = segment_offsets(len(case["frames"]), len(case["frame_indices"]))
    assert indices == case["frame_indices"].tolist()
    frames = torch.from_numpy(case["frames"][indices])
    assert np.array_equal(normalise(frames), case["pixels"][0].swapaxes(0, 1)), "pixels"

    seen: dict[str, Tensor] = {}
    for stage, module in {
        "vision_embeddings": model.tower.embeddings,
        "vision_last_hidden_state": model.tower,
        "connector_output": model.abstractor,
    }.items():
        module.register_forward_hook(lambda *call, stage=stage: seen.update({stage: call[2]}))
    texts = [case["prompt_ids_before"].tolist(), case["prompt_ids_after"].tolist()]
    with torch.inference_mode():
        prompt = model.embed(MplugOwlInputs(texts, frames))
        logits = model.llm(inputs_embeds=prompt[None]).logits[0, -1]
    assert (case["input_ids"] < 0).sum() == sizes.positions
    for stage, ours in seen.items():
        assert_close(stage, ours[None], case[stage], TOLERANCE)
    assert_close("inputs_embeds", prompt[None], case["inputs_embeds"], TOLERANCE)
    assert_close("logits_last", logits, case["logits_last"], TOLERANCE)

    eos = read_json(checkpoint)["text_config"]["eos_token_id"]
    expected = case["greedy_ids"]
    assert greedy(model.llm, prompt, len(expected), eos) == until(expected.tolist(), eos)
