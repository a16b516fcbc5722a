"""HumanOmni: frames, pixels, both towers, branches, gate, compressor, prompt, logits, ids."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import Qwen2Config

from ovmer.adapters.media.sampling import segment_centres
from ovmer.adapters.models.humanomni import pieces, question_ids
from ovmer.baselines.chat import ChatTokenizer
from ovmer.baselines.device import Placement
from ovmer.baselines.layers.siglip import normalise, stretch
from ovmer.baselines.layers.whisper import log_mel
from ovmer.baselines.models.humanomni import (
    HumanOmni,
    HumanOmniInputs,
    HumanOmniSizes,
    read_sizes,
)
from ovmer.baselines.models.humanomni_config import HumanOmniConfig
from ovmer.baselines.tokenizer import BertTokenizer
from tests.golden_checks import assert_close, greedy

# Our code and upstream's differ in the order of float32 additions alone: 2.7e-6 was measured at the
# logits, 1.2e-6 before them, 1.6e-7 at pixels and log-mel.
TOLERANCE = 2e-5
EXACT = 1e-6
LEFT_ASIDE = {
    "greedy_top2_gap": "how sure the model was of each id, which is compared itself",
    "n_samples": "the length of `waveform_int16`",
}
CPU = Placement(torch.device("cpu"), torch.float32)
Case = Mapping[str, npt.NDArray[np.generic]]
VIDEO_SLOT, AUDIO_SLOT = -201, -202
ENDLESS = 10**9
"""No id: the golden answers are counted in tokens."""


def check(checkpoint: Path, case: Case) -> None:
    folders = _folders(checkpoint, case)
    sizes, model = read_sizes(*folders), HumanOmni.load(*folders, CPU)
    with torch.inference_mode():
        inputs = _read(folders, sizes, case)
        if inputs.frames is not None:
            _check_picture(model, inputs, case)
        if inputs.mel is not None:
            _check_sound(model, inputs.mel, case)
        _check_gate(model, inputs, case)
        _check_answer(model, model.embed(inputs), case)


def _folders(checkpoint: Path, case: Case) -> tuple[Path, Path, Path, Path]:
    """The main folder of the size that the case is of, its towers by their names, and BERT."""
    width = case["last_hidden_layer0"].shape[-1]
    frames = len(case["frame_idx"]) if "frame_idx" in case else None
    found = []
    for folder in sorted(checkpoint.iterdir()):
        told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if told["model_type"] == "HumanOmni_qwen2":
            config = HumanOmniConfig.read(folder)
            if config.llm["hidden_size"] == width and frames in (None, config.frames):
                found.append((folder, config))
    ((main, config),) = found
    bert = checkpoint / "bert-base-uncased"
    return main, checkpoint / config.vision_tower, checkpoint / config.audio_tower, bert


def _read(folders: tuple[Path, ...], sizes: HumanOmniSizes, case: Case) -> HumanOmniInputs:
    """The inputs as the adapter makes them, with the ids of the prompt compared."""
    main, *_, bert = folders
    question = bytes(case["question"].astype(np.uint8)).decode()
    words = BertTokenizer(bert / "vocab.txt")
    frames, mel = _see(sizes, case), _hear(sizes, case)
    seen, heard = frames is not None, mel is not None
    template = pieces(seen=seen, heard=heard, has_tags=sizes.has_tags)
    texts = [text.replace("{question}", question) for text in template]
    around = ChatTokenizer(main, Qwen2Config()).chat_around(texts)
    slots = [VIDEO_SLOT] * seen + [AUDIO_SLOT] * heard
    ids = list(around[0])
    for slot, text in zip(slots, around[1:], strict=True):
        ids += [slot, *text]
    assert ids == case["input_ids"].tolist(), "input_ids"
    prompt = bytes(case["prompt_text"].astype(np.uint8)).decode()
    marked = "".join(
        text + slot
        for text, slot in zip(texts, ["<video>"] * seen + ["<audio>"] * heard + [""], strict=True)
    )
    assert marked in prompt, "prompt_text"
    return HumanOmniInputs(around, question_ids(words, question, sizes.question), frames, mel)


def _see(sizes: HumanOmniSizes, case: Case) -> Tensor | None:
    if "frames_uint8" not in case:
        return None
    stored = case["frames_uint8"]
    indices = segment_centres(len(stored), sizes.frames)
    assert indices == case["frame_idx"].tolist(), "frame_idx"
    return torch.from_numpy(stretch(stored[indices].astype(np.uint8), sizes.image))


def _hear(sizes: HumanOmniSizes, case: Case) -> Tensor | None:
    if "waveform_int16" not in case:
        return None
    return log_mel(case["waveform_int16"].astype(np.float32) / 32768, sizes.mel_bins)


def _check_picture(model: HumanOmni, inputs: HumanOmniInputs, case: Case) -> None:
    assert inputs.frames is not None
    pixels = normalise(inputs.frames)
    step, every = (48, 4) if "compressor_out_sub" in case else (16, 1)
    assert_close("pixels_sub", pixels[::every, :, 5::step, 5::step], case["pixels_sub"], EXACT)
    _assert_sums("pixels_sum", pixels, case["pixels_sum"], EXACT)

    patches = model.see(inputs.frames)
    frames, tokens = (8, 31) if "compressor_out_sub" in case else (1, 7)
    sub = patches[::frames, ::tokens]
    assert_close("siglip_hidden_sub", sub, case["siglip_hidden_sub"], TOLERANCE)
    _assert_sums("siglip_hidden_sum", patches, case["siglip_hidden_sum"], TOLERANCE)

    rows = 43 if "compressor_out_sub" in case else 4
    weights = torch.from_numpy(case["branch_probs"])
    names = ("branch_video_sub", "branch_body_sub", "branch_face_pooled_sub")
    branches = [branch.flatten(0, 1) for branch in model.projector(patches)]
    for name, branch in zip(names, branches, strict=True):
        assert_close(name, branch[::rows], case[name], TOLERANCE)
    fused = sum(weight * branch for weight, branch in zip(weights, branches, strict=True))
    assert isinstance(fused, Tensor)
    assert_close("fused_sub", fused[::rows], case["fused_sub"], TOLERANCE)
    vectors = model.fuse(patches, weights)
    assert len(vectors) == case["n_video_tokens"]
    assert model.compresses == ("compressor_out_sub" in case)
    if model.compresses:
        expected = case["compressor_out_sub"]
        assert_close("compressor_out_sub", vectors[::rows], expected, TOLERANCE)


def _assert_sums(
    stage: str, ours: Tensor, golden: npt.NDArray[np.generic], tolerance: float
) -> None:
    """The sum of each frame, whose terms nearly cancel: the error is that of one term."""
    largest, count = float(ours.abs().max()), ours[0].numel()
    scale = np.array([largest * count])
    sums = np.asarray(ours.double().flatten(1).sum(dim=1))
    assert_close(stage, np.append(sums, scale), np.append(golden, scale), tolerance)


def _check_sound(model: HumanOmni, mel: Tensor, case: Case) -> None:
    assert_close("mel_sub", mel[::4, ::10], case["mel_sub"], EXACT)
    told = torch.stack([mel.double().mean(), mel.max(), mel.min()])
    assert_close("mel_mean_max_min", told, case["mel_mean_max_min"], EXACT)
    hidden = model.whisper(mel[None]).last_hidden_state[0]
    assert_close("whisper_hidden_sub", hidden[::10], case["whisper_hidden_sub"], TOLERANCE)
    pooled = model.hear(mel)
    assert_close("whisper_pooled_sub", pooled[::5], case["whisper_pooled_sub"], TOLERANCE)
    tokens, expected = model.audio_projector(pooled), case["audio_tokens_sub"]
    every = len(tokens) // len(expected)
    assert_close("audio_tokens_sub", tokens[::every], expected, TOLERANCE)


def _check_gate(model: HumanOmni, inputs: HumanOmniInputs, case: Case) -> None:
    ids = [list(inputs.question)]
    assert ids == case["bert_input_ids"].tolist(), "bert_input_ids"
    assert not case["bert_token_type_ids"].any(), "BERT reads one sentence"
    assert case["bert_attention_mask"].all(), "nothing of the question is hidden"
    hidden = model.bert(input_ids=torch.tensor(ids)).last_hidden_state[0]
    assert_close("bert_hidden", hidden, case["bert_hidden"], TOLERANCE)
    assert_close("gate_logits", model.gate(hidden[0]), case["gate_logits"], TOLERANCE)
    assert_close("branch_probs", model.weigh(inputs.question), case["branch_probs"], TOLERANCE)


def _check_answer(model: HumanOmni, prompt: Tensor, case: Case) -> None:
    assert len(prompt) == case["n_embeds"]
    name = "inputs_embeds" if "inputs_embeds" in case else "inputs_embeds_sub"
    rows = prompt if name == "inputs_embeds" else prompt[::16]
    assert_close(name, rows, case[name], TOLERANCE)
    sums = prompt.sum(dim=1)
    assert_close("inputs_embeds_row_sum", sums, case["inputs_embeds_row_sum"], TOLERANCE)

    out = model.llm(inputs_embeds=prompt[None], output_hidden_states=True)
    first = out.hidden_states[1][0, -1]
    assert_close("last_hidden_layer0", first, case["last_hidden_layer0"], TOLERANCE)
    assert_close("logits_last", out.logits[0, -1], case["logits_last"], TOLERANCE)
    expected = case["greedy_ids"].tolist()
    assert greedy(model.llm, prompt, len(expected), ENDLESS) == expected
    for name in case:
        if name.startswith("greedy_ids_rp"):  # penalty on repetition, in tenths
            penalty = int(name.removeprefix("greedy_ids_rp")) / 10
            expected = case[name].tolist()
            found = greedy(model.llm, prompt, len(expected), ENDLESS, repetition_penalty=penalty)
            assert found == expected, name
