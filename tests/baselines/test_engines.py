"""Which engine decodes what, how it is refused, and the switches of the transformers engine."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from transformers import LlamaForCausalLM

from ovmer.baselines.decoding.answers import Generated, NotFinite
from ovmer.baselines.decoding.continuous import transformers_engine
from ovmer.baselines.decoding.engine_settings import VllmSettings, engine_settings
from ovmer.baselines.decoding.memory import MemoryNeeds, check_memory, needs_of
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.device import GIB, Placement
from ovmer.baselines.errors import PrerequisiteError
from ovmer.baselines.llama import llama_config
from ovmer.baselines.llm_folder import LlmFolder
from ovmer.baselines.miniature import random_tensors
from ovmer.baselines.models.salmonn import Salmonn, write_miniature
from tests.baselines.test_decoding import Letters
from tests.extraction.fake_server import error, serving
from tests.runners.jobs import job

CPU = Placement(torch.device("cpu"), torch.float32)
CONF = Path(__file__).parents[2] / "conf" / "engine"
GREEDY = GenerationSettings(max_new_tokens=12)


class Modules:
    """All of a baseline that the engine looks at."""

    def __init__(self) -> None:
        sizes = {
            "vocab_size": 60,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 1,
        }
        self.llm = LlamaForCausalLM(llama_config(sizes)).eval()
        self.llm.load_state_dict(random_tensors(self.llm, seed=3))


@pytest.mark.parametrize("name", [file.stem for file in sorted(CONF.glob("*.yaml"))])
def test_the_files_of_the_group_hold_just_the_keys_of_their_engine(name: str):
    given: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    assert engine_settings(given).name == name


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"name": "vlm"}, "engine.name is 'vlm'; did you mean vllm"),
        (
            {"name": "vllm", "memori": 1},
            "the engine vllm has no key engine.memori; it has name, cache, batch_size",
        ),
        ({"name": "vllm", "memory": 80}, "engine.memory is 80.0; give a number from 0.05 to 1"),
        (
            {"name": "vllm", "memory": "half"},
            "engine.memory: Value 'half' of type 'str' could not be converted",
        ),
        ({"name": "server", "concurrency": "many"}, "engine.concurrency: Value 'many' of type"),
        ({"name": "transformers", "quantization": "2bit"}, "choose from none, 8bit, 4bit"),
        (
            {"name": "transformers", "compile": "often"},
            "engine.compile: Value 'often' is not a valid bool",
        ),
    ],
)
def test_a_wrong_setting_is_reported_in_one_sentence(given: dict[str, Any], sentence: str):
    with pytest.raises(PrerequisiteError) as error:
        engine_settings(given)
    assert sentence in str(error.value)


@pytest.mark.parametrize("name", ["vllm", "server"])
def test_what_vllm_cannot_do_is_refused_with_the_way_out(name: str):
    engine = engine_settings({"name": name})
    engine.check(GREEDY, "")
    engine.check(GenerationSettings(do_sample=True, top_k=5, top_p=0.5, stop=["#"]), "")
    with pytest.raises(PrerequisiteError, match=r"no beam search.*\(num_beams=4\).*=greedy"):
        engine.check(GenerationSettings(num_beams=4), "")
    with pytest.raises(PrerequisiteError, match=r"n-grams.*; say engine=transformers"):
        engine.check(GenerationSettings(no_repeat_ngram_size=2), "")
    with pytest.raises(PrerequisiteError, match=r"cannot decode.*, because it looks aside; say"):
        engine.check(GREEDY, "it looks aside")


def test_the_transformers_engine_decodes_all_but_quantised_it_does_not():
    GenerationSettings(num_beams=4)
    engine_settings({"name": "transformers"}).check(GREEDY, "it looks aside")
    engine = engine_settings({"name": "transformers", "quantization": "4bit"})
    with pytest.raises(PrerequisiteError, match=r"=4bit.*it looks aside; say engine.quant"):
        engine.check(GREEDY, "it looks aside")


def gib(encoders: float, llm: float, cache: float) -> MemoryNeeds:
    return MemoryNeeds(*(int(size * GIB) for size in (encoders, llm, cache)))


SEVEN = gib(encoders=2.5, llm=12.6, cache=2.0)  # half precision, 4096 tokens


@pytest.mark.parametrize(("total", "share"), [(24, 0.75), (40, 0.75), (80, 0.9)])
def test_a_gpu_that_is_large_enough_passes(total: int, share: float):
    check_memory(SEVEN, total * GIB, share)


def test_a_share_that_leaves_the_encoders_too_little_is_to_be_lowered():
    with pytest.raises(PrerequisiteError) as error:
        check_memory(SEVEN, 24 * GIB, 0.9)
    sentence = str(error.value)
    assert "the encoders 4.0 GiB" in sentence
    better = float(sentence.rpartition("set engine.memory=")[2])
    assert 0.67 < better < 0.84
    check_memory(SEVEN, 24 * GIB, better)


def test_a_gpu_that_is_too_small_is_reported_with_the_estimate():
    with pytest.raises(PrerequisiteError, match="the GPU is too small") as error:
        check_memory(SEVEN, 16 * GIB, 0.75)
    sentence = str(error.value)
    assert "about 16.1 GiB (weights 12.6 GiB, one long clip 2.0 GiB)" in sentence
    assert "engine.context" in sentence
    assert "\n" not in sentence


def test_another_gpu_than_the_first_is_asked_for_by_the_environment():
    settings = engine_settings({"name": "vllm"})
    assert isinstance(settings, VllmSettings)
    assert settings.arguments(torch.device("cuda"), "float16")["dtype"] == "float16"
    with pytest.raises(PrerequisiteError, match="set the variable CUDA_VISIBLE_DEVICES=1 and"):
        settings.arguments(torch.device("cuda", 1), "float16")


def test_needs_are_read_off_the_modules_and_the_folder(tmp_path: Path):
    parts = write_miniature(tmp_path / "published", seed=1)
    folder = LlmFolder(tmp_path, "salmonn")
    placement = Placement(CPU.device, torch.float16, folder)
    model = Salmonn.load(**parts, heads=12, placement=placement)
    needs = needs_of(model, folder.path, 100, placement.dtype)
    assert needs.cache == 2 * 2 * 100 * 32 * 2  # keys and values, layers, tokens, width, bytes
    whole = sum(value.numel() for value in model.llm.parameters()) * 2
    assert whole <= needs.llm < whole + 10_000
    stay = sum(value.nbytes for name, value in model.named_parameters() if name[:4] != "llm.")
    assert needs.encoders == stay + model.llm.get_input_embeddings().weight.nbytes


def answers(given: dict[str, Any], modules: Modules) -> list[str]:
    engine = engine_settings({"name": "transformers", **given})
    engine.check(GREEDY, "")
    stream = torch.Generator().manual_seed(0)
    prompts = [torch.randn(length, 32, generator=stream) for length in (5, 17, 9)]
    started = engine.start(modules, Letters(), GREEDY, CPU)
    return [each.text for each in started.generate(prompts, [0, 1, 2])]  # type: ignore[union-attr]


def test_attention_and_compilation_are_switched_on(monkeypatch: pytest.MonkeyPatch):
    plain = answers({}, Modules())
    modules = Modules()
    assert modules.llm.config._attn_implementation == "sdpa"
    assert answers({"attention": "eager"}, modules) == plain
    assert modules.llm.config._attn_implementation == "eager"

    asked, used = list[dict[str, Any]](), list[str]()

    def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        def forward(*given: Any, **named: Any) -> Any:
            used.append(function.__name__)
            return function(*given, **named)

        asked.append(options)
        return forward

    monkeypatch.setattr(torch, "compile", compiled)
    assert answers({"compile": True}, Modules()) == plain
    assert asked == [{"dynamic": True}]
    assert set(used) == {"forward"}


@pytest.mark.by_hand  # torch traces the model: ten seconds, and with its own backend a minute
def test_a_model_that_torch_compiles_says_the_same(monkeypatch: pytest.MonkeyPatch):
    plain = answers({}, Modules())
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    assert answers({"compile": True}, Modules()) == plain


def test_an_attention_that_is_not_installed_is_reported_in_one_sentence():
    given = {"name": "transformers", "attention": "flash_attention_2"}
    engine = engine_settings(given, at="extractor.engine")
    with pytest.raises(PrerequisiteError, match=r"flash_attention_2 cannot be had here") as error:
        engine.start(Modules(), Letters(), GREEDY, CPU)
    assert str(error.value).endswith("; say extractor.engine.attention=auto")
    assert "\n" not in str(error.value)


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
@pytest.mark.parametrize("at", ["engine", "extractor.engine"])
def test_quantisation_without_its_package_is_one_sentence(tmp_path: Path, at: str):
    engine = engine_settings({"name": "transformers", "quantization": "8bit"}, at=at)
    with pytest.raises(PrerequisiteError) as error:
        engine.start_text(tmp_path, Letters(), GREEDY, "cpu", "auto")
    assert str(error.value) == (
        f"{at}.quantization=8bit needs bitsandbytes, which is not installed; pip "
        f"install 'ovmer[quantization]', or say {at}.quantization=none"
    )


@pytest.mark.parametrize(
    "settings",
    [
        GREEDY,
        GenerationSettings(max_new_tokens=12, do_sample=True),
        GenerationSettings(max_new_tokens=12, num_beams=3, bad_words=["ab"]),
        GenerationSettings(max_new_tokens=12, min_new_tokens=4, repetition_penalty=1.2),
    ],
    ids="greedy sampled beams penalties".split(),
)
def test_scores_that_are_not_finite_are_an_error_of_that_clip_alone(settings: GenerationSettings):
    modules = Modules()
    engine = transformers_engine(modules.llm, Letters(), settings)
    prompts = [torch.randn(length, 32) for length in (5, 9, 7)]
    expected = engine.generate(prompts, [0, 1, 2])
    assert all(isinstance(each, Generated) for each in expected)
    prompts[1][3, 5] = torch.nan
    first, failed, last = engine.generate(prompts, [0, 1, 2])
    assert (first, last) == (expected[0], expected[2])
    assert isinstance(failed, NotFinite)
    assert failed.status == "not_finite", "which the run's summary counts apart"
    assert str(failed) == (
        "the scores of the model are NaN or infinite (first in model.layers.0.input_layernorm, "
        "language model), as float16 overflows; set machine.dtype=bfloat16, or float32"
    )
    (failed,) = engine.generate([prompts[1]], [0])
    assert "first in" not in str(failed), "only the first clip is read again"
    with torch.no_grad():
        modules.llm.lm_head.weight[7] = torch.inf
    (failed,) = engine.generate([torch.ones(4, 32)], [0])
    assert isinstance(failed, NotFinite)


def test_a_server_that_wants_a_key_is_reported_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "config.json").write_text('{"vocab_size": 60, "dtype": "float32"}')
    folder = SimpleNamespace(path=tmp_path)
    with serving(lambda n, request: "", error(401, "no")) as server:
        engine = engine_settings({"name": "server", "base_url": server.url})
        with pytest.raises(PrerequisiteError, match=r"wants a key; set the .* OPENAI_API_KEY"):
            engine.start(Modules(), Letters(), GREEDY, replace(CPU, llm_folder=folder))


def test_each_use_of_the_engine_names_its_own_keys():
    engine = engine_settings({"name": "vllm"}, at="extractor.engine")
    assert engine.dtype_key == "extractor.dtype"
    with pytest.raises(PrerequisiteError) as error:
        engine.check(GenerationSettings(num_beams=4))
    sentence = str(error.value)
    assert sentence.endswith(
        "say extractor.sampling=greedy, or engine@extractor.engine=transformers"
    )
    composed = job(
        *("extractor=qwen25", "extractor.sampling=greedy", "extractor.dtype=bfloat16"),
        "engine@extractor.engine=transformers",
    )
    assert composed.settings.extractor["engine"]["name"] == "transformers"
    job("baseline=video_llava", "machine.dtype=bfloat16", "generation=greedy", "engine=vllm")
    job("baseline=video_llava", "baseline.generation.paper.max_new_tokens=9")


def test_a_language_model_alone_has_more_of_the_gpu():
    def share(beside_encoders: bool, **given: Any) -> float:
        settings = engine_settings({"name": "vllm", **given})
        assert isinstance(settings, VllmSettings)
        found = settings.arguments(torch.device("cuda"), "float16", beside_encoders=beside_encoders)
        return found["gpu_memory_utilization"]

    assert share(beside_encoders=True) == 0.75
    assert share(beside_encoders=False) == 0.9
    assert share(beside_encoders=False, memory=0.5) == 0.5


def test_vllm_keeps_no_more_context_than_its_memory_holds():
    def longest(**given: Any) -> int:
        settings = engine_settings({"name": "vllm", **given})
        assert isinstance(settings, VllmSettings)
        return settings.arguments(torch.device("cpu"), "float32")["max_model_len"]

    assert longest() == -1  # vLLM's word for that
    assert longest(context=4096) == 4096
    assert longest(options={"max_model_len": 99}) == 99
