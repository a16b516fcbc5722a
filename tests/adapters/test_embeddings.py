"""`embeddings=true`: hidden states of each clip's prompt, in one file a run."""

from pathlib import Path

import numpy as np
import pytest
import torch

import ovmer
from ovmer.adapters.base import Machine
from ovmer.adapters.embeddings import FILE
from ovmer.baselines.device import Placement
from ovmer.baselines.errors import PrerequisiteError
from tests import SAMPLE
from tests.adapters.chat_models import configured
from tests.runners.jobs import job


def swept(outputs: Path, baseline: str, *settings: str) -> dict[str, np.ndarray]:
    """What the file of a run over two clips of the sample holds."""
    ovmer.sweep(
        [
            f"baseline={baseline}",
            "dataset=sample",
            "limit=2",
            "dry_run=true",
            "generation=greedy",
            f"outputs={outputs}",
            *settings,
        ]
    )
    (file,) = outputs.rglob(FILE)
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def test_a_port_keeps_what_its_connector_and_its_language_model_say(tmp_path):
    found = swept(tmp_path, "video_llava", "embeddings=true")
    assert found["names"].tolist() == ["good_news", "broken_promise"]
    assert found["slots"].tolist() == [str(frame) for frame in range(8)]
    assert found["connector"].shape == (2, 8, found["hidden"].shape[1])
    assert np.isfinite(found["hidden"]).all()
    assert np.isfinite(found["connector"]).all()
    assert not np.allclose(found["hidden"][0], found["hidden"][1])

    again = swept(tmp_path, "video_llava", "embeddings=true", "limit=3")
    assert len(again["names"]) == 3
    for name in ("hidden", "connector"):
        assert np.array_equal(again[name][:2], found[name])


def test_what_a_port_keeps_is_what_a_forward_pass_by_hand_gives(tmp_path):
    adapter = job("baseline=video_llava", "dry_run=true").adapter.miniature(tmp_path)
    adapter.load(Machine(device="cpu", dtype="float32"))
    item = adapter.prepare(SAMPLE / "video" / "good_news.mp4", None, "No!")
    states = adapter.prompt_states(item)

    model, inputs = adapter.build(Placement(torch.device("cpu"), torch.float32)), item.inputs
    words = model.llm.get_input_embeddings()
    with torch.inference_mode():
        frames = model.encode(inputs.pixels)
        texts = [words(torch.tensor(ids, dtype=torch.long)) for ids in inputs.texts]
        prompt = [texts[0]]
        for frame, text in zip(frames, texts[1:], strict=True):
            prompt += [frame, text]
        whole = model.llm.model(inputs_embeds=torch.cat(prompt)[None]).last_hidden_state
    # The same operations on the same numbers, so nothing but the order of a sum may differ.
    assert np.allclose(states.hidden, whole[0, -1], atol=1e-6)
    assert list(states.connector) == [str(number) for number in range(len(frames))]
    for stored, frame in zip(states.connector.values(), frames, strict=True):
        assert np.allclose(stored, frame.mean(0), atol=1e-6)


def test_a_chat_model_keeps_a_vector_for_each_medium(tmp_path):
    adapter = configured("qwen2_5_omni").miniature(tmp_path)
    adapter.load(Machine(device="cpu", dtype="float32"))
    clip = [
        SAMPLE / kind / f"good_news.{end}" for kind, end in (("video", "mp4"), ("audio", "wav"))
    ]
    item = adapter.prepare(*clip, "No!")
    states = adapter.prompt_states(item)
    assert set(states.connector) == {"video", "audio"}

    # The first word follows from the state: the head's best token for it is the answer's first.
    llm = adapter.modules.llm
    scores = llm.get_output_embeddings()(torch.tensor(states.hidden)[None])
    (answer,) = adapter.engine.generate([item.inputs.prompt], [0])
    assert int(scores.argmax()) == answer.ids[0]

    silent = adapter.prompt_states(adapter.prepare(clip[0], None, "No!"))
    assert set(silent.connector) == {"video"}
    assert np.allclose(silent.connector["video"], states.connector["video"], atol=1e-5)


@pytest.mark.parametrize(
    ("baseline", "settings", "words"),
    [
        ("video_llava", ["engine=vllm"], "embeddings=true needs engine=transformers"),
        ("lexicon", [], "embeddings=true needs a language model"),
    ],
)
def test_where_hidden_states_cannot_be_had_the_run_does_not_start(
    tmp_path, baseline, settings, words
):
    with pytest.raises(PrerequisiteError, match=words):
        swept(tmp_path, baseline, "embeddings=true", *settings)
