"""Prompt embeddings in the real vLLM, offline and served, against transformers.

In float32 and greedy decoding the answers are the same, id by id. vLLM takes a while to start, so
one engine, in processes of its own, serves one tiny model for all settings, and so does one
server; engines for the miniatures of four baselines are in our process, as on any CPU.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from shutil import copytree
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from ovmer.adapters.base import Answer, Machine
from ovmer.adapters.mllm import Mllm
from ovmer.baselines.decoding.answers import Generated, NotFinite, VllmPrompt
from ovmer.baselines.decoding.continuous import transformers_engine
from ovmer.baselines.decoding.engine_settings import engine_settings
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.decoding.vllm_engine import VllmEngine
from ovmer.baselines.decoding.vllm_offline import OfflineVllm
from ovmer.baselines.device import Placement
from ovmer.baselines.errors import ClipError, PrerequisiteError
from tests import SAMPLE
from tests.baselines.test_decoding import Letters
from tests.baselines.test_engines import Modules
from tests.runners.jobs import job
from tests.vllm_server import VllmServer

pytestmark = [
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed"),
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore"),  # of vLLM, in our process
]

SMALL = {"kv_cache_memory_bytes": 2**28, "max_model_len": 1024}
PLACE = Placement(torch.device("cpu"), torch.float32)
GREEDY = GenerationSettings(max_new_tokens=12)
SAMPLED = GenerationSettings(max_new_tokens=12, do_sample=True, temperature=0.9, top_p=0.9, top_k=9)


@pytest.fixture(scope="module")
def prompts() -> list[Tensor]:
    stream = torch.Generator().manual_seed(0)
    return [torch.randn(length, 32, generator=stream) for length in (5, 17, 1, 9, 30, 300, 2)]


@pytest.fixture(scope="module")
def llm() -> LlamaForCausalLM:
    return Modules().llm


@pytest.fixture(scope="module")
def folder(llm: LlamaForCausalLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llm") / "tiny-0123"
    llm.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def vllm(folder: Path) -> Iterator[OfflineVllm]:
    """In processes of its own, as on a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
        started = VllmEngine.start(folder, {"dtype": "float32", **SMALL})
    yield started
    started.close()


def by_transformers(
    llm: LlamaForCausalLM, settings: GenerationSettings, prompts: Sequence[Tensor]
) -> list[Generated]:
    return transformers_engine(llm, Letters(), settings).generate(prompts, range(len(prompts)))


