"""Servers that are not there, stop, refuse, err or talk nonsense: each has one defined end."""

import json
import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from ovmer.baselines.decoding.answers import Answered, Asked, Generated
from ovmer.baselines.decoding.engine_settings import ServerSettings
from ovmer.baselines.decoding.server_engine import ChatServer
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.errors import ClipError, PrerequisiteError, Refused, Timeout
from tests.extraction.fake_server import (
    MODEL,
    FakeServer,
    Misbehaviour,
    Script,
    completion,
    error,
    serving,
)

QUICK = ServerSettings(retries=2, timeout=20.0, at="extractor.engine")
PAPER = GenerationSettings(do_sample=True, temperature=0.7, top_p=0.8, repetition_penalty=1.05)
Outcome = Generated | ClipError


def reply(text: str, *, is_cut: bool = False) -> Generated:
    return Generated(text, (), 9, 3, is_cut)


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.05)
    monkeypatch.setattr("ovmer.baselines.decoding.server._PAUSE_SECONDS", 0.01)


def engine(
    server: FakeServer,
    settings: ServerSettings = QUICK,
    generation: GenerationSettings | None = None,
    model: str = MODEL,
) -> ChatServer:
    settings = replace(settings, base_url=server.url)
    generation = generation or GenerationSettings()
    return ChatServer(model, settings, generation, model_key="extractor.model")


def questions(count: int) -> Asked:
    return ((number, (f"Question {number}.", number)) for number in range(count))


def ask(server: FakeServer, count: int = 1, **how: object) -> dict[int, Outcome]:
    return dict(engine(server, **how).stream(questions(count)))  # type: ignore[arg-type]


def asked_of(request: dict[str, object]) -> str:
    return request["messages"][0]["content"]  # type: ignore[index]


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


@pytest.mark.parametrize("words", ["", None])
def test_an_empty_answer_is_an_answer(words: str | None):
    with serving(lambda n, request: completion(words)) as server:
        assert ask(server) == {0: reply("")}
    assert len(server.requests) == 1


def test_an_answer_at_the_limit_is_marked():
    with serving(lambda n, request: completion("[happy, hap", "length")) as server:
        assert ask(server) == {0: reply("[happy, hap", is_cut=True)}


def test_halves_of_characters_do_no_harm():
    body = completion("x").body.replace('"x"', '"[\\ud83d]"')
    with serving(lambda n, request: Misbehaviour(body=body)) as server:
        assert ask(server) == {0: reply("[?]")}


def from_environment() -> ChatServer:
    return ChatServer(MODEL, ServerSettings(), GenerationSettings(), model_key="extractor.model")


def stopped(found: Answered) -> tuple[dict[int, Outcome], str]:
    """What was answered before the engine gave up, and what it said then."""
    answered: dict[int, Outcome] = {}
    try:
        for place, outcome in found:
            answered[place] = outcome
    except PrerequisiteError as problem:
        return answered, str(problem)
    pytest.fail("it did not give up")


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


def body(**fields: object) -> Misbehaviour:
    return Misbehaviour(body=json.dumps(fields))


def said(content: object, **message: object) -> Misbehaviour:
    return body(choices=[{"message": {"content": content, **message}, "finish_reason": "stop"}])


def events(*chunks: dict[str, object]) -> Misbehaviour:
    lines = [f"data: {json.dumps(each)}\n\n" for each in chunks]
    return Misbehaviour(body="".join([*lines, "data: [DONE]\n\n"]))


