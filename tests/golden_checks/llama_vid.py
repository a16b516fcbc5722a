"""LLaMA-VID: frames, pixels, BERT ids, tower, two ways to a vector, prompt, logits, greedy ids."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ovmer.adapters.media.sampling import per_second
from ovmer.baselines.checkpoint import read_json
from ovmer.baselines.device import Placement
from ovmer.baselines.layers.clip_vision import normalise, shortest_side_crop
from ovmer.baselines.layers.eva_vit import EVA_FILE
from ovmer.baselines.models.llama_vid import LONGEST_QUESTION, LlamaVid, LlamaVidInputs, read_sizes
from ovmer.baselines.tokenizer import BertTokenizer
from tests.golden_checks import assert_close, eva_heads, greedy, until

# Our code and upstream's differ in the order of float32 additions alone: 7e-7 was measured.
TOLERANCE = 1e-5
CPU = Placement(torch.device("cpu"), torch.float32)


def check(checkpoint: Path, case: Mapping[str, npt.NDArray[np.generic]]) -> None:
    llm, vision, bert = (
        checkpoint / name
        for name in ("llama-vid-7b-full-224-video-fps-1", EVA_FILE, "bert-base-uncased")
    )
    sizes = read_sizes(llm, vision)
    indices = per_second(len(case["frames"]), float(case["fps"]))
    assert indices == case["frame_idx"].tolist()
    frames = torch.from_numpy(shortest_side_crop(case["frames"][indices], sizes.image))
    pixels, shown = normalise(frames), case["pixel_sub_idx"]
    assert np.array_equal(pixels[shown], case["pixel_values_sub"]), "pixels"

    question = case["bert_ids"].tolist()
    read = BertTokenizer(bert / "vocab.txt")
    texts = [
        json.loads(file.read_text(encoding="utf-8"))
        for file in checkpoint.parent.glob("case*.prompt.json")
    ]
    assert question in [read.encode(text, LONGEST_QUESTION) for text in texts]

    vit_heads = eva_heads(vision, pixels, case["eva_out"], TOLERANCE)
    model = LlamaVid.load(llm, vision, bert, CPU, vit_heads=vit_heads)
    prompt_ids = [case["prompt_ids_before"].tolist(), case["prompt_ids_after"].tolist()]
    ours = _stages(model, LlamaVidInputs(prompt_ids, question, frames))
    for stage, found in ours.items():
        assert_close(stage, found, case[stage], TOLERANCE)

    end = read_json(llm)["eos_token_id"]
    expected = case["greedy_ids"]
    prompt = ours["inputs_embeds"]
    assert greedy(model.llm, prompt, len(expected), end) == until(expected.tolist(), end)


@torch.inference_mode()
def _stages(model: LlamaVid, inputs: LlamaVidInputs) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}
    for stage, module in {
        "eva_out": model.tower,
        "qformer_out": model.context.qformer,
        "text_q": model.context.query,
        "context_token": model.context,
        "content_token": model.content,
    }.items():
        module.register_forward_hook(lambda *call, stage=stage: seen.update({stage: call[2]}))
    model.context.value.register_forward_hook(lambda *call: seen.update(context_pooled=call[1][0]))
    seen["inputs_embeds"] = model.embed(inputs)
    seen["logits_last"] = model.llm(inputs_embeds=seen["inputs_embeds"][None]).logits[0, -1]
    before, count = len(inputs.texts[0]), 2 * len(inputs.frames)
    seen["connector_out"] = seen["inputs_embeds"][before : before + count]
    return seen
