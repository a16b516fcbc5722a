"""Video-ChatGPT: frames, pixels, patches, pooling, projector, prompt, logits, greedy ids."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ovmer.adapters.media.sampling import segment_middles
from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.device import Placement
from ovmer.baselines.layers.clip_vision import normalise
from ovmer.baselines.models.video_chatgpt import (
    MOST_FRAMES,
    VideoChatGpt,
    VideoChatGptInputs,
    read_sizes,
    squash,
)
from tests.golden_checks import assert_close, greedy, until

# Our code and upstream's differ in the order of float32 additions alone: 1.2e-6 was measured.
TOLERANCE = 1e-5
# Pooled features are rounded to half precision, so that a difference of 3e-7 before it may end in a
# neighbouring number, one unit in 1024 away. It does in 7 and 2 of 11392 places of our cases.
HALF = 2**-10
SELDOM = 1e-2


def check(checkpoint: Path, case: Mapping[str, npt.NDArray[np.generic]]) -> None:
    llm, tower = checkpoint / "LLaVA-7B-Lightening-v1-1", checkpoint / "clip-vit-large-patch14"
    sizes = read_sizes(llm, tower)
    model = VideoChatGpt.load(llm, checkpoint, tower, Placement(torch.device("cpu"), torch.float32))

    indices = segment_middles(len(case["frames"]), MOST_FRAMES)
    assert indices == case["frame_idx"].tolist()
    frames = torch.from_numpy(squash(case["frames"][indices], sizes.image))
    shown = case["pixel_sub_idx"]
    assert np.array_equal(normalise(frames[shown]), case["pixel_values_sub"]), "pixels"

    seen: dict[str, Tensor] = {}
    model.tower.register_forward_hook(lambda *call: seen.update(tower=call[2]))
    model.projector.register_forward_hook(lambda *call: seen.update(pooled=call[1][0]))
    # The ids next to the video are those of its own tokens, which the model adds itself.
    texts = [case["prompt_ids_before"].tolist()[:-1], case["prompt_ids_after"].tolist()[1:]]
    slots = [int(case["prompt_ids"][len(texts[0]) + 1])] * (sizes.positions - 2)
    before, after = (case[f"prompt_ids_{side}"].tolist() for side in ("before", "after"))
    assert [*before, *slots, *after] == case["prompt_ids"].tolist()
    with torch.inference_mode():
        prompt = model.embed(VideoChatGptInputs(texts, frames))
    patches = seen["tower"][shown, 1:]
    assert_close("clip_features_sub", patches, case["clip_features_sub"], TOLERANCE)
    pooled = torch.from_numpy(case["spatio_temporal"])
    assert_close("spatio_temporal", seen["pooled"], pooled, HALF)
    assert (seen["pooled"] != pooled).float().mean() < SELDOM
    assert_close("inputs_embeds", prompt, case["inputs_embeds"], HALF)

    # What follows the rounding, from upstream's side of it.
    with torch.inference_mode():
        video = model.projector(pooled)
        start = len(texts[0]) + 1
        pinned = torch.cat([prompt[:start], video, prompt[start + len(video) :]])
        logits = model.llm(inputs_embeds=pinned[None]).logits[0, -1]
    assert len(video) + 2 == sizes.positions == len(prompt) - len(texts[0]) - len(texts[1])
    assert_close("connector_out", video, case["connector_out"], TOLERANCE)
    assert_close("inputs_embeds", pinned, case["inputs_embeds"], TOLERANCE)
    words = case["logits_last"][: len(logits)]  # then come the tokens of the video, never said
    assert_close("logits_last", logits, words, TOLERANCE)

    eos = read_json(llm)["eos_token_id"]
    expected = case["greedy_ids"]
    assert greedy(model.llm, prompt, len(expected), eos) == until(expected.tolist(), eos)