SETTINGS = {
    "greedy": GREEDY,
    "penalty": replace(GREEDY, max_new_tokens=30, repetition_penalty=1.3),
    "stop": replace(GREEDY, max_new_tokens=30, stop=["?^", "jj", "K"]),
    "at least": replace(GREEDY, min_new_tokens=9),
    "in all": replace(GREEDY, max_new_tokens=30, max_length=20),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_answers_are_those_of_transformers(
    name: str, vllm: OfflineVllm, llm: LlamaForCausalLM, prompts: list[Tensor]
):
    expected = by_transformers(llm, SETTINGS[name], prompts)
    engine = VllmEngine(vllm, Letters(), SETTINGS[name])
    assert engine.generate(prompts, range(len(prompts))) == expected
    # What was in the engine before leaves no trace: the same again, in another order.
    order = list(range(len(prompts)))[::-1]
    again = engine.generate([prompts[place] for place in order], order)
    assert again == [expected[place] for place in order]
    if name != "greedy":
        assert expected != by_transformers(llm, replace(GREEDY, max_new_tokens=30), prompts)


def test_a_sampled_answer_depends_on_its_prompt_and_seed_alone(
    vllm: OfflineVllm, prompts: list[Tensor]
):
    engine = VllmEngine(vllm, Letters(), SAMPLED)
    seeds = [7, 2**62, 9, 10, 11, 12, 13]
    together = engine.generate(prompts, seeds)
    alone = [
        engine.generate([prompt], [seed])[0] for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    assert together == alone
    assert engine.generate(prompts, [seed + 1 for seed in seeds]) != together


def test_answers_are_streamed_and_few_prompts_are_drawn_ahead(
    vllm: OfflineVllm, prompts: list[Tensor], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(vllm, "in_flight", 4)
    engine, drawn, got = VllmEngine(vllm, Letters(), GREEDY), list[int](), dict[int, Generated]()

    def asked() -> Iterator[tuple[int, tuple[Tensor, int]]]:
        for number in range(20):
            drawn.append(number)
            yield number, (prompts[number % len(prompts)], number)

    for number, answer in engine.stream(asked()):
        got[number] = answer
        assert len(drawn) - len(got) < 4 + 4  # four in flight; those of one step end together
    assert sorted(got) == list(range(20))
    assert got[0] == engine.generate(prompts[:1], [0])[0]


def test_vectors_of_another_width_do_not_reach_the_engine(vllm: OfflineVllm, prompts: list[Tensor]):
    engine = VllmEngine(vllm, Letters(), GREEDY)
    with pytest.raises(ValueError, match="48 wide but the language model's 32"):
        engine.generate([torch.zeros(5, 48)], [0])
    assert engine.generate(prompts[:1], [0])  # it lives


def test_scores_that_are_nan_are_an_error_of_that_clip_alone(
    vllm: OfflineVllm, llm: LlamaForCausalLM, prompts: list[Tensor]
):
    """Before, after and beside it others are answered, though they get its blocks of the cache."""
    expected = by_transformers(llm, GREEDY, prompts)
    nan = VllmPrompt({"prompt_embeds": torch.full((9, 32), torch.nan)}, 9)
    for settings in (GREEDY, SAMPLED):
        engine = VllmEngine(vllm, Letters(), settings, "extractor.dtype")
        *_, failed = engine.generate([*prompts[:3], nan], range(4))
        assert isinstance(failed, NotFinite)
        assert "the scores of the model are NaN or infinite" in str(failed)
        assert "set extractor.dtype=bfloat16" in str(failed)
        for prompt, answer in zip(prompts, expected, strict=True):
            (alone,) = engine.generate([prompt], [0])
            assert isinstance(alone, Generated)
            assert settings is SAMPLED or alone == answer


@pytest.mark.parametrize(
    "baseline", ["salmonn", "onellm", "qwen_audio", "humanomni", "emotion_llama"]
)
def test_baselines_that_vllm_does_not_know_say_what_they_say_in_transformers(
    baseline: str, tmp_path: Path
):
    """LoRA merged in, Meta's layout with a stop string, a Qwen of 2023, words that are tied, and
    vectors of features."""
    adapter = job(f"baseline={baseline}", "generation=greedy").adapter.miniature(tmp_path)
    assert isinstance(adapter, Mllm)
    needs_picture = baseline == "emotion_llama"
    clips = [
        (
            SAMPLE / "video" / f"{name}.mp4" if needs_picture else None,
            SAMPLE / "audio" / f"{name}.wav",
            f"I am {name}.",
        )
        for name in ("farewell", "late_night", "sour_milk", "good_news")
    ]
    items = [replace(adapter.prepare(*clip), seed=5) for clip in clips]

    adapter.load(Machine("cpu", "float32"))
    expected = adapter.generate(items)
    adapter.close()
    assert len({each.text for each in expected if isinstance(each, Answer)}) == len(clips)

    engine = {"name": "vllm", "options": {"kv_cache_memory_bytes": 2**28}}
    adapter.load(Machine("cpu", "float32", engine))
    assert adapter.feeding == "stream"
    assert adapter.generate(items) == expected
    assert dict(adapter.stream(iter(items))) == dict(enumerate(expected))
    adapter.close()


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    """The address of a server."""
    server = VllmServer(folder, "--enable-prompt-embeds", "--skip-tokenizer-init")
    try:
        server.wait()
        yield server.url
    finally:
        server.kill()


def asking(server: str, folder: Path, settings: GenerationSettings, **more: Any) -> Any:
    engine = engine_settings({"name": "server", "base_url": server, **more})
    placement = replace(PLACE, llm_folder=SimpleNamespace(path=folder))  # type: ignore[arg-type]
    return engine.start(Modules(), Letters(), settings, placement)


def test_the_server_answers_as_transformers_does(
    server: str, folder: Path, llm: LlamaForCausalLM, prompts: list[Tensor]
):
    for name in ("greedy", "stop", "at least", "in all"):
        engine = asking(server, folder, SETTINGS[name], concurrency=3)
        expected = by_transformers(llm, SETTINGS[name], prompts)
        assert engine.generate(prompts, range(len(prompts))) == expected, name
        streamed = engine.stream((place, (prompt, 0)) for place, prompt in enumerate(prompts))
        assert dict(streamed) == dict(enumerate(expected)), name
        engine.close()

    engine = asking(server, folder, SAMPLED)
    assert engine.generate(prompts, [5] * 7) == engine.generate(prompts, [5] * 7)
    too_long = torch.zeros(5000, 32)
    answers = engine.generate([too_long, prompts[0]], [0, 0])
    assert isinstance(answers[0], ClipError)
    assert "the server refused the question with 400" in str(answers[0])
    assert isinstance(answers[1], Generated)
    engine.close()


def test_a_server_with_another_model_or_none_is_reported_in_one_sentence(server: str, folder: Path):
    other = copytree(folder, folder.parent / "salmonn-4567")
    with pytest.raises(PrerequisiteError) as error:
        asking(server, other, GREEDY)
    sentence = f"serves {folder}, not salmonn-4567; start it (vllm serve {other} --dtype float32"
    assert sentence in str(error.value)
    with pytest.raises(PrerequisiteError, match=r"no server answers at http://127\.0\.0\.1:9/v1"):
        asking("http://127.0.0.1:9/v1", folder, GREEDY)


@pytest.mark.by_hand  # starts engines in processes of their own: a minute
@pytest.mark.parametrize("after", [None, 9.0])
def test_the_engine_ends_with_a_process_that_is_killed(
    folder: Path, tmp_path: Path, after: float | None
):
    """vLLM's own does not, and keeps the GPU's memory. Killed when it has started, or when vLLM has
    called its plug-ins. (Before that nothing watches in a script of one's own; see below for the
    command.)"""
    script = tmp_path / "start.py"
    script.write_text(START.format(folder=str(folder)), encoding="utf-8")
    leaves_no_engine([sys.executable, str(script)], after)


@pytest.mark.by_hand  # starts vLLM three times: a minute
@pytest.mark.parametrize("after", [0.5, 2.0, 5.0])
def test_a_command_that_is_killed_while_vllm_imports_leaves_no_process(
    tmp_path: Path, after: float
):
    command = [str(Path(sys.executable).parent / "ovmer"), "sweep", "baseline=video_llava"]
    command += ["dataset=sample", "dry_run=true", "engine=vllm", f"engine.cache={tmp_path}/llm"]
    leaves_no_engine([*command, f"outputs={tmp_path}"], after)


def leaves_no_engine(command: Sequence[str], after: float | None) -> None:
    """Start a command and kill it so many seconds after its engine's process appears, None for when
    it has printed that the engine has started: that process ends as well."""
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,  # for whose end START waits
        stdout=subprocess.PIPE if after is None else subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"VLLM_ENABLE_V1_MULTIPROCESSING": "1", "PYTHONUNBUFFERED": "1"},
    ) as started:
        process = psutil.Process(started.pid)
        try:
            if after is None:
                assert started.stdout is not None
                assert any(line.startswith("started") for line in started.stdout)
            else:
                while not any("spawn_main" in " ".join(each.cmdline()) for each in family(process)):
                    assert started.poll() is None
                    time.sleep(0.05)
                time.sleep(after)
            assert started.poll() is None
            engines = family(process)
            assert engines
        finally:
            started.kill()
    _, alive = psutil.wait_procs(engines, timeout=30)
    assert not alive


def family(process: psutil.Process) -> list[psutil.Process]:
    """The living processes that it and they have started."""
    found = process.children(recursive=True)
    return [each for each in found if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


START = """
from pathlib import Path
from ovmer.baselines.decoding.vllm_engine import VllmEngine
if __name__ == "__main__":
    options = {{"dtype": "float32", "kv_cache_memory_bytes": 2**28, "max_model_len": 1024}}
    engine = VllmEngine.start(Path({folder!r}), options)
    print("started")
    input()
"""


def test_nan_behind_a_server_is_an_error_of_that_clip(server: str, folder: Path) -> None:
    """The last one that asks it: its KV cache keeps NaN."""
    engine = asking(server, folder, GREEDY)
    (failed,) = engine.generate([torch.full((9, 32), torch.nan)], [0])
    engine.close()
    assert isinstance(failed, NotFinite)
    assert "the scores of the server's model are NaN or infinite" in str(failed)
    assert "set machine.dtype=bfloat16" in str(failed)
