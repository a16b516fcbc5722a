"""Quantised chat models, without a GPU: what is asked of bitsandbytes, and what stays as it is."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen2_5_VLForConditionalGeneration as QwenVl

from ovmer.adapters.base import Machine
from ovmer.adapters.native import Native
from ovmer.baselines.decoding import engine_settings
from tests.adapters.chat_models import CLIPS, configured, prepared


def machine(quantization: str) -> Machine:
    engine = {"name": "transformers", "quantization": quantization}
    return Machine(device="cpu", dtype="float32", engine=engine)


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Native:
    return configured("qwen2_5_vl").miniature(tmp_path_factory.mktemp("chat"))


def linear_layers(model: torch.nn.Module, within: str) -> set[str]:
    named = model.named_modules()
    return {name for name, each in named if isinstance(each, torch.nn.Linear) and within in name}


class Asked(Exception):
    """What `from_pretrained` was given."""


@pytest.mark.parametrize(
    ("quantization", "expected"),
    [
        ("8bit", {"load_in_8bit": True, "load_in_4bit": False}),
        ("4bit", {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}),
    ],
)
def test_the_language_model_alone_is_quantised(
    chat: Native, monkeypatch: pytest.MonkeyPatch, quantization: str, expected: dict[str, Any]
) -> None:
    def from_pretrained(folder: Path, **options: Any) -> None:
        raise Asked(options)

    monkeypatch.setattr(engine_settings, "version", lambda package: "0.50")
    monkeypatch.setattr(QwenVl, "from_pretrained", from_pretrained)
    with pytest.raises(Asked) as asked:
        chat.load(machine(quantization))
    (options,) = asked.value.args
    config = options["quantization_config"]
    assert {key: getattr(config, key) for key in expected} == expected
    if quantization == "4bit":
        assert config.bnb_4bit_compute_dtype == options["dtype"] == torch.float32
    with torch.device("meta"):
        model = QwenVl(QwenVl.config_class.from_pretrained(chat.parts["model"]))
    kept = set(config.llm_int8_skip_modules)
    assert kept == linear_layers(model, "visual") | {"lm_head"}
    assert linear_layers(model, "language_model").isdisjoint(kept)


@pytest.mark.by_hand  # `pip install 'ovmer[quantization]'`: bitsandbytes computes on a CPU too
@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_a_quantised_chat_model_answers(chat: Native, quantization: str) -> None:
    chat.load(machine(quantization))
    kinds = {type(each).__name__ for each in chat.modules.llm.modules()}
    assert {"8bit": "Linear8bitLt", "4bit": "Linear4bit"}[quantization] in kinds
    answers = chat.generate([prepared(chat, clip) for clip in CLIPS])
    assert all(answer.text for answer in answers)
    chat.close()
