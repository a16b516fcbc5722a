"""Qwen-Audio: log-mel, three stages of the tower, prompt, logits, greedy ids."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import gelu

from ovmer.baselines.device import Placement
from ovmer.baselines.models.qwen_audio import (
    SAMPLE_RATE,
    QwenAudio,
    QwenAudioInputs,
    preprocess,
    slots,
)
from tests.golden_checks import assert_close, greedy, until

# Our code and upstream's differ in the order of float32 additions alone: 1.2e-6 was measured.
TOLERANCE = 1e-5
LEFT_ASIDE = {"audio_pad_id": "the id that upstream puts where the sound goes; here ids are apart"}
_EOS = 0  # set for the greedy ids; the published one lies outside the small vocabulary


def check(checkpoint: Path, case: Mapping[str, npt.NDArray[np.generic]]) -> None:
    # What upstream had ffmpeg resample, or else what it was given; 1/32 steps fit half precision.
    given, rate = case["waveform"], int(case["sample_rate"])
    assert "waveform_16k" in case or rate == SAMPLE_RATE
    sound = case.get("waveform_16k", given).astype(np.float32)
    mel = preprocess(sound)
    frames = 2 * int(case["frames_after_conv"])
    assert mel.shape[1] == frames
    assert frames == case["mel_len"] + case["mel_len"] % 2
    assert slots(mel) == int(case["n_audio_tokens"]) + 2
    _compare(case, "mel", mel, frames)

    model = QwenAudio.load(checkpoint, Placement(torch.device("cpu"), torch.float32))
    seen: dict[str, torch.Tensor] = {}
    for stage, module in {
        "conv2": model.audio.conv2,
        "blocks_out": model.audio.blocks[-1],
        "connector_out": model.audio.proj,
    }.items():
        module.register_forward_hook(lambda *call, stage=stage: seen.update({stage: call[2][0]}))
    left, right = case["ids_left"].tolist(), case["ids_right"].tolist()
    with torch.inference_mode():
        prompt = model.embed(QwenAudioInputs(left, mel, right))
        logits = model.llm(inputs_embeds=prompt[None]).logits[0, -1]
    last = gelu(seen["conv2"]).T[-8:]
    assert_close("conv2_out_last8", last, case["conv2_out_last8"], TOLERANCE)
    for stage in ("blocks_out", "connector_out"):
        _compare(case, stage, seen[stage])
    _compare(case, "inputs_embeds", prompt)
    assert_close("logits_last", logits, case["logits_last"], TOLERANCE)

    expected = case["greedy_ids"]
    assert greedy(model.llm, prompt, len(expected), _EOS) == until(expected, _EOS)


def _compare(
    case: Mapping[str, npt.NDArray[np.generic]],
    stage: str,
    ours: torch.Tensor,
    frames: int | None = None,
) -> None:
    """Compare with STAGE, or with STAGE_everyN, which holds each Nth row (of mel: frame).

    Of the golden log-mel, which goes on to 30 seconds, the first `frames` count.
    """
    name = next(key for key in case if re.fullmatch(rf"{stage}(_every\d+)?", key))
    step = int(name.partition("_every")[2] or 1)
    if frames is None:
        assert_close(name, ours[::step], case[name], TOLERANCE)
    else:
        assert_close(name, ours[:, ::step], case[name][:, : -(-frames // step)], TOLERANCE)
