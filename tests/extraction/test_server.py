"""Servers that are not there, stop, refuse, err or talk nonsense: each has one defined end."""

import json
import threading
import time
from dataclasses import replace

import pytest

from ovmer.baselines.decoding.answers import Asked
from ovmer.baselines.decoding.engine_settings import ServerSettings
from ovmer.baselines.decoding.server_engine import ChatServer
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.errors import ClipError, PrerequisiteError, Refused, Timeout
from tests.extraction.asking import PAPER, QUICK, ask, asked_of, engine, questions, reply, stopped
from tests.extraction.fake_server import MODEL, Misbehaviour, completion, error, serving

pytestmark = pytest.mark.usefixtures("quick_retries")


def test_every_question_gets_its_own_answer():
    with serving(lambda n, request: f"[{asked_of(request)}]") as server:
        found = ask(server, 50)
    assert found == {n: reply(f"[Question {n}.]") for n in range(50)}


def test_all_of_the_sampling_is_sent_and_nothing_else():
    with serving(lambda n, request: "[happy]") as server:
        ask(server, generation=PAPER)
        ask(server)
    sampled, greedy = server.requests
    assert sampled == {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Question 0."}],
        "temperature": 0.7,
        "top_p": 0.8,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.05,
        "logprobs": True,
        "max_tokens": 512,
        "seed": 0,
    }
    assert "seed" not in greedy
    assert greedy["temperature"] == 0


def test_a_server_that_is_not_vllm_is_sent_what_all_know():
    settings = replace(QUICK, vllm_parameters=False, limit_parameter="max_completion_tokens")
    with serving(lambda n, request: "[happy]") as server:
        ask(server, settings=settings)
    assert {*server.requests[0]} == {
        *("model", "messages", "temperature", "top_p", "max_completion_tokens")
    }
    with pytest.raises(PrerequisiteError, match=r"^repetition_penalty of the generation preset"):
        ChatServer(MODEL, settings, PAPER, model_key="extractor.model")


def test_so_many_questions_are_in_flight_and_no_more():
    in_flight = threading.Semaphore(5)

    def script(n: int, request: dict[str, object]) -> str:
        if not in_flight.acquire(blocking=False):
            return "[too many]"
        time.sleep(0.02)
        in_flight.release()
        return "[]"

    with serving(script) as server:
        found = ask(server, 30, settings=replace(QUICK, concurrency=5))
    assert set(found.values()) == {reply("[]")}
    assert server.starts[4] - server.starts[0] < 30 * 0.02  # yet not one after the other


def test_so_many_questions_are_begun_in_a_minute():
    with serving(lambda n, request: "[]") as server:
        ask(server, 6, settings=replace(QUICK, per_minute=600))
    gaps = [b - a for a, b in zip(server.starts, server.starts[1:], strict=False)]
    assert sum(gaps) >= 0.45  # six questions, a tenth of a second apart


@pytest.mark.parametrize(
    "trouble",
    [
        error(429, "slow down", Retry_After="0.05"),
        error(500, "oops"),
        error(503, "overloaded"),
        Misbehaviour(hang_up=True),
        Misbehaviour(body='{"choices": [{"mess'),
        Misbehaviour(body="<html>", headers={"Content-Type": "text/html"}),
        Misbehaviour(body='{"choices": []}'),
    ],
    ids="429 500 503 hang-up torn-json html no-choice".split(),
)
def test_trouble_that_passes_leaves_no_trace(trouble: Misbehaviour):
    with serving(lambda n, request: "[happy]" if n else trouble) as server:
        assert ask(server) == {0: reply("[happy]")}
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("trouble", "kind", "sentence"),
    [
        (error(500, "oops"), ClipError, r"^the server failed with 500 \(oops\)$"),
        (error(400, "too long"), Refused, r"^the server refused the question with 400 \(too long"),
        (Misbehaviour(body="{"), ClipError, "^the server's answer is no completion in JSON$"),
        (completion("", "content_filter"), Refused, "^the server withheld its answer"),
        (Misbehaviour(drip=True), Timeout, "^the server gave no answer within 1 s$"),
        (Misbehaviour(hang_up=True), ClipError, "^the server broke off the connection each time"),
    ],
    ids="500 400 torn-json filtered endless hang-up".split(),
)
def test_a_question_that_fails_by_itself_leaves_the_others_alone(
    trouble: Misbehaviour, kind: type[ClipError], sentence: str
):
    def script(n: int, request: dict[str, object]) -> str | Misbehaviour:
        return trouble if asked_of(request) == "Question 2." else "[happy]"

    timeout = 1.0 if trouble.drip else 20.0
    with serving(script) as server:
        found = ask(server, 5, settings=replace(QUICK, timeout=timeout))
    failed = found.pop(2)
    assert isinstance(failed, kind)
    with pytest.raises(kind, match=sentence):
        raise failed
    assert found == dict.fromkeys((0, 1, 3, 4), reply("[happy]"))


def from_environment() -> ChatServer:
    return ChatServer(MODEL, ServerSettings(), GenerationSettings(), model_key="extractor.model")


def test_no_server_at_the_start():
    with serving(lambda n, request: "") as server:
        pass
    answered, sentence = stopped(engine(server).stream(questions(3)))
    assert not answered
    assert sentence.startswith(f"no server answers at {server.url} (")
    assert "start it (vllm serve mini), or correct extractor.engine.base_url" in sentence


