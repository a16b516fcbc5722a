"""Questions to a server that is not there, and what becomes of them."""

from dataclasses import replace

import pytest

from ovmer.baselines.decoding.answers import Answered, Asked, Generated
from ovmer.baselines.decoding.engine_settings import ServerSettings
from ovmer.baselines.decoding.server_engine import ChatServer
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.errors import ClipError, PrerequisiteError
from tests.extraction.fake_server import MODEL, FakeServer

QUICK = ServerSettings(retries=2, timeout=20.0, at="extractor.engine")
Outcome = Generated | ClipError


def reply(text: str, *, is_cut: bool = False) -> Generated:
    return Generated(text, (), 9, 3, is_cut)


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


PAPER = GenerationSettings(do_sample=True, temperature=0.7, top_p=0.8, repetition_penalty=1.05)


def stopped(found: Answered) -> tuple[dict[int, Outcome], str]:
    """What was answered before the engine gave up, and what it said then."""
    answered: dict[int, Outcome] = {}
    try:
        for place, outcome in found:
            answered[place] = outcome
    except PrerequisiteError as problem:
        return answered, str(problem)
    pytest.fail("it did not give up")
