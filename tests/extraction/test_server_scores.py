"""NaN behind a server: known where it tells log probabilities, hinted at where it does not."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from ovmer.baselines.decoding.answers import Generated, NotFinite
from ovmer.baselines.decoding.engine_settings import ServerSettings
from ovmer.baselines.decoding.server_engine import ChatServer
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.errors import ClipError
from tests.extraction.fake_server import MODEL, Misbehaviour, completion, error, serving

QUICK = ServerSettings(retries=0, timeout=20.0, at="extractor.engine")
NAN, INFINITE = float("nan"), float("inf")


def outcome(answer: Misbehaviour, settings: ServerSettings = QUICK) -> Generated | ClipError:
    with serving(lambda n, request: answer) as server:
        chat = ChatServer(
            MODEL,
            replace(settings, base_url=server.url),
            GenerationSettings(),
            model_key="extractor.model",
        )
        ((_, found),) = chat.stream([(0, ("Question.", 0))])
    return found


def reply(logprobs: object, words: str = "[sad]", reason: str = "stop") -> Misbehaviour:
    body = json.loads(completion(words, reason).body)
    body["choices"][0]["logprobs"] = logprobs
    return Misbehaviour(body=json.dumps(body))  # spells NaN as Python does


def of_chat(*numbers: float | None) -> Mapping[str, object]:
    return {"content": [{"token": "x", "logprob": each} for each in numbers], "refusal": None}


def events(*scores: Sequence[float | None]) -> Misbehaviour:
    chunks = [{"choices": [{"delta": {"content": "x"}, "logprobs": of_chat(*s)}]} for s in scores]
    return Misbehaviour(body="".join(f"data: {json.dumps(each)}\n\n" for each in chunks))


@pytest.mark.parametrize(
    "answer",
    [
        reply(of_chat(-0.1, NAN)),
        reply(of_chat(-0.1, None)),
        reply(of_chat(-INFINITE, -0.1)),
        reply(of_chat(INFINITE)),
        reply(of_chat(-9999.0, -9999.0)),
        reply(of_chat(-3.4e38)),
        reply({"token_logprobs": [-0.1, None], "tokens": ["a", "b"]}),
        events([-0.1], [NAN]),
        error(500, "Out of range float values are not JSON compliant: nan"),
    ],
    ids="nan null -inf inf floor lowest completions events no-json".split(),
)
def test_scores_that_a_server_reveals_to_be_nan_are_the_clips_error(answer: Misbehaviour) -> None:
    found = outcome(answer)
    assert isinstance(found, NotFinite)
    assert str(found) == (
        "the scores of the server's model are NaN or infinite, as float16 overflows; set the "
        "server's --dtype=bfloat16, or float32"
    )


@pytest.mark.parametrize(
    "logprobs",
    [
        *(of_chat(-0.1, -2.5), of_chat(0, -0.1), of_chat(), None, {}, {"content": None}),
        of_chat(-9999.0, -0.1),  # OpenAI's of a token outside of the twenty likeliest
        {"token_logprobs": [-0.1], "tokens": ["a"]},
        {"token_logprobs": None},
    ],
    ids="numbers zero empty null without content-null rare completions tokens-null".split(),
)
def test_scores_that_are_numbers_are_an_answer(logprobs: object) -> None:
    assert outcome(reply(logprobs)) == Generated("[sad]", (), 9, 3)


@pytest.mark.parametrize(
    ("words", "reason", "hint"),
    [
        ("!" * 40, "length", "the answer is one sign or word up to its limit"),
        (" sad sad" * 20 + " sa", "length", "the answer is one sign or word up to its limit"),
        ("  \n", "length", "the answer has no words up to its limit"),
        ("!" * 40, "stop", None),  # so meant: NaN ends no answer but at once
        ("", "stop", None),  # the record's status says `empty`
        ("She is sad. " * 3, "length", None),
        ("She frowns and looks away, " * 30, "length", None),
    ],
)
def test_an_answer_like_those_drawn_from_nan_has_a_note(
    words: str, reason: str, hint: str | None
) -> None:
    found = outcome(completion(words, reason))
    assert isinstance(found, Generated)
    assert [note[: len(hint or "")] for note in found.notes] == ([hint] if hint else [])
    sure = outcome(reply(of_chat(-0.1, -0.2), words, reason))
    assert isinstance(sure, Generated)
    assert sure.notes == (), "its scores are known to be numbers"


def test_a_server_that_is_not_vllm_is_not_asked_for_them() -> None:
    """Hosted models refuse the key; what comes unasked is looked at all the same."""
    hosted = replace(QUICK, vllm_parameters=False)
    assert isinstance(outcome(reply(of_chat(NAN)), hosted), NotFinite)
