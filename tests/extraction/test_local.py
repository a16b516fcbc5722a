"""The transformers engine on the miniature, and how a model is named."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ovmer.baselines.decoding.answers import Generated
from ovmer.baselines.decoding.chat_models import ChatModelSource
from ovmer.baselines.decoding.engine_settings import EngineSettings, engine_settings
from ovmer.baselines.decoding.language_model import LanguageModel, LocalTextEngine
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.errors import CheckpointError, ClipError, PrerequisiteError

GREEDY = GenerationSettings(repetition_penalty=1.05, max_new_tokens=24)
PAPER = GenerationSettings(
    do_sample=True, temperature=0.7, top_p=0.8, repetition_penalty=1.05, max_new_tokens=24
)
Outcome = Generated | ClipError


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> ChatModelSource:
    return ChatModelSource.miniature(tmp_path_factory.mktemp("models") / "mini")


def batches(**keys: int) -> EngineSettings:
    return engine_settings({"name": "transformers", **keys}, at="extractor.engine")


def completed(
    source: ChatModelSource,
    generation: GenerationSettings,
    questions: list[tuple[str, int]],
    **keys: int,
) -> list[Outcome]:
    settings = batches(**{"batch_size": 4, **keys})
    engine = LocalTextEngine(source, settings, generation, device="cpu", dtype="auto")
    found = dict(engine.stream(enumerate(questions)))
    engine.close()
    return [found[index] for index in range(len(questions))]


def questions(count: int = 9) -> list[tuple[str, int]]:
    return [(f"Why does {'he, ' * n}clip {n} sigh?", n) for n in range(count)]


@pytest.mark.parametrize("generation", [GREEDY, PAPER], ids=["greedy", "paper"])
def test_a_batch_gives_each_question_what_it_gets_alone(
    miniature: ChatModelSource, generation: GenerationSettings
):
    together = completed(miniature, generation, questions())
    assert together == completed(miniature, generation, questions(), batch_size=1)
    assert together == completed(miniature, generation, questions(), batch_tokens=100)
    assert len({each.text for each in together}) > 5  # type: ignore[union-attr]
    assert {each.is_cut for each in together} == {  # type: ignore[union-attr]
        each.new_tokens == 24  # type: ignore[union-attr]
        for each in together
    }


def test_another_seed_draws_other_words(miniature: ChatModelSource):
    one, other = ([("Why?", seed)] for seed in (1, 2))
    assert completed(miniature, PAPER, one) != completed(miniature, PAPER, other)
    assert completed(miniature, GREEDY, one) == completed(miniature, GREEDY, other)


def test_a_question_that_is_too_long_fails_alone(miniature: ChatModelSource):
    asked = [("why " * 20000, 0), *questions(2)]
    too_long, *others = completed(miniature, GREEDY, asked)
    assert others == completed(miniature, GREEDY, questions(2))
    assert isinstance(too_long, ClipError)
    assert "the language model's context of 16384 leaves it 16360" in str(too_long)


def test_an_answer_may_not_take_the_whole_context(miniature: ChatModelSource):
    said = r"max_new_tokens=16384 leaves a question no room .*; lower it under extractor\.presets"
    with pytest.raises(PrerequisiteError, match=said):
        completed(miniature, replace(GREEDY, max_new_tokens=16384), questions(2))


def test_known_answers_need_no_model(miniature: ChatModelSource, tmp_path: Path):
    folder = miniature.fetch()
    prompts = [prompt for prompt, _ in questions(3)]

    def asked() -> tuple[LanguageModel, dict[int, Outcome]]:
        source = ChatModelSource.named(str(folder))
        engine = LocalTextEngine(source, batches(), GREEDY, device="cpu", dtype="auto")
        model = LanguageModel(engine, GREEDY, tmp_path)
        return model, dict(model.ask(prompts))

    first, answers = asked()
    again, same = asked()
    assert same == answers
    assert (first.asked, first.known) == (3, 0)
    assert (again.asked, again.known) == (0, 3)
    assert "_engine" not in vars(again.engine)


def test_a_model_is_known_by_its_content_not_by_where_it_lies(
    miniature: ChatModelSource, tmp_path: Path
):
    folder = miniature.fetch()
    moved = tmp_path / "moved" / folder.name
    moved.mkdir(parents=True)
    for file in folder.iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    assert (
        ChatModelSource.named(str(moved)).version() == ChatModelSource.named(str(folder)).version()
    )

    other = tmp_path / "other" / folder.name
    other.mkdir(parents=True)
    for file in folder.iterdir():
        content = bytearray(file.read_bytes())
        if file.suffix == ".safetensors":
            content[4000:] = bytes(byte ^ 1 for byte in content[4000:])
        (other / file.name).write_bytes(content)
    assert (
        ChatModelSource.named(str(other)).version() != ChatModelSource.named(str(folder)).version()
    )


def test_a_hub_model_is_known_by_its_commit():
    commit = "a09a35458c702b33eeacc393d103063234e8bc28"
    named = ChatModelSource.named(f"Qwen/Qwen2.5-7B-Instruct@{commit}")
    assert named.version() == {"model": "Qwen/Qwen2.5-7B-Instruct", "revision": commit}


@pytest.mark.parametrize("name", ["./models/qwen", "/models/qwen", "~/qwen", "a/b/c", "@main", ""])
def test_a_name_that_is_neither_folder_nor_hub_id_is_reported(name: str):
    with pytest.raises(PrerequisiteError, match="is neither a folder nor owner/name@revision"):
        ChatModelSource.named(name)


def test_a_hub_model_that_cannot_be_had_is_reported(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model = ChatModelSource.named("nobody/no-such-model-here")
    sentence = (
        r"^the extractor's language model, nobody/no-such-model-here at revision main, is not"
    )
    with pytest.raises(CheckpointError, match=sentence):
        model.version()
    with pytest.raises(CheckpointError, match=r"set extractor\.model to a local folder"):
        model.fetch()


def test_planning_imports_no_torch():
    code = (
        "import sys; from ovmer.runners.extraction.make import make_extractors; "
        "from tests.runners.jobs import job; "
        "made = job('extractor=qwen25', 'dry_run=true'); "
        "print(make_extractors(made.settings.extractor)[0].identity['model']); "
        "assert 'torch' not in sys.modules and 'openai' not in sys.modules"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, "miniature\n"), ran.stderr
