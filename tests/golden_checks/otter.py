"""Otter: frames, pixels, tower, perceiver, a gated block, logits by step, greedy and beam ids."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ovmer.adapters.media.sampling import whole_steps
from ovmer.baselines.decoding.answers import ConditionedPrompt
from ovmer.baselines.decoding.continuous import transformers_engine
from ovmer.baselines.decoding.row_cache import CACHE_ARGUMENT
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.device import Placement
from ovmer.baselines.layers.clip_vision import normalise, shortest_side_crop
from ovmer.baselines.models.otter import Otter, OtterInputs, OtterLlama, read_sizes
from ovmer.baselines.weight_files import read_tensors
from tests.golden_checks import assert_close, until

# Our code and upstream's differ in the order of float32 additions alone: 9e-7 was measured.
TOLERANCE = 1e-5
LEFT_ASIDE = {"greedy_min_gap": "how safe the greedy ids are from rounding, no stage"}
_CONTROL_TOKENS = 4
"""<|endofchunk|>, <image>, <answer> and <PAD>, the last rows of the embeddings in this order."""


def check(checkpoint: Path, case: Mapping[str, npt.NDArray[np.generic]]) -> None:
    sizes, ids = read_sizes(checkpoint), case["input_ids"].tolist()
    end = sizes.vocabulary - _CONTROL_TOKENS
    image = ids[int(case["image_token_position"])]
    assert image == end + 1
    placement = Placement(torch.device("cpu"), torch.float32)
    model = Otter.load(checkpoint, image, placement, perceiver_layers=_depth(checkpoint))

    indices = whole_steps(len(case["frames"]), len(case["frame_indices"]))
    assert indices == case["frame_indices"].tolist()
    shown = case["frames"][indices]
    frames = torch.from_numpy(shortest_side_crop(shown, sizes.image))
    assert np.array_equal(normalise(frames[[0, 7, 15]]), case["pixels_frames_0_7_15"]), "pixels"
    large = normalise(torch.from_numpy(shortest_side_crop(shown[:1], 224)))[0, :, ::8, ::8]
    assert np.array_equal(large, case["pixels_224_frame0_stride8"]), "pixels of 224"

    seen: dict[str, Tensor] = {}
    model.tower.register_forward_hook(lambda *call: seen.update(tower=call[2]))
    with torch.inference_mode():
        prompt = model.embed(OtterInputs(ids, frames))
        words = model.llm.get_input_embeddings()(torch.tensor([ids]))
    tower = seen["tower"][[0, 1, 7, 15]]
    assert_close("tower", tower, case["clip_last_hidden_state_frames_0_1_7_15"], TOLERANCE)
    assert_close("connector_output", prompt.media[None, None], case["connector_output"], TOLERANCE)
    assert_close("inputs_embeds", words, case["inputs_embeds"], TOLERANCE)

    _check_steps(model.llm, prompt, case)
    _check_ids(model.llm, prompt, case, end)


def _depth(checkpoint: Path) -> int:
    """The layers of the perceiver, of which config.json says nothing."""
    names = read_tensors(checkpoint)
    return sum(name.startswith("perceiver.") and name.endswith(".to_q.weight") for name in names)


def _check_steps(
    llm: OtterLlama, prompt: ConditionedPrompt, case: Mapping[str, npt.NDArray[np.generic]]
) -> None:
    """Prompt, then the golden's greedy words one by one: these do not look at the video.

    In one pass without a cache, which is not what the published code does, they would.
    """
    gated = next(layer.gated for layer in llm.model.layers if layer.gated)
    looks, blocks = list[float](), list[Tensor]()
    gated.attn.register_forward_hook(lambda *call: looks.append(call[2].abs().max().item()))
    gated.register_forward_hook(lambda *call: blocks.append(call[2]))
    step, past, logits, looked = torch.tensor([prompt.ids]), None, list[Tensor](), list[float]()
    with torch.inference_mode():
        for word in case["greedy_ids"].tolist():
            looks.clear()
            beside = llm.looks(step, prompt.media[None]) | {CACHE_ARGUMENT: past}
            output = llm(input_ids=step, use_cache=True, **beside)
            past, step = output[CACHE_ARGUMENT], torch.tensor([[word]])
            logits.append(output.logits[0])
            looked.append(sum(looks))
        said = torch.tensor([prompt.ids + case["greedy_ids"].tolist()[:-1]])
        beside = llm.looks(said, prompt.media[None])
        whole = llm(input_ids=said, **beside).logits[0, len(prompt.ids) - 1 :]
    stages = {
        "first_gated_block_output_prompt": blocks[0],
        "logits_prompt_every_4th": logits[0][::4],
        "logits_last": logits[0][-1],
        "step_logits": torch.stack([each[-1] for each in logits]),
        "step_logits_without_cache": whole,
        "cross_attention_absmax_per_step": torch.tensor(looked),
    }
    for stage, ours in stages.items():
        assert_close(stage, ours, case[stage], TOLERANCE)
    assert looked[1:] == [0] * (len(looked) - 1)


def _check_ids(
    llm: OtterLlama,
    prompt: ConditionedPrompt,
    case: Mapping[str, npt.NDArray[np.generic]],
    end: int,
) -> None:
    """Through our engine, in the last case as the authors decode: beams, n-grams and bad words."""
    greedy, beams = case["greedy_ids"].tolist(), case["beam3_ids"].tolist()
    tokenizer = _Ids(end, case["bad_words_ids"].tolist())
    for expected, settings in (
        (greedy, GenerationSettings(max_new_tokens=len(greedy))),
        (
            beams,
            GenerationSettings(
                # Where the golden ended early, the limit that it was made with lets ours end too.
                max_new_tokens=max(12, len(beams)),
                num_beams=3,
                no_repeat_ngram_size=3,
                bad_words=[str(i) for i in range(len(case["bad_words_ids"]))],
            ),
        ),
    ):
        engine = transformers_engine(llm, tokenizer, settings)
        # A batch of two, so that beams are matched with their media.
        for answer in engine.generate([prompt, prompt], [0, 0]):
            assert list(answer.ids) == until(expected, end)


class _Ids:
    """Bad words by number, for the golden holds their ids alone."""

    def __init__(self, eos_id: int, bad_words: Sequence[list[int]]) -> None:
        self.bos_id = self.eos_id = eos_id
        self.stop_ids = (eos_id,)
        self._bad_words = bad_words

    def encode(self, text: str) -> list[int]:
        return self._bad_words[int(text)]

    def decode(self, ids: Sequence[int]) -> str:
        return ""
