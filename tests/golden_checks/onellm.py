"""OneLLM: frames, views, picture of the sound, encoder, router, experts, prompt, steps, ids."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from torch import Tensor

from ovmer.adapters.models.onellm import OneLlmAdapter, listen, look_at
from ovmer.baselines.device import Placement
from ovmer.baselines.models.onellm import (
    AUDIO,
    POSITIONS,
    VIDEO,
    OneLlm,
    OneLlmInputs,
    mel_picture,
    views,
)
from tests.golden_checks import assert_close, greedy, heads

# Our code and upstream's differ in the order of float32 additions alone: 4e-6 was measured.
TOLERANCE = 1e-5
# Upstream's filter bank is in single precision, ours in double: 5.2e-5 was measured.
MEL_TOLERANCE = 1e-4
LEFT_ASIDE = {
    "prompt_ids_llama": "of the published vocabulary; `prompt_ids` are what the model read"
}
Case = Mapping[str, npt.NDArray[np.generic]]


def check(checkpoint: Path, case: Case) -> None:
    sense, signal = (VIDEO, _views(case)) if "frames_uint8" in case else (AUDIO, _picture(case))
    clip_heads = _clip_heads(checkpoint, sense, signal, case)

    def load(forgetful: bool) -> OneLlm:
        placement = Placement(torch.device("cpu"), torch.float32)
        return OneLlm.load(checkpoint, placement, forgetful, clip_heads)

    said = bytes(case["prompt_text"]).decode()
    before, _, after = OneLlmAdapter.template[1].partition("{question}")
    assert said.startswith(before)
    assert said.endswith(after)
    ids = case["prompt_ids"].tolist()
    inputs = OneLlmInputs([ids[:1], ids[1:]], sense, signal)
    model = load(forgetful=True)
    prompt = _up_to_the_prompt(model, inputs, case)

    expected = case["greedy_ids"].tolist()
    no_end = model.llm.config.vocab_size  # upstream goes on after the end token
    assert greedy(model.llm, prompt, len(expected), no_end) == expected
    with torch.inference_mode():
        steps = torch.stack(_steps(model, prompt, len(expected)))
        whole = torch.cat([prompt, model.llm.get_input_embeddings()(torch.tensor(expected))])
        counted = load(forgetful=False).llm(inputs_embeds=whole[None]).logits[0]
    assert_close("logits_last", steps[0], case["logits_last"], TOLERANCE)
    assert_close("logits_steps", steps, case["logits_steps"], TOLERANCE)
    right = case["logits_steps_if_positions_were_correct"]
    assert_close("positions correct", counted[len(prompt) - 1 : -1], right, TOLERANCE)
    assert case["step_start_pos"][1] == len(prompt) - 2


def _up_to_the_prompt(model: OneLlm, inputs: OneLlmInputs, case: Case) -> Tensor:
    seen: dict[str, Tensor] = {}
    own = model.senses[inputs.sense]
    own.router.register_forward_hook(lambda *call: seen.update(router_logits_30=call[2]))
    for number, expert in enumerate(model.experts):
        name = f"expert{number}_30"
        expert.register_forward_hook(lambda *call, name=name: seen.update({name: call[2][:30]}))
    own.out_of.register_forward_hook(lambda *call: seen.update(llm_tokens=call[2]))
    with torch.inference_mode():
        prompt = model.embed(inputs)
    assert len(prompt) == len(case["prompt_ids"]) + POSITIONS
    for stage, found in (seen | {"inputs_embeds": prompt}).items():
        assert_close(stage, found, case[stage], TOLERANCE)
    return prompt


def _steps(model: OneLlm, prompt: Tensor, count: int) -> tuple[Tensor, ...]:
    """The logits of each new token, decoded greedily."""
    found = model.llm.generate(
        inputs_embeds=prompt[None],
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=count,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return tuple(logits[0] for logits in found.logits)


def _clip_heads(checkpoint: Path, sense: str, signal: Tensor, case: Case) -> int:
    """The number of CLIP's heads that gives the golden output."""

    @torch.inference_mode()
    def output(count: int) -> Tensor:
        placement = Placement(torch.device("cpu"), torch.float32)
        model = OneLlm.load(checkpoint, placement, clip_heads=count)
        found = model.perceive(sense, signal)
        if sense == AUDIO:
            return torch.cat([found[:33], found[-8:]])
        return torch.cat([found, model.perceive(sense, signal[:1])])

    if sense == AUDIO:
        golden = np.concatenate([case["clip_out_first33"], case["clip_out_last8"]])
    else:
        golden = np.concatenate([case["clip_out_mean_over_views"], case["clip_out_first_view"]])
    return heads(golden.shape[-1], output, golden, TOLERANCE)


def _views(case: Case) -> Tensor:
    frames = case["frames_uint8"]
    indices = look_at(len(frames), float(case["fps"]))
    assert indices == case["first_frame_per_clip"].tolist()
    found = views(frames[indices])
    assert_close("views_sub", found[..., ::16, ::16], case["views_sub"], TOLERANCE)
    assert_close("views_mean", found.double().mean(dim=(2, 3)), case["views_mean"], TOLERANCE)
    return found


def _picture(case: Case) -> Tensor:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "clip.wav"
        soundfile.write(file, case["waveform_int16"].T, 16000, subtype="PCM_16")
        found = mel_picture(listen(file))
    assert_close("fbank_sub", found[0, ::4, ::8], case["fbank_sub"], MEL_TOLERANCE)
    means = found[0].double().mean(dim=1)
    assert_close("fbank_mean_per_bin", means, case["fbank_mean_per_bin"], MEL_TOLERANCE)
    return found