PARTS = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "A frown."}]},
    {"type": "text", "text": "[angry, "},
    {"type": "text", "text": "sad]"},
]
STREAM = [
    {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
    {"choices": [{"delta": {"reasoning_content": "A frown."}}]},
    {"choices": [{"delta": {"content": "[angry, "}}]},
    {"choices": [{"delta": {"content": "sad]"}, "finish_reason": "length"}]},
    {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}},
]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (said(PARTS), Generated("[angry, sad]", thinking="A frown.")),
        (said(["[angry, ", "sad]"]), Generated("[angry, sad]")),
        (said([]), Generated("")),
        (said("[sad]", reasoning=[{"text": "A frown."}]), Generated("[sad]", thinking="A frown.")),
        (events(*STREAM), Generated("[angry, sad]", (), 9, 3, True, "A frown.")),
        (
            body(
                choices=[{"message": {"content": "[sad]"}}],
                usage={"prompt_tokens": "many", "completion_tokens": None},
            ),
            Generated("[sad]"),
        ),
    ],
    ids="parts strings no-parts reasoning-parts events odd-counts".split(),
)
def test_answers_of_every_form_are_read(answer: Misbehaviour, expected: Generated):
    with serving(lambda n, request: answer) as server:
        assert ask(server) == {0: expected}
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        (body(choices=None, error={"code": 400, "message": "too long"}), "with 400 (too long)"),
        (body(error={"message": "no such template"}), "the question (no such template)"),
        (body(error="out of order"), "the question (out of order)"),
        (events({"error": {"message": "gone", "code": "500"}}), "the server failed with 500 (gone"),
        (body(choices=[{"error": {"code": 502, "message": "upstream"}}]), "failed with 502 (upst"),
        (body(choices=[{"message": {"content": 7}}]), "is no completion in JSON"),
        (body(choices=[{"message": "x"}]), "is no completion in JSON"),
        (Misbehaviour(body="data: nothing"), "is no completion in JSON"),
        (Misbehaviour(body='"words"'), "is no completion in JSON"),
        (Misbehaviour(422, json.dumps({"detail": "the prompt is odd"})), "422 (the prompt is odd)"),
    ],
)
def test_an_error_instead_of_an_answer_is_quoted(trouble: Misbehaviour, sentence: str):
    with serving(lambda n, request: "[sad]" if "1" in asked_of(request) else trouble) as server:
        found = ask(server, 2)
    assert isinstance(found[0], ClipError)
    assert sentence in str(found[0])
    assert found[1] == reply("[sad]")


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        (
            body(choices=None, error={"code": 402, "message": "no credits"}),
            "wants payment (no credits); look to your quota",
        ),
        (error(402, "no credits"), "wants payment (no credits); look to your quota"),
        (
            body(error={"code": 429, "message": "slow down"}),
            "too many requests (slow down); lower extractor.engine.concurrency",
        ),
        (
            Misbehaviour(
                422, json.dumps({"detail": "Unexpected fields in the request: {'top_k'}"})
            ),
            "refuses a parameter with 422 (Unexpected fields in the request: {'top_k'}); set "
            "extractor.engine.vllm_parameters=false",
        ),
        (
            error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
            "set extractor.engine.limit_parameter=max_completion_tokens",
        ),
    ],
)
def test_what_no_question_would_get_past_names_its_remedy(trouble: Misbehaviour, sentence: str):
    with serving(lambda n, request: trouble) as server:
        settings = replace(QUICK, concurrency=1)
        answered, problem = stopped(engine(server, settings).stream(questions(9)))
    assert not answered
    assert sentence in problem


def picky(*unknown: str) -> Script:
    """Refuses requests with any of these keys, naming one at a time."""

    def script(n: int, request: dict[str, Any]) -> str | Misbehaviour:
        found = next((key for key in unknown if key in request), None)
        if found:
            return error(400, f"Unrecognized request argument supplied: {found}")
        return "[sad]"

    return script


def test_what_a_server_does_not_know_is_left_out_with_a_note():
    with serving(picky("top_k", "seed", "repetition_penalty")) as server:
        found = ask(server, 3, settings=replace(QUICK, concurrency=1), generation=PAPER)
        asked = list(server.requests)
    note = "the server does not know top_k and seed and repetition_penalty; asked without"
    assert found == {n: replace(reply("[sad]"), notes=(note,)) for n in range(3)}
    assert len(asked) == 3 + 3  # later questions are right at once
    assert all("temperature" in request and "max_tokens" in request for request in asked)


def test_what_cannot_be_left_out_is_not():
    with serving(picky("temperature")) as server:
        (found,) = ask(server).values()
    assert isinstance(found, ClipError)
    assert "refused the question with 400" in str(found)


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        (
            error(400, "Invalid content type. 'input_audio' is not supported by this model."),
            "takes no sound (Invalid content type. 'input_audio' is not supported by this model.); "
            "set baseline.modalities=video",
        ),
        (error(404, "No endpoints found that support input audio"), "baseline.modalities=video"),
        (error(400, "At most 0 audio(s) may be provided"), "baseline.modalities=video"),
        (error(400, "'video_url' is not supported"), "set baseline.picture=images"),
        (error(400, "image input is not supported"), "set baseline.modalities=audio"),
    ],
)
def test_a_model_that_does_not_take_a_medium_names_the_setting(
    trouble: Misbehaviour, sentence: str
):
    with serving(lambda n, request: trouble) as server:
        answered, problem = stopped(engine(server).stream(questions(3)))
    assert not answered
    assert sentence in problem


def test_an_error_while_questions_are_drawn_ends_the_stream():
    def broken() -> Asked:
        yield 0, ("Question 0.", 0)
        raise LookupError("the file is gone")

    with (
        serving(lambda n, request: "[]") as server,
        pytest.raises(LookupError, match="the file is gone"),
    ):
        dict(engine(server).stream(broken()))
