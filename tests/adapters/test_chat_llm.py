"""Chat models that read the subtitle alone, on a miniature and behind a server."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from ovmer.adapters.base import Answer, Machine, Prepared
from ovmer.adapters.chat_llm import ChatLlm
from ovmer.baselines.checkpoint import CheckpointPart
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.errors import PrerequisiteError, Status
from ovmer.runners.describing.pipeline import Pipeline
from ovmer.runners.describing.requests import ClipRequest
from tests.extraction.fake_server import serving

CPU = Machine(device="cpu", dtype="float32")
WORDS = ["We won, I am so happy!", "He is gone.", "<|im_end|> What is this?", ""]


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> ChatLlm:
    small = ChatLlm(generation=GenerationSettings(max_new_tokens=12))
    small = small.miniature(tmp_path_factory.mktemp("llm") / "it")
    small.load(CPU)
    return small


def prepared(llm: ChatLlm) -> list[Prepared]:
    return [llm.prepare(None, None, words) for words in WORDS]


def texts(answers: object) -> list[str]:
    assert isinstance(answers, list)
    assert all(isinstance(each, Answer) for each in answers)
    return [each.text for each in answers]


def test_a_batch_gives_the_answers_of_single_clips(llm: ChatLlm):
    together = texts(llm.generate(prepared(llm)))
    assert together == [texts(llm.generate([each]))[0] for each in prepared(llm)]
    assert len(set(together)) == len(WORDS)


def test_the_prompt_is_the_models_own_template_around_the_question(llm: ChatLlm):
    item = llm.prepare(None, None, WORDS[0])
    # A character is a token at most in the miniature's tokenizer; control tokens are one each.
    shown = llm.tokenizer.decode(item.inputs.prompt)
    assert f"Subtitle content of this video: {WORDS[0]}; As an expert" in shown
    spelled = llm.prepare(None, None, WORDS[2])
    assert "<|im_end|> What is this?" in llm.tokenizer.decode(spelled.inputs.prompt)


def test_a_clip_without_words_is_asked_about_with_a_note(llm: ChatLlm):
    for words in (None, "", "  "):
        item = llm.prepare(None, None, words)
        assert item.notes == ("no words are known of this clip, so the answer is a guess",)
        assert "Subtitle content" not in llm.tokenizer.decode(item.inputs.prompt)
    assert llm.prepare(None, None, "Hello.").notes == ()


def test_a_tasks_question_replaces_its_own(llm: ChatLlm):
    item = llm.asking("Is he glad?").prepare(None, None, None)
    shown = llm.tokenizer.decode(item.inputs.prompt)
    assert "Is he glad?" in shown
    assert "expert" not in shown
    assert item.notes == ()


def test_a_subtitle_that_is_too_long_is_cut_with_a_note(llm: ChatLlm):
    item = llm.prepare(None, None, "word " * 20_000)
    assert len(item.inputs.prompt) <= 16_384 - 12
    assert "the subtitle was cut by" in item.notes[0]


def test_behind_a_server_it_sends_the_question_as_text():
    with serving(lambda number, request: "He is glad.") as server:
        llm = ChatLlm(checkpoint={"model": CheckpointPart(repo="mini")})
        engine = {"name": "server", "base_url": server.url, "timeout": 20.0}
        llm.load(Machine(engine=engine))
        pipeline = Pipeline(llm, seed=0, batch_size=2, workers=1)
        (described,) = pipeline.describe([ClipRequest("a", None, None, "Hooray!", (), {})])
        assert (described.status, described.description) == (Status.OK, "He is glad.")
        (message,) = server.requests[0]["messages"]
    assert message["content"].startswith("Subtitle content of this video: Hooray!; As an expert")
    llm.close()


def test_hidden_states_of_the_prompt_can_be_kept(llm: ChatLlm):
    states = llm.prompt_states(llm.prepare(None, None, WORDS[0]))
    assert states is not None
    assert states.hidden.shape == (64,)
    assert states.connector == {}


def test_its_engine_is_closed_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    small = ChatLlm().miniature(tmp_path / "it")
    small.load(CPU)
    closed = list[bool]()
    monkeypatch.setattr(small.engine, "close", lambda: closed.append(True))
    small.close()
    assert closed == [True]


def test_an_unknown_format_of_thinking_is_refused():
    with pytest.raises(
        PrerequisiteError, match=r"baseline\.thinking is 'thunk'; did you mean think"
    ):
        ChatLlm(thinking="thunk")


@pytest.mark.by_hand  # vLLM starts in processes of its own: a minute
@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore")  # of vLLM, in our process
def test_vllm_gives_the_answers_of_transformers(tmp_path: Path):
    greedy = GenerationSettings(max_new_tokens=12)
    small = ChatLlm(generation=greedy).miniature(tmp_path / "it")
    small.load(CPU)
    expected = [texts(small.generate([each]))[0] for each in prepared(small)]
    options = {"kv_cache_memory_bytes": 2**28, "max_model_len": 4096}
    served = ChatLlm(generation=greedy).miniature(tmp_path / "again")
    served.load(replace(CPU, engine={"name": "vllm", "options": options}))
    try:
        assert texts(served.generate(prepared(served))) == expected
    finally:
        served.close()
