"""Emotion-LLaMA: frame, sound, pixels, both towers, the 260 vectors, logits, ids, training loss."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ovmer.adapters.media import read_nearest
from ovmer.adapters.models.emotion_llama import DATASET, DEMO, look
from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.device import Placement
from ovmer.baselines.layers.clip_vision import normalise as to_pixels
from ovmer.baselines.layers.eva_vit import EVA_FILE, read_eva
from ovmer.baselines.layers.hubert import SAMPLE_RATE, normalise
from ovmer.baselines.models.emotion_llama import (
    CONNECTOR_KEYS,
    JOINED,
    LORA_ALPHA,
    EmotionLlama,
    EmotionLlamaInputs,
    read_trained,
)
from ovmer.baselines.splice import splice
from ovmer.baselines.weight_files import Tensors
from ovmer.baselines.weights import renamed
from tests.golden_checks import assert_close, greedy, heads, until

# Our code and upstream's differ in the order of float32 additions alone.
TOLERANCE, LOGITS, LOSS, GRADIENTS = 2e-5, 1e-4, 1e-5, 1e-3
LAST = 2000
"""Samples that upstream garbles where the sound is shorter than the container says."""
LEFT_ASIDE = {
    "greedy_min_gap": "how safe the greedy ids are from rounding, no stage",
    "answer_text": "the right answer, which the model is not given",
    "pad_id_llama": "`pad_id` in the vocabulary of the tokenizer that is not kept",
    "answer_ids_llama": "`answer_ids` in that vocabulary",
}
CPU = Placement(torch.device("cpu"), torch.float32)
Case = Mapping[str, npt.NDArray[np.generic]]
Load = Callable[[int], EmotionLlama]


def check(checkpoint: Path, case: Case) -> None:
    clips = checkpoint.parent / "clips"
    trained = next((checkpoint / "save_checkpoint").glob("*.pth"))
    hubert = checkpoint / "transformer" / "chinese-hubert-large"
    vision, llm = checkpoint / EVA_FILE, checkpoint / "Llama-2-7b-chat-hf"

    def load(vit_heads: int) -> EmotionLlama:
        return EmotionLlama.load(trained, vision, llm, CPU, hubert=hubert, vit_heads=vit_heads)

    width = read_eva(vision, "")[0].hidden_size
    if "loss" in case:
        _check_training(load, width, clips, case, trained)
    else:
        _check_answer(load, width, clips, case, read_json(llm))


def _check_answer(load: Load, width: int, clips: Path, case: Case, config: Mapping) -> None:
    vocabulary, end = config["vocab_size"], config["eos_token_id"]
    _check_texts(case, vocabulary)
    frame = _see(clips / _text(case, "clip_file"), case)
    pixels = to_pixels(frame[None])
    assert_close("pixels_sub", pixels[0, :, ::16, ::16], case["pixels_sub"], 1e-6)
    assert_close("pixels_sum", pixels[0].double().sum(dim=(1, 2)), case["pixels_sum"], 1e-6)
    seen = torch.inference_mode()(lambda count: load(count).vit(pixels)[0, ::32])
    model = load(heads(width, seen, case["eva_out_sub"], TOLERANCE))

    waveform = None
    features = torch.from_numpy(case["video_features"].astype(np.float32))
    if "waveform_int16" in case:
        waveform = _hear(model, clips / _text(case, "clip_file"), case)
        assert not features[:2].any(), "the demo knows neither face nor video"
    texts = [case["seg0_ids"].tolist(), case["seg1_ids"].tolist()]
    inputs = EmotionLlamaInputs(texts, frame, features, waveform)
    prompt = _check_stages(model, inputs, pixels, case)

    expected = case["greedy_ids"].tolist()
    whole = until(expected, end)
    assert greedy(model.llm, prompt, len(expected), end) == whole
    raw = [1, *whole, *[end] * (len(whole) < len(expected))]
    assert raw == case["generate_ids_raw"].tolist()
    if "generate_ids_rp105" in case:
        found = greedy(model.llm, prompt, len(expected), end, repetition_penalty=1.05)
        assert found == until(case["generate_ids_rp105"].tolist()[1:], end)


def _check_texts(case: Case, vocabulary: int) -> None:
    """The pieces of the prompt are the adapter's, and each <s> is one start token."""
    before, after = (_text(case, f"seg{n}_text") for n in (0, 1))
    assert _text(case, "prompt_text") == f"{before}<VideoHere>{after}"
    template = DEMO if "waveform_int16" in case else DATASET
    assert before == template[0]
    start, _, finish = template[1].partition("{question}")
    assert after.startswith(start), f"{after!r} instead of {start!r}"
    assert after.endswith(finish), f"{after!r} instead of {finish!r}"
    if template is DATASET:
        said = f"The person in video says: {_text(case, 'sentence')}.  ["
        assert after.removeprefix(start).startswith(said)
        assert _text(case, "instruction_input") in _text(case, "prompt_text")
    # `before` is encoded with the start token that a tokenizer adds by itself.
    for n, text in enumerate((f"<s>{before}", after)):
        ids = case[f"seg{n}_ids"].tolist()
        assert ids == _folded(case[f"seg{n}_ids_llama"], vocabulary)
        assert ids.count(1) == text.count("<s>")


