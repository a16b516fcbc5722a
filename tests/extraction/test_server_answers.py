"""Answers of every form are read, and what a server says instead of one is quoted."""

import json
from dataclasses import replace
from typing import Any

import pytest

from ovmer.baselines.decoding.answers import Generated
from ovmer.baselines.errors import ClipError
from tests.extraction.asking import PAPER, QUICK, ask, asked_of, engine, questions, reply, stopped
from tests.extraction.fake_server import Misbehaviour, Script, completion, error, serving

pytestmark = pytest.mark.usefixtures("quick_retries")


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
