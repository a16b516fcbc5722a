"""BEATs beyond what SALMONN's golden data pin: configuration, buckets, batches."""

import math
from dataclasses import asdict

import numpy as np
import pytest
import torch

from ovmer.baselines.errors import CheckpointError
from ovmer.baselines.layers.beats import (
    BEATS_SWITCHES,
    SHORTEST_SAMPLES,
    Beats,
    BeatsConfig,
    _bucket,
    beats_fbank,
)

TINY = BeatsConfig(
    embed_dim=8,
    encoder_embed_dim=32,
    encoder_ffn_embed_dim=24,
    encoder_attention_heads=2,
    encoder_layers=2,
)


def test_sizes_and_switches_come_from_the_file():
    cfg = asdict(TINY) | BEATS_SWITCHES
    assert BeatsConfig.from_file(cfg | {"predictor_class": 527}) == TINY
    for wrong in (cfg | {"deep_norm": False}, {k: cfg[k] for k in cfg if k != "deep_norm"}):
        with pytest.raises(CheckpointError, match=r"\(deep_norm absent or different\)"):
            BeatsConfig.from_file(wrong)
    with pytest.raises(CheckpointError, match="max_distance"):
        BeatsConfig.from_file({k: cfg[k] for k in cfg if k != "max_distance"})


def test_buckets_are_exact_near_and_logarithmic_far():
    def by_hand(offset: int) -> int:
        side, distance = 160 * (offset > 0), abs(offset)
        if distance < 80:
            return side + distance
        return side + min(159, 80 + int(math.log(distance / 80) / math.log(10) * 80))

    offsets = [*range(-1495, -804, 15), *range(-130, 131), *range(805, 1496, 15)]
    found = _bucket(torch.tensor(offsets), 320, 800)
    assert found.tolist() == [by_hand(offset) for offset in offsets]


@pytest.mark.parametrize(("samples", "tokens"), [(SHORTEST_SAMPLES, 8), (16000, 48), (5360, 16)])
def test_eight_tokens_a_time_step(samples, tokens):
    noise = 0.1 * np.random.default_rng(samples).normal(size=samples)
    fbank = torch.from_numpy(beats_fbank(noise)).float()
    with torch.inference_mode():
        assert Beats(TINY).eval()(fbank[None]).shape == (1, tokens, 32)
    assert len(beats_fbank(noise[: SHORTEST_SAMPLES - 1])) == 15  # one less fills no patch


def test_a_batch_of_equal_lengths_gives_each_its_own():
    torch.manual_seed(0)
    model, fbank = Beats(TINY).eval(), torch.randn(3, 64, 128)
    with torch.inference_mode():
        together = model(fbank)
        for one, alone in zip(together, fbank.split(1), strict=True):
            torch.testing.assert_close(one, model(alone)[0], rtol=1e-5, atol=1e-5)