def _see(clip: Path, case: Case) -> Tensor:
    frames, frame = look(clip)
    assert frames.indices == (case["frame_index"],) == (0,)
    assert frames.count == case["n_frames"]
    assert np.float32(frames.fps) == case["fps"]
    assert np.array_equal(frames.pixels[0], case["frame_uint8"]), "frame_uint8"
    return torch.from_numpy(frame)


def _hear(model: EmotionLlama, clip: Path, case: Case) -> Tensor:
    golden = case["waveform_int16"].astype(np.float32)
    found = read_nearest(clip, SAMPLE_RATE) * 32768
    assert found.shape == golden.shape
    assert np.abs(found - golden)[:-LAST].max() <= 1, "waveform_int16"
    waveform = normalise(torch.from_numpy(golden / 32768))
    assert_close("hubert_input_sub", waveform[::50], case["hubert_input_sub"], TOLERANCE)
    mean, deviation = case["hubert_input_mean_std"]
    assert abs(float(waveform.double().mean()) - mean) < 1e-6, "mean of hubert_input_mean_std"
    assert_close("hubert_input_mean_std", waveform.std(correction=0), deviation, TOLERANCE)
    with torch.inference_mode():
        heard = model.hubert(waveform[None]).last_hidden_state[0]
        assert len(heard) == case["hubert_frames"]
        assert_close("hubert_last_sub", heard[::8], case["hubert_last_sub"], TOLERANCE)
        feature = model.hear(waveform)
    assert_close("audio_feature", feature, case["audio_feature"], TOLERANCE)
    assert_close("video_features", feature, case["video_features"][2], TOLERANCE)
    return waveform


def _check_stages(
    model: EmotionLlama, inputs: EmotionLlamaInputs, pixels: Tensor, case: Case
) -> Tensor:
    with torch.inference_mode():
        patches = model.vit.embeddings.patch_embedding(pixels)[0].flatten(1).T
        raw, seen = model.vit(pixels)[0], model.see(inputs.frame)
        vectors, prompt = model.encode(inputs), model.embed(inputs)
        ours = {
            "patch_embed_sub": patches[::32],
            "eva_out_sub": raw[::32],
            "ln_vision_sub": seen[::32],
            "image_cat_sub": seen[1:].reshape(-1, JOINED * seen.shape[1])[::16],
            "image_llm_sub": vectors[:-4:16],
            "feats_llm": vectors[-4:-1],
            "cls_in": seen[:1],
            "cls_llm": vectors[-1:],
            "inputs_embeds": prompt,
        }
        logits = model.llm(inputs_embeds=prompt[None]).logits[0, -1]
    table = model.vit.embeddings.position_embedding[0, ::32]
    assert_close("pos_embed_sub", table, case["pos_embed_sub"], 1e-5)
    for stage, found in ours.items():
        assert_close(stage, found, case[stage], TOLERANCE)
    # The sum's terms cancel, so its error is compared with what they add up to without signs.
    error = abs(float(raw.double().sum()) - float(case["eva_out_sum"]))
    assert error <= TOLERANCE * float(raw.double().abs().sum()), "eva_out_sum"
    assert_close("logits_last", logits, case["logits_last"], LOGITS)
    return prompt


