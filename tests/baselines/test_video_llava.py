"""What sets the published tower apart from the conversion, and prompts with slots."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.models import video_llava, video_llava_hf
from ovmer.baselines.splice import splice

PLACE = Placement(torch.device("cpu"), torch.float32)


def test_frames_see_each_other_in_the_published_model_alone(tmp_path: Path) -> None:
    pixels = torch.randn(8, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    other_end = pixels.clone()
    other_end[7] = 0
    parts = video_llava.write_miniature(tmp_path, seed=0)
    published = video_llava.VideoLlava.load(parts["llm"], parts["tower"], PLACE)
    folder = video_llava_hf.write_miniature(tmp_path, seed=0)["model"]
    converted = video_llava_hf.VideoLlavaHf.load(folder, PLACE)
    slots = [[1], *[[]] * 7, [5]]
    with torch.inference_mode():
        for model, changes in ((published, True), (converted, False)):
            first, second = (
                model.embed(video_llava.VideoLlavaInputs(slots, frames))[1 : 1 + 257]
                for frames in (pixels, other_end)
            )
            assert torch.allclose(first, second, atol=1e-5) is not changes


def test_a_tower_without_attention_over_time_is_refused(tmp_path: Path) -> None:
    parts = video_llava.write_miniature(tmp_path, seed=0)
    file = parts["tower"] / "config.json"
    config = json.loads(file.read_text())
    config["vision_config"]["add_time_attn"] = False
    file.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="no attention over time"):
        video_llava.VideoLlava.load(parts["llm"], parts["tower"], PLACE)


def test_splice_puts_features_between_texts() -> None:
    table = nn.Embedding(4, 2)
    with torch.inference_mode():
        table.weight.copy_(torch.arange(8.0).view(4, 2))
        feature = torch.full((2, 2), -1.0)
        joined = splice(table, [[0], [], [3, 1]], [feature, feature])
    assert joined[:, 0].tolist() == [0, -1, -1, -1, -1, 6, 2]
    with pytest.raises(ValueError, match="2 slots need 3 texts"):
        splice(table, [[0], [1]], [feature, feature])
