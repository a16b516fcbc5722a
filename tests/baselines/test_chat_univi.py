"""Chat-UniVi: events and their order, what its configuration must say."""

import json

import pytest
import torch

from ovmer.baselines.device import Placement
from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.layers.density_peaks import uniform
from ovmer.baselines.models.chat_univi import ChatUniVi, EventMerging, read_sizes, write_miniature

CPU = Placement(torch.device("cpu"), torch.float32)
RATES = {
    "spatial_cluster_rate0": 64,
    "spatial_cluster_rate1": 32,
    "spatial_cluster_rate2": 16,
    "temporal_cluster_rate": 0.0625,
}


@pytest.fixture
def parts(tmp_path):
    return write_miniature(tmp_path, seed=2)


@pytest.mark.parametrize(("frames", "events"), [(1, 1), (2, 2), (3, 1), (16, 1), (17, 2), (33, 3)])
def test_an_event_takes_112_positions(frames, events):
    merging = EventMerging(RATES)
    patches = torch.randn(frames, 256, 8, generator=torch.Generator().manual_seed(frames))
    assert len(merging(patches, uniform(0))) == merging.positions(frames) == 112 * events


def test_events_come_in_the_order_in_which_they_begin():
    """Three scenes of 12 frames; the middle one is the densest, hence cluster 0."""
    stream = torch.Generator().manual_seed(0)
    scenes = torch.tensor([-4.0, 0.0, 4.0]).repeat_interleave(12)
    spread = torch.tensor([0.5, 0.01, 0.5]).repeat_interleave(12)
    patches = scenes[:, None, None] + spread[:, None, None] * torch.randn(
        36, 1, 8, generator=stream
    )
    patches = patches + 0.001 * torch.randn(36, 256, 8, generator=stream)
    merging = EventMerging(RATES)
    merging.events.neighbours = 3  # of three clusters, so that not chance but density decides
    merged = merging(patches, uniform(0))
    means = merged.unflatten(0, (3, 112)).mean(dim=(1, 2))
    assert torch.allclose(means, torch.tensor([-4.0, 0.0, 4.0]), atol=0.3)


def test_sizes_are_read_without_the_weights(parts):
    sizes = read_sizes(parts["llm"], parts["tower"])
    assert (sizes.image, sizes.context, sizes.merging.positions(20)) == (224, 4096, 224)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"config": None}, "does not say how tokens are merged; is it Chat-UniVi's"),
        ({"config": RATES | {"use_cluster": False}}, "does not say how tokens are merged"),
        ({"config": {"use_cluster": True}}, "does not say how tokens are merged"),
        ({"mm_use_im_start_end": True}, "wants <im_start> and <im_end> around the video"),
        ({"hidden_size": 64}, "do config and weights belong together"),
    ],
)
def test_relatives_are_refused(parts, change, sentence):
    file = parts["llm"] / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(CheckpointError, match=sentence):
        ChatUniVi.load(parts["llm"], parts["tower"], CPU)


def test_loading_leaves_nothing_over(parts):
    model = ChatUniVi.load(parts["llm"], parts["tower"], Placement(CPU.device, torch.bfloat16))
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    assert not any(tensor.is_meta for tensor in tensors.values())
    assert {tensor.dtype for tensor in model.parameters()} == {torch.bfloat16}
    frames = torch.randint(0, 256, (3, 224, 224, 3), dtype=torch.uint8)
    with torch.inference_mode():
        assert model.encode(frames, uniform(0)).shape == (112, 32)
