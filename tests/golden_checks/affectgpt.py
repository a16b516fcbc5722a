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
from ovmer.baselines.device import Placement
from ovmer.baselines.layers.clip_vision import normalise
from ovmer.baselines.layers.hubert import SAMPLE_RATE
from ovmer.baselines.models.affectgpt import (
    LORA_ALPHA,
    AffectGpt,
    AffectGptInputs,
    centre,
    preprocess,
)
from ovmer.baselines.training.affectgpt import (
    LORA_TARGETS,
    AffectGptDesign,
    AffectGptInTraining,
    FrozenPrecision,
    TrainingInputs,
)
from ovmer.baselines.training.lora import Lora
from ovmer.baselines.training.lora import trained as trainable
from ovmer.baselines.training.step import ModelWithLoss, Sample, SpecialTokens
from tests.golden_checks import assert_close, greedy

# Our code and upstream's differ in the order of float32 additions alone, low-rank adapters being
# merged: 7.2e-6 was measured.
TOLERANCE = 2e-5
# Of a tensor's norm, relative: the README of golden_training advises it (8e-4 was measured).
GRADIENT = 1e-2
LEFT_ASIDE = dict.fromkeys(
    ("answer_text", "label_type", "openset_csv", "reason_csv", "subtitle_csv"),
    "the words that became `input_ids` and `labels` by a tokenizer that is not kept",
)
CPU = Placement(torch.device("cpu"), torch.float32)
Case = Mapping[str, npt.NDArray[np.generic]]


def check(checkpoint: Path, case: Case) -> None:
    model = _load(checkpoint)
    if "loss" in case:
        _check_training(model, case)
        _check_gradients(checkpoint, case)
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


def _check_gradients(checkpoint: Path, case: Case) -> None:
    """The same batch in the model that is trained, adapters beside the weights."""
    llm, clip, hubert = _parts(checkpoint)
    trained = next(checkpoint.glob("checkpoint_*.pth"))
    rank = len(next(t for n, t in _published(trained).items() if ".lora_A" in n))
    lora = Lora(rank, LORA_ALPHA, 0.0, LORA_TARGETS)
    design = AffectGptDesign(lora=lora, encoders_in_train_mode=False)
    parts = {"llm": llm, "clip": clip, "hubert": hubert}
    model = AffectGptInTraining.build(parts, CPU.device, FrozenPrecision(), design, trained).eval()
    ids, labels = case["input_ids"].tolist(), case["labels"]
    multi = max(map(max, ids))
    slots, frame = (
        (multi, multi - 3, multi - 1),
        SpecialTokens((), int(labels.max()), int(labels.max())),
    )
    rows = []
    for name, row, learned in zip(case["sample"], ids, labels.tolist(), strict=True):
        media = {
            "face": _faces(case[f"face_{name}"]),
            "audio": centre(torch.from_numpy(_listen(case[f"waveform_int16_{name}"][None]))),
        }
        start = next(place for place, label in enumerate(learned) if label >= 0)
        places = [row.index(slot) for slot in slots]
        texts = _around(row[:start], places)
        answer = [label for label in learned if label >= 0][:-1]
        inputs = TrainingInputs(texts, ("multi", "audio", "face"), media)
        rows.append(Sample(str(name), inputs, answer))
    loss = ModelWithLoss(model, model.prompts, frame)(rows)["loss"]
    assert_close("loss in training", loss.detach(), case["loss"], TOLERANCE)
    loss.backward()
    found = dict(zip(model.published(), trainable(model).values(), strict=True))
    norms = {n: float(each.grad.norm()) for n, each in found.items() if each.grad is not None}
    assert set(norms) == set(case["grad_names"].tolist())
    assert set(found) - set(norms) == set(case["no_grad_names"].tolist())
    for name, norm in zip(case["grad_names"].tolist(), case["grad_norms"].tolist(), strict=True):
        assert abs(norms[name] - norm) <= GRADIENT * norm + 1e-6, name


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
    return preprocess(_listen(waveform))


def _listen(waveform: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "clip.wav"
        soundfile.write(file, waveform.T, SAMPLE_RATE, subtype="PCM_16")
        return listen(file)


def _around(ids: Sequence[int], places: Sequence[int]) -> list[Sequence[int]]:
    """The ids before, between and after the placeholders, which stand at `places`."""
    starts, ends = [0, *(place + 1 for place in places)], [*places, len(ids)]
    return [ids[start:end] for start, end in zip(starts, ends, strict=True)]


def _load(checkpoint: Path) -> AffectGpt:
    return AffectGpt.load(next(checkpoint.glob("checkpoint_*.pth")), *_parts(checkpoint), CPU)


def _parts(checkpoint: Path) -> tuple[Path, Path, Path]:
    """Of the language model, of CLIP and of HuBERT."""
    models = checkpoint / "models"
    return (
        models / "Qwen2.5-7B-Instruct",
        models / "clip-vit-large-patch14",
        models / "chinese-hubert-large",
    )


def _published(trained: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = torch.load(trained, weights_only=True)["model"]
    return tensors