@pytest.mark.parametrize(
    ("variable", "proxy"),
    [("HTTP_PROXY", "http://127.0.0.1:9"), ("ALL_PROXY", "socks://127.0.0.1:9")],
)
def test_a_proxy_in_the_way_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, proxy: str):
    monkeypatch.setenv(variable, proxy)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serving(lambda n, request: "[happy]") as server:
        answered, sentence = stopped(engine(server).stream(questions(1)))
        assert not answered
        assert f"{variable} sends this through a proxy; set NO_PROXY=127.0.0.1" in sentence
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("ALL_PROXY", raising=False)
        assert ask(server) == {0: reply("[happy]")}


def test_a_server_that_goes_away_keeps_what_it_answered():
    with serving(lambda n, r: "[happy]" if n < 10 else Misbehaviour(gone=True)) as server:
        settings = replace(QUICK, concurrency=4)
        answered, sentence = stopped(engine(server, settings).stream(questions(50)))
    assert len(answered) == 10
    assert len(server.requests) < 10 + 4 * 3 + 1  # nobody was asked in vain after that
    assert sentence.startswith(f"the server at {server.url} stopped answering (")
    assert sentence.endswith("what was answered is kept, the same command goes on from there")


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        (error(429, "quota used up"), "says that there are too many requests (quota used up)"),
        (error(404, "no such model"), "does not know the model 'mini' (no such model)"),
        (error(401, "who are you"), "wants a key; set the environment variable OPENAI_API_KEY"),
        (error(403, "not you"), "wants a key; set the environment variable OPENAI_API_KEY"),
    ],
    ids="429 404 401 403".split(),
)
def test_what_concerns_every_question_stops_the_run(trouble: Misbehaviour, sentence: str):
    with serving(lambda n, request: trouble) as server:
        settings = replace(QUICK, concurrency=2)
        answered, said = stopped(engine(server, settings).stream(questions(50)))
    assert not answered
    assert sentence in said
    assert len(server.requests) <= 2 * 3


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        (
            error(500, "oops"),
            "8 questions in a row, the last: the server failed with 500 (oops)",
        ),
        (Misbehaviour(body="["), "in a row, the last: the server's answer is no completion"),
    ],
    ids="500 torn-json".split(),
)
def test_one_failure_after_another_stops_the_run(trouble: Misbehaviour, sentence: str):
    with serving(lambda n, request: trouble) as server:
        settings = replace(QUICK, concurrency=2)
        answered, said = stopped(engine(server, settings).stream(questions(50)))
    assert 8 <= len(answered) <= 9
    assert all(isinstance(each, ClipError) for each in answered.values())
    assert sentence in said


def test_a_wrong_model_is_reported_before_the_first_question():
    with serving(lambda n, request: "") as server:
        _, sentence = stopped(engine(server, model="mini2").stream(questions(1)))
    assert sentence == (
        f"the server at {server.url} has no model 'mini2'; did you mean mini? (extractor.model)"
    )
    assert not server.requests


def test_a_key_that_is_wanted_is_reported_before_the_first_question():
    with serving(lambda n, request: "", error(401, "no")) as server:
        _, sentence = stopped(engine(server).stream(questions(1)))
    assert sentence == (
        f"the server at {server.url} wants a key; set the environment variable OPENAI_API_KEY"
    )


@pytest.mark.parametrize("models", [error(404, "no"), Misbehaviour(body="[1]")])
def test_a_server_need_not_list_its_models(models: Misbehaviour):
    with serving(lambda n, request: "[]", models) as server:
        assert ask(server) == {0: reply("[]")}


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MY_KEY", "sk-secret")
    settings = replace(QUICK, key_variable="MY_KEY")
    with serving(lambda n, request: "[]") as server:
        asker = engine(server, settings)
        dict(asker.stream(questions(1)))
    assert server.keys == ["Bearer sk-secret"]
    assert "sk-secret" not in json.dumps([dict(asker.identity), server.requests])
    with serving(lambda n, r: error(401, "Incorrect key sk-secret"), error(404, "no")) as server:
        _, sentence = stopped(engine(server, settings).stream(questions(1)))
    assert "refuses the key in the environment variable MY_KEY" in sentence
    assert "sk-secret" not in sentence
    with serving(lambda n, r: error(400, "sk-secret may not do this"), error(404, "no")) as server:
        (refused,) = dict(engine(server, settings).stream(questions(1))).values()
    assert str(refused) == "the server refused the question with 400 (... may not do this)"


def test_where_the_server_is_comes_from_the_setting_then_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
):
    with serving(lambda n, request: "[]") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        asker = from_environment()
        assert dict(asker.stream(questions(1))) == {0: reply("[]")}
    monkeypatch.setenv("OPENAI_BASE_URL", server.url.replace("//", "//me:secret@"))
    _, sentence = stopped(from_environment().stream(questions(1)))
    assert sentence.startswith(f"no server answers at {server.url} (")


def test_whoever_stops_listening_ends_the_questions():
    with serving(lambda n, request: "[]") as server:
        answers = engine(server, replace(QUICK, concurrency=2)).stream(questions(100))
        next(answers)
        answers.close()  # type: ignore[attr-defined]
    assert len(server.requests) < 10


def test_an_error_while_questions_are_drawn_ends_the_stream():
    def broken() -> Asked:
        yield 0, ("Question 0.", 0)
        raise LookupError("the file is gone")

    with (
        serving(lambda n, request: "[]") as server,
        pytest.raises(LookupError, match="the file is gone"),
    ):
        dict(engine(server).stream(broken()))