def _check_training(load: Load, width: int, clips: Path, case: Case, trained: Path) -> None:
    """A batch of questions and answers: the way into the model, the loss and its gradients.

    In training the picture is at <VideoHere> and the other four vectors at <FeatureHere>, and there
    is one start token.
    """
    names = [str(name) for name in case["items"]]
    frames = [look(next(clips.glob(f"{name}.*")))[1] for name in names]

    def batch(model: EmotionLlama) -> Tensor:
        rows = [
            _row(model, case, number, torch.from_numpy(frame))
            for number, frame in enumerate(frames)
        ]
        padding = model.llm.get_input_embeddings()(torch.tensor(int(case["pad_id"])))
        length = case["inputs_embeds"].shape[1]
        return torch.stack(
            [torch.cat([row, padding.expand(length - len(row), -1)]) for row in rows]
        )

    golden = case["inputs_embeds"]
    found = torch.inference_mode()(lambda count: batch(load(count)))
    model = load(heads(width, found, golden, TOLERANCE))
    weights = [renamed(str(name), CONNECTOR_KEYS) for name in case["grad_names"]]
    for name in weights:
        _weight(model, name).requires_grad_(True)
    embedded = batch(model)
    assert_close("inputs_embeds", embedded.detach(), golden, TOLERANCE)
    words = case["labels"] != -100
    answers = [ids[: row.sum()] for ids, row in zip(case["answer_ids"], words, strict=True)]
    assert np.array_equal(case["labels"][words], np.concatenate(answers))
    loss = model.llm(
        inputs_embeds=embedded,
        attention_mask=torch.from_numpy(case["attention_mask"]),
        labels=torch.from_numpy(case["labels"]),
    ).loss
    assert_close("loss", loss.detach(), case["loss"], LOSS)
    loss.backward()
    factors = read_trained(trained)
    norms = np.array([float(_gradient(model, name, factors).norm()) for name in weights])
    ones = np.ones(len(norms))
    assert_close("grad_norms", norms / case["grad_norms"], ones, GRADIENTS)
    assert all(renamed(str(name), CONNECTOR_KEYS) is None for name in case["no_grad_names"])


def _row(model: EmotionLlama, case: Case, number: int, frame: Tensor) -> Tensor:
    """One question with its answer, not padded."""
    vocabulary = model.llm.config.vocab_size
    pieces = [f"item{number}_seg{n}" for n in range(3)]
    texts = [_text(case, f"{piece}_text") for piece in pieces]
    before, between, after = texts
    said = f"{before}<VideoHere>{between}<FeatureHere>{after}"
    assert said == _text(case, f"instruction_{number}")
    ids = [case[f"{piece}_ids"].tolist() for piece in pieces]
    for piece, each in zip(pieces, ids, strict=True):
        assert each == _folded(case[f"{piece}_ids_llama"], vocabulary)
    answer = case["answer_ids"][number][: (case["labels"][number] != -100).sum()].tolist()
    assert _text(case, f"answer_{number}").endswith("</s>")
    assert answer[-1] == model.llm.config.eos_token_id
    features = torch.from_numpy(case["video_features"][number])
    vectors = model.encode(EmotionLlamaInputs([], frame, features))
    table = model.llm.get_input_embeddings()
    split = [vectors[:-4], vectors[-4:]]
    return splice(table, [[1, *ids[0]], ids[1], [*ids[2], *answer]], split)


def _weight(model: EmotionLlama, name: str) -> Tensor:
    """The parameter, or the one that a low-rank factor is merged into."""
    module, factor, _ = name.partition(".lora_")
    return model.get_parameter(f"{module}.weight" if factor else name)


def _gradient(model: EmotionLlama, name: str, factors: Tensors) -> Tensor:
    """Of a parameter; of a low-rank factor, by the chain rule on W + scale B A."""
    whole = _weight(model, name).grad
    module, _, side = name.partition(".lora_")
    if not side:
        return whole
    down, up = (factors[f"{module}.lora_{each}"].read().float() for each in "AB")
    scale = LORA_ALPHA / len(down)
    return scale * (up.T @ whole if side == "A" else whole @ down.T)


def _folded(ids: npt.NDArray[np.generic], vocabulary: int) -> list[int]:
    """Ids of the real tokenizer in a smaller vocabulary, as the goldens were made."""
    return [i if i < 3 else 3 + (i - 3) % (vocabulary - 3) for i in ids.tolist()]


def _text(case: Case, name: str) -> str:
    return case[name].tobytes().decode()
