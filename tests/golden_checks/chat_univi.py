"""Chat-UniVi: frames, pixels, patches, clusters, merged tokens, projector, prompt, logits, ids."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ovmer.adapters.media.sampling import per_second
from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.device import Placement
from ovmer.baselines.layers.clip_vision import normalise, shortest_side_crop
from ovmer.baselines.layers.density_peaks import Draw
from ovmer.baselines.models.chat_univi import ChatUniVi, ChatUniViInputs, read_sizes
from tests.golden_checks import assert_close, greedy, until

# Our code and upstream's differ in the order of float32 additions alone: 6e-7 was measured.
TOLERANCE = 1e-5
_MOST_FRAMES = 100  # main-video.py


def check(checkpoint: Path, case: Mapping[str, npt.NDArray[np.generic]]) -> None:
    llm, tower = checkpoint / "Chat-UniVi", checkpoint / "clip-vit-large-patch14"
    sizes = read_sizes(llm, tower)
    model = ChatUniVi.load(llm, tower, Placement(torch.device("cpu"), torch.float32))

    indices = per_second(len(case["frames"]), float(case["fps"]), _MOST_FRAMES)
    assert indices == case["frame_idx"].tolist()
    frames = torch.from_numpy(shortest_side_crop(case["frames"][indices], sizes.image))
    shown = case["pixel_sub_idx"]
    assert np.array_equal(normalise(frames[shown]), case["pixel_values_sub"]), "pixels"

    _merging(model, case)
    seen: dict[str, Tensor] = {}
    for stage, module in {
        "clip_features": model.tower,
        "merged_tokens": model.merging,
        "connector_out": model.projector,
    }.items():
        module.register_forward_hook(lambda *call, stage=stage: seen.update({stage: call[2]}))
    texts = [case["prompt_ids_before"].tolist(), case["prompt_ids_after"].tolist()]
    with torch.inference_mode():
        prompt = model.embed(ChatUniViInputs(texts, frames, _recorded(case)))
        logits = model.llm(inputs_embeds=prompt[None]).logits[0, -1]
    assert len(seen["merged_tokens"]) == sizes.merging.positions(len(frames))
    seen["clip_features"] = seen["clip_features"][:, 1:]
    for stage, ours in {**seen, "inputs_embeds": prompt, "logits_last": logits}.items():
        assert_close(stage, ours, case[stage], TOLERANCE)

    eos = read_json(llm)["eos_token_id"]
    expected = case["greedy_ids"]
    assert greedy(model.llm, prompt, len(expected), eos) == until(expected.tolist(), eos)


def _merging(model: ChatUniVi, case: Mapping[str, npt.NDArray[np.generic]]) -> None:
    """From upstream's features, the cluster of each token in each call of the clustering."""
    clusters: list[Tensor] = []
    stages = [*model.merging.grains, model.merging.events]
    hooks = [
        stage.register_forward_hook(lambda *call: clusters.append(call[2][1])) for stage in stages
    ]
    model.merging(torch.from_numpy(case["clip_features"]), _recorded(case))
    for hook in hooks:
        hook.remove()
    assert [list(call.shape) for call in clusters] == case["noise_shapes"].tolist()
    assert [int(call.max()) + 1 for call in clusters] == case["cluster_num"].tolist()
    golden = torch.from_numpy(case["cluster_idx_flat"]).split([call.numel() for call in clusters])
    for number, (ours, theirs) in enumerate(zip(clusters, golden, strict=True)):
        assert torch.equal(ours.flatten(), theirs.long()), f"clusters differ from call {number} on"


def _recorded(case: Mapping[str, npt.NDArray[np.generic]]) -> Draw:
    """The draws that upstream was given, in its order."""
    rest = torch.from_numpy(case["noise_flat"])

    def draw(rows: int, columns: int) -> Tensor:
        nonlocal rest
        taken, rest = rest[: rows * columns], rest[rows * columns :]
        return taken.view(rows, columns)

    return draw
