"""AffectGPT: faces or frames, pixels, sound, both encoders, the three vectors, logits, ids."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from torch import Tensor

from ovmer.adapters.models.affectgpt import FACE, RELEASES, listen, look, look_at
from ovmer.baselines.device import Place
from ovmer.baselines.layers.clip_vision import normalise
from ovmer.baselines.layers.hubert import SAMPLE_RATE
from ovmer.baselines.models.affectgpt import AffectGpt, AffectGptInputs, preprocess
from tests.golden_checks import assert_close, greedy

# Our code and upstream's differ in the order of float32 additions alone, low-rank adapters being
# merged: 7.2e-6 was measured.
TOLERANCE = 2e-5
LEFT_ASIDE = {
    **dict.fromkeys(
        ("grad_names", "grad_norms", "no_grad_names"),
        "gradients of the low-rank adapters, which are merged here; nothing is trained",
    ),
    **dict.fromkeys(
        ("answer_text", "label_type", "openset_csv", "reason_csv", "subtitle_csv"),
        "the words that became `input_ids` and `labels` by a tokenizer that is not kept",
    ),
}
CPU = Place(torch.device("cpu"), torch.float32)
Case = Mapping[str, npt.NDArray[np.generic]]


def check(checkpoint: Path, case: Case) -> None:
    model = _load(checkpoint)
    if "loss" in case:
        _check_training(model, case)
    else:
        _check_answer(model, case)


def _check_answer(model: AffectGpt, case: Case) -> None:
    sound = _hear(case["waveform_int16"])
    assert_close("hubert_input_sub", sound[:, ::50], case["hubert_input_sub"], TOLERANCE)
    assert_close("hubert_input_std", sound.std(dim=1), case["hubert_input_std"], TOLERANCE)
    assert np.abs(sound.mean(dim=1).numpy() - case["hubert_input_mean"]).max() < 1e-6
    frames = _see(case)
    pixels = normalise(frames)[..., ::16, ::16]
    assert_close("clip_pixels_sub", pixels, case["clip_pixels_sub"], TOLERANCE)

    ids, places = case["prompt_ids"].tolist(), case["placeholder_pos"].tolist()
    assert [ids[place] for place in places] == case["placeholder_ids"].tolist()
    assert case["attention_mask"].all(), "no place of a prompt is hidden"
    inputs = AffectGptInputs(_around(ids, places), frames, sound)
    with torch.inference_mode():
        seen, heard = model.see(frames), model.hear(sound)
        prompt = model.embed(inputs)
        ours = {
            "video_hidden": seen,
            "audio_hidden": heard,
            "video_llm": model.video(seen),
            "audio_llm": model.audio(heard),
            "multi_hidden": model.multi.mix(seen, heard),
            "multi_llm": model.multi(seen, heard),
            "inputs_embeds": prompt,
            "logits_last": model.llm(inputs_embeds=prompt[None]).logits[0, -1],
        }
    for stage, found in ours.items():
        assert_close(stage, found, case[stage].reshape(found.shape), TOLERANCE)
    expected, no_end = case["greedy_ids"].tolist(), model.llm.config.vocab_size
    assert greedy(model.llm, prompt, len(expected), no_end) == expected


def _check_training(model: AffectGpt, case: Case) -> None:
    """A batch of questions and answers: the same way into the model, and the loss."""
    ids = case["input_ids"]
    multi = int(ids.max())  # of the placeholders <ImageHere> <AudioHere> <FrameHere> <FaceHere>
    slots = (multi, multi - 3, multi - 1)  # and <MultiHere>, the last ids of the tokenizer
    rows = []
    with torch.inference_mode():
        for name, row in zip(case["sample"], ids.tolist(), strict=True):
            frames = _faces(case[f"face_{name}"])
            sound = _hear(case[f"waveform_int16_{name}"][None])
            places = [row.index(slot) for slot in slots]
            rows.append(model.embed(AffectGptInputs(_around(row, places), frames, sound)))
        batch = torch.stack(rows)
        loss = model.llm(
            inputs_embeds=batch,
            attention_mask=torch.from_numpy(case["attention_masks"]).long(),
            labels=torch.from_numpy(case["labels"]).long(),
        ).loss
    assert_close("inputs_embeds", batch, case["inputs_embeds"], TOLERANCE)
    assert_close("loss", loss, case["loss"], TOLERANCE)


def _see(case: Case) -> Tensor:
    """Faces from a file, as a data set holds them; frames as decord gives them."""
    stored = case["frames_uint8"]
    if "sampled_indices" in case:
        indices = look_at(len(stored), 25)
        assert indices == case["sampled_indices"].tolist()
        frames = torch.from_numpy(stored[indices])
    else:
        frames = _faces(stored)
    raw = frames.permute(3, 0, 1, 2).float()
    assert np.array_equal(raw[..., ::16, ::16], case["raw_frames_sub"]), "raw_frames_sub"
    # Recorded in float32, which at this size knows every other whole number only.
    sums = raw.double().sum(dim=(0, 2, 3))
    assert np.abs(sums.numpy() - case["raw_frames_sum"]).max() <= 1, "raw_frames_sum"
    return frames


def _faces(stored: npt.NDArray[np.generic]) -> Tensor:
    release = next(name for name, each in RELEASES.items() if each.looks_at == FACE)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "clip.npy"
        np.save(file, stored)
        return torch.from_numpy(look(file, release))


def _hear(waveform: npt.NDArray[np.generic]) -> Tensor:
    """Channels x samples -> what HuBERT is given, through a file."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "clip.wav"
        soundfile.write(file, waveform.T, SAMPLE_RATE, subtype="PCM_16")
        return preprocess(listen(file))


def _around(ids: Sequence[int], places: Sequence[int]) -> list[Sequence[int]]:
    """The ids before, between and after the placeholders, which stand at `places`."""
    starts, ends = [0, *(place + 1 for place in places)], [*places, len(ids)]
    return [ids[start:end] for start, end in zip(starts, ends, strict=True)]


def _load(checkpoint: Path) -> AffectGpt:
    names = ("Qwen2.5-7B-Instruct", "clip-vit-large-patch14", "chinese-hubert-large")
    llm, clip, hubert = (checkpoint / "models" / name for name in names)
    trained = next(checkpoint.glob("checkpoint_*.pth"))
    return AffectGpt.load(trained, llm, clip, hubert, CPU)
