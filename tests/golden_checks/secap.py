"""SECap: sound, HuBERT, Q-Former, prompt, logits, ids with and without penalties."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from torch import Tensor

from ovmer.adapters.media import read_sound
from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.device import Placement
from ovmer.baselines.layers.hubert import SAMPLE_RATE, normalise
from ovmer.baselines.models.secap import MODEL_FILE, Secap, SecapInputs
from tests.golden_checks import assert_close, greedy, until

# Our code and upstream's differ in the order of float32 additions alone: 5e-7 was measured, and
# 7e-6 after resampling, which is where upstream rounds the most.
TOLERANCE = 2e-5
_PENALTIES = {
    "min_new_tokens": 3,
    "repetition_penalty": 10.0,
    "no_repeat_ngram_size": 2,
    "early_stopping": True,
}


def check(checkpoint: Path, case: Mapping[str, npt.NDArray[np.generic]]) -> None:
    llm = _snapshot(checkpoint, "chinese-llama")
    model = Secap.load(
        checkpoint / MODEL_FILE,
        _snapshot(checkpoint, "hubert"),
        _snapshot(checkpoint, "bert-base"),
        llm,
        Placement(torch.device("cpu"), torch.float32),
    )
    sound = _through_a_file(case)
    samples = normalise(torch.from_numpy(sound))
    seen: dict[str, Tensor] = {}
    for stage, module in {
        "hubert_out": model.hubert,
        "audio_project_out": model.narrowing,
        "qformer_out": model.qformer,
        "connector_out": model.projector,
    }.items():
        module.register_forward_hook(lambda *call, stage=stage: seen.update({stage: call[2][0]}))
    start = int(case["prompt_ids"][0])
    with torch.inference_mode():
        prompt = model.embed(SecapInputs([[start], case["prompt_ids"].tolist()], samples))
        logits = model.llm(inputs_embeds=prompt[None]).logits[0, -1]
    seen["hubert_out"] = seen["hubert_out"][0]
    ours = {
        "waveform_16k": sound,
        "input_values": samples,
        **seen,
        "inputs_embeds": prompt,
        "logits_last": logits,
    }
    for stage, values in ours.items():
        assert_close(stage, values, case[stage], TOLERANCE)

    end = read_json(llm)["eos_token_id"]
    for stage, settings in (
        ("greedy_ids", {}),
        ("greedy_penalised_ids", _PENALTIES),
        ("beam5_penalised_ids", _PENALTIES | {"num_beams": 5}),
    ):
        expected = case[stage]
        found = greedy(model.llm, prompt, len(expected), end, **settings)
        assert found == until(expected, end), stage


def _through_a_file(case: Mapping[str, npt.NDArray[np.generic]]) -> npt.NDArray[np.float32]:
    """The waveform written as sound and read back as the adapter reads a clip."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "clip.wav"
        samples = case["waveform"].astype(np.float32)
        soundfile.write(file, samples, int(case["sample_rate"]), subtype="FLOAT")
        return read_sound(file, SAMPLE_RATE, resampling="sinc_hann")


def _snapshot(checkpoint: Path, name: str) -> Path:
    """The folder of a model that SECap was built from, in the layout of its `weights`."""
    return next(checkpoint.glob(f"weights/models--*{name}*/snapshots/*"))
