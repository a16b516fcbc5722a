"""SALMONN: both pictures of the sound, both encoders, windows, Q-Former, prompt, logits, ids."""

import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from ovmer.adapters.models.salmonn import read_clip
from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.device import Placement
from ovmer.baselines.models.salmonn import (
    BEATS_FILE,
    CONNECTOR_FILE,
    Salmonn,
    SalmonnInputs,
    preprocess,
    read_sizes,
)
from tests.golden_checks import assert_close, greedy, until

# Our code and upstream's differ in the order of float32 additions, and upstream's filter bank is
# in float64 where ours is given float32 samples: at most 6e-6 was measured, at any stage.
TOLERANCE = 2e-5
CPU = Placement(torch.device("cpu"), torch.float32)


def check(checkpoint: Path, case: Mapping[str, npt.NDArray[np.generic]]) -> None:
    llm, whisper = checkpoint / "vicuna-7b-v1.5", checkpoint / "whisper-large-v2"
    model = _load(checkpoint, llm, whisper, case)
    sizes = read_sizes(llm, whisper)

    mel, fbank = preprocess(_through_a_file(case), sizes.mel_bins)
    assert len(fbank) == int(case["n_fbank"])
    seen: dict[str, Tensor] = {}
    for stage, module in {
        "whisper": model.whisper,
        "beats": model.beats,
        "qformer": model.qformer,
        "connector": model.projector,
    }.items():
        module.register_forward_hook(lambda *call, stage=stage: seen.update({stage: call[2]}))
    texts = [[1, *case["ids_left"].tolist()], case["ids_right"].tolist()]
    with torch.inference_mode():
        windows = model.hear(mel, fbank)
        prompt = model.embed(SalmonnInputs(texts, mel, fbank))
        logits = model.llm(inputs_embeds=prompt[None]).logits[0, -1]
    assert len(seen["beats"][0]) == int(case["n_beats"])
    assert len(windows) == sizes.positions
    ours = {
        "mel": mel.T,
        "fbank_norm": fbank,
        "whisper_out": seen["whisper"].last_hidden_state[0],
        "beats_out": seen["beats"][0],
        "qformer_in_first_last": windows[[0, 1, -2, -1]],
        "qformer_out": seen["qformer"].flatten(0, 1),
        "connector_out": seen["connector"].flatten(0, 1),
        "inputs_embeds": prompt,
        "logits_last": logits,
        "logits_last_without_lora": _unadapted(llm, prompt),
    }
    _compare_all(ours, case)

    end = read_json(llm)["eos_token_id"]
    for stage, beams in (("greedy_ids", 1), ("beam4_ids", 4)):
        expected = case[stage]
        found = greedy(model.llm, prompt, len(expected), end, beams)
        assert found == until(expected, end), stage


def _load(
    checkpoint: Path, llm: Path, whisper: Path, case: Mapping[str, npt.NDArray[np.generic]]
) -> Salmonn:
    """The model, with the number of heads that the Q-Former of these data has.

    No file tells it, so it is the one that turns the golden windows into the golden output.
    """
    windows = torch.tensor(case["qformer_in_first_last"])
    output = torch.tensor(case["qformer_out"])[[0, 1, -2, -1]]
    width = output.shape[-1]
    for heads in (n for n in range(1, width + 1) if width % n == 0):
        model = Salmonn.load(
            checkpoint / CONNECTOR_FILE, llm, whisper, checkpoint / BEATS_FILE, heads, CPU
        )
        with torch.inference_mode():
            ours = model.qformer(model.queries, windows)[:, 0]
        if (ours - output).abs().max() <= TOLERANCE * output.abs().max():
            return model
    raise AssertionError("with no number of heads does the Q-Former give qformer_out")


def _through_a_file(case: Mapping[str, npt.NDArray[np.generic]]) -> npt.NDArray[np.float32]:
    """The waveform written as sound and read back as the adapter reads a clip."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "clip.wav"
        samples = case["waveform"].astype(np.float32)
        soundfile.write(file, samples, int(case["sample_rate"]), subtype="FLOAT")
        return read_clip(file)


def _unadapted(llm: Path, prompt: Tensor) -> Tensor:
    """Logits after the prompt of the language model as it was before SALMONN: the two differ, so
    the adapters are seen to be merged."""
    model = LlamaForCausalLM.from_pretrained(llm, dtype=torch.float32)
    with torch.inference_mode():
        return model(inputs_embeds=prompt[None]).logits[0, -1]


def _compare_all(ours: Mapping[str, Tensor], case: Mapping[str, npt.NDArray[np.generic]]) -> None:
    """Every array of the case that is a stage; `NAME_everyN` holds each N-th step of it."""
    compared = set()
    for name in case:
        stage, _, every = re.fullmatch(r"(.*?)(_every(\d+))?", name).groups()  # type: ignore[union-attr]
        if stage in ours:
            golden = case[name].T if stage == "mel" else case[name]
            assert_close(name, ours[stage][:: int(every or 1)], golden, TOLERANCE)
            compared.add(stage)
    assert compared == ours.keys(), f"the case lacks {sorted(ours.keys() - compared)}"
