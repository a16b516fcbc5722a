"""VideoChat: frames, time message, pixels, stages of the encoder, Q-Former, prompt, logits, ids."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ovmer.adapters.media.sampling import segment_offsets
from ovmer.adapters.models.videochat import VideoChatAdapter, time_message
from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.device import Placement
from ovmer.baselines.layers.clip_vision import normalise, shortest_side_crop
from ovmer.baselines.layers.eva_vit import EVA_FILE
from ovmer.baselines.layers.qformer import BLIP2_FILE
from ovmer.baselines.models.videochat import TRAINED_FILE, VideoChat, VideoChatInputs, read_sizes
from tests.golden_checks import assert_close, eva_heads, greedy, heads, until

# Our code and upstream's differ in the order of float32 additions alone: 1.1e-6 was measured.
TOLERANCE = 1e-5
LEFT_ASIDE = {"greedy_min_gap": "how safe the greedy ids are from rounding, no stage"}
CPU = Placement(torch.device("cpu"), torch.float32)


def check(checkpoint: Path, case: Mapping[str, npt.NDArray[np.generic]]) -> None:
    vision, qformer, trained, llm = (
        checkpoint / name for name in (EVA_FILE, BLIP2_FILE, TRAINED_FILE, "vicuna-7b-v0")
    )
    sizes = read_sizes(vision, qformer, trained, llm)
    fps, shown = float(case["fps"]), case["frame_indices"]
    indices = segment_offsets(len(case["frames"]), len(shown))
    assert indices == shown.tolist()
    times = time_message(indices, fps)
    assert times == str(case["time_message"])
    assert_asked(VideoChatAdapter, str(case["prompt_text"]).replace(times, "{times}"))
    frames = torch.from_numpy(
        shortest_side_crop(case["frames"][indices], sizes.image, rounded=True)
    )
    pixels = normalise(frames)
    assert np.array_equal(pixels.flatten(0, 1), case["pixels"]), "pixels"
    large = normalise(
        torch.from_numpy(shortest_side_crop(case["frames"][indices[:1]], 224, rounded=True))
    )
    assert np.array_equal(large[0, :, ::8, ::8], case["pixels_224_frame0_stride8"]), "pixels at 224"

    def load(vit_heads: int, qformer_heads: int) -> VideoChat:
        return VideoChat.load(
            vision, qformer, trained, llm, CPU, vit_heads=vit_heads, qformer_heads=qformer_heads
        )

    vit_heads = eva_heads(vision, pixels, case["last_block_output"], TOLERANCE)
    qformer_heads = heads(
        case["qformer_output"].shape[-1],
        lambda count: _found(load(vit_heads, count), torch.from_numpy(case["ln_vision_output"])),
        case["qformer_output"],
        TOLERANCE,
    )
    model = load(vit_heads, qformer_heads)
    ours = _stages(model, case, frames)
    assert len(ours["connector_output"]) == sizes.positions
    for stage, found in ours.items():
        assert_close(stage, found, case[stage].reshape(found.shape), TOLERANCE)

    end = read_json(llm)["eos_token_id"]
    expected = case["greedy_ids"]
    prompt = ours["inputs_embeds"]
    assert greedy(model.llm, prompt, len(expected), end) == until(expected.tolist(), end)


def assert_asked(adapter: type[VideoChatAdapter], prompt: str) -> None:
    """The prompt has the adapter's words around the video and the question."""
    before, after = adapter.template
    middle, _, end = after.partition("{question}")
    start = f"{before}<VideoHere>{middle}"
    assert prompt.startswith(start), f"{prompt!r} instead of {start!r}"
    assert prompt.endswith(end), f"{prompt!r} instead of {end!r}"


def _stages(
    model: VideoChat, case: Mapping[str, npt.NDArray[np.generic]], frames: Tensor
) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}
    for stage, module in {
        "patch_embed": model.encoder.vit.embeddings.patch_embedding,
        "last_block_output": model.encoder.vit.layers[-1],
        "gmhra0_output": model.encoder.looks[0],
        "encoder_output": model.encoder,
        "ln_vision_output": model.ln_vision,
        "qformer_output": model.qformer,
        "connector_output": model.projector,
    }.items():
        module.register_forward_hook(lambda *call, stage=stage: seen.update({stage: call[2]}))
    texts = [case["prompt_ids_before"].tolist(), case["prompt_ids_after"].tolist()]
    with torch.inference_mode():
        seen["inputs_embeds"] = model.embed(VideoChatInputs(texts, frames))
        seen["logits_last"] = model.llm(inputs_embeds=seen["inputs_embeds"][None]).logits[0, -1]
    seen["patch_embed"] = seen["patch_embed"].transpose(0, 1)
    return seen


@torch.inference_mode()
def _found(model: VideoChat, states: Tensor) -> Tensor:
    return model.qformer(torch.cat([model.queries, model.extra_queries], dim=1), states)
