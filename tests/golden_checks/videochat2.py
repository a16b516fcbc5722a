"""VideoChat2: pixels, positions, three stages of the tower, Q-Former, prompt, logits, ids."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ovmer.adapters.media.sampling import segment_offsets
from ovmer.adapters.models.videochat2 import VideoChat2Adapter
from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.device import Placement
from ovmer.baselines.layers.clip_vision import normalise, shortest_side_crop
from ovmer.baselines.layers.umt_vit import positions
from ovmer.baselines.models.videochat import VideoChatInputs
from ovmer.baselines.models.videochat2 import VideoChat2, read_sizes
from tests.golden_checks import assert_close, greedy, heads, until
from tests.golden_checks.videochat import assert_asked

# Our code and upstream's differ in the order of float32 additions alone: 1e-6 was measured.
TOLERANCE = 1e-5
LEFT_ASIDE = {
    "instruction_text": "a constant of the model, which is given its ids",
    "fps": "this model is not told the times of its frames",
    "greedy_min_gap": "how safe the greedy ids are from rounding, no stage",
}
CPU = Placement(torch.device("cpu"), torch.float32)

Case = Mapping[str, npt.NDArray[np.generic]]


def check(checkpoint: Path, case: Case) -> None:
    indices = segment_offsets(len(case["frames"]), len(case["frame_indices"]))
    assert indices == case["frame_indices"].tolist()
    frames = _pixels(case, indices)
    assert_asked(VideoChat2Adapter, str(case["prompt_text"]))
    _positions(case)

    model = _load(checkpoint, case, frames)
    seen: dict[str, Tensor] = {}
    for stage, module in {
        "patch_embed": model.tower.patch_embed,
        "tower": model.tower,
        "vision_layernorm_output": model.norm,
        "qformer": model.qformer.bert,
    }.items():
        module.register_forward_hook(lambda *call, stage=stage: seen.update({stage: call[2]}))
    texts = [case["prompt_ids_before"].tolist(), case["prompt_ids_after"].tolist()]
    with torch.inference_mode():
        connected = model.encode(frames)
        prompt = model.embed(VideoChatInputs(texts, frames))
        logits = model.llm(inputs_embeds=prompt[None]).logits[0, -1]
    sizes = read_sizes(checkpoint, checkpoint / "vicuna-7b-v0")
    assert (sizes.image, sizes.positions) == (frames.shape[1], len(connected))
    outer = seen["tower"].unflatten(0, (len(indices), -1))[[0, -1]]
    ours = {
        "patch_embed": seen["patch_embed"],
        "encoder_output_frames": outer[None],
        "vision_layernorm_output": seen["vision_layernorm_output"],
        "qformer_output": seen["qformer"].last_hidden_state,
        "connector_output": connected[None],
        "inputs_embeds": prompt[None],
        "logits_last": logits,
    }
    for stage, values in ours.items():
        _compare(stage, values, case)

    eos = read_json(checkpoint / "vicuna-7b-v0")["eos_token_id"]
    expected = case["greedy_ids"]
    assert greedy(model.llm, prompt, len(expected), eos) == until(expected.tolist(), eos)


def _compare(stage: str, ours: Tensor, case: Case) -> None:
    """With STAGE, with STAGE_everyNth, which holds each Nth token, or with STAGE_0_7."""
    name = next(key for key in case if re.fullmatch(rf"{stage}(_every_\d+th|_\d+_\d+)?", key))
    if every := re.search(r"every_(\d+)th", name):
        ours = ours[:: int(every[1])]
        if case[name].ndim == 3:
            ours = ours[None]
    assert_close(name, ours, case[name], TOLERANCE)


def _pixels(case: Case, indices: list[int]) -> Tensor:
    """The frames at the size of the golden tower; the pixels there and at 224 are upstream's."""
    size, chosen = case["pixels"].shape[-1], case["frames"][indices]
    frames = torch.from_numpy(shortest_side_crop(chosen, size, rounded=True))
    assert np.array_equal(normalise(frames).flatten(0, 1), case["pixels"]), "pixels"
    for stored in case:
        if form := re.fullmatch(r"pixels_(\d+)_frame0_stride(\d+)", stored):
            large, step = int(form[1]), int(form[2])
            first = normalise(torch.from_numpy(shortest_side_crop(chosen[:1], large, rounded=True)))
            assert np.array_equal(first[0, :, ::step, ::step], case[stored]), stored
    return frames


def _positions(case: Case) -> None:
    frames = len(case["frame_indices"])
    for name in case:
        if every := re.fullmatch(r"position_table_every_(\d+)th", name):
            shown = slice(None, None, int(every[1]))
        elif rows := re.fullmatch(r"position_table_\d+_rows_([\d_]+)", name):
            shown = [int(row) for row in rows[1].split("_")]
        else:
            continue
        golden = case[name]
        assert_close(name, positions(frames, golden.shape[-1])[shown], golden, TOLERANCE)


def _load(checkpoint: Path, case: Case, frames: Tensor) -> VideoChat2:
    """The model, with the numbers of heads that the tower and the Q-Former of these data have.

    No file tells them, so they are those that give the golden output of either.
    """
    outer, found = case["encoder_output_frames_0_7"], case["qformer_output"]
    pixels = normalise(frames)

    def load(vision: int, qformer: int = 1) -> VideoChat2:
        return VideoChat2.load(
            checkpoint,
            checkpoint / "vicuna-7b-v0",
            CPU,
            instruction=case["instruction_ids"].tolist(),
            vision_heads=vision,
            qformer_heads=qformer,
        )

    @torch.inference_mode()
    def tower(count: int) -> Tensor:
        return load(count).tower(pixels).unflatten(0, (len(frames), -1))[None, [0, -1]]

    vision = heads(outer.shape[-1], tower, outer, TOLERANCE)
    with torch.inference_mode():
        states = load(vision).tower(pixels)

    @torch.inference_mode()
    def connector(count: int) -> Tensor:
        model = load(vision, count)
        model.tower.forward = lambda pixels: states  # type: ignore[method-assign]
        return model.encode(frames)[None]

    qformer = heads(found.shape[-1], connector, case["connector_output"], TOLERANCE)
    return load(vision, qformer)
