"""The real vLLM: its offline engine, and its server on loopback, killed and started again.

Both run the miniature of Qwen2.5 on the CPU. They take long to start (every process of vLLM's
imports for some ten seconds), so each is started once. That a real one follows the server that was
killed is left to `pytest -m by_hand`.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from urllib.request import Request, urlopen

import pytest

from tests.extraction.fake_server import serving
from tests.processes import Started
from tests.vllm_server import ENVIRONMENT, START_SECONDS, VllmServer

pytestmark = [
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed"),
    pytest.mark.timeout(900),
]

NAMES = "abcdefghijkl"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set and the miniature, in which the commands run."""
    from ovmer.baselines.chat import write_miniature
    from tests.runners.conftest import write_tables

    folder = tmp_path_factory.mktemp("vllm")
    write_tables(folder / "data", NAMES)
    write_miniature(folder / "mini")
    return folder


def arguments(outputs: str, *more: str) -> list[str]:
    """A sweep over twelve clips, of each of which the fake model says something else."""
    said = ", ".join(f"{name}: '{name * n} sighs.'" for n, name in enumerate(NAMES, 1))
    return [
        *("dataset=ovmerd", "dataset.root=data", "dataset.check_files=false"),
        *("baseline=scripted", f"outputs={outputs}", "extractor=qwen25"),
        f"+baseline.answers={{{said}}}",
        *("extractor.dtype=float32", "extractor.presets.greedy.max_new_tokens=48", *more),
    ]


def sweep(place: Path, *settings: str, before: Callable[[], None] | None = None) -> Started:
    return Started(["sweep", *settings], place, environment=ENVIRONMENT, before=before)


def without_vllm() -> None:
    """From here on `import vllm` fails."""
    sys.modules["vllm"] = None  # type: ignore[assignment]


def finished(process: Started) -> str:
    out, err = process.communicate(timeout=START_SECONDS)
    assert process.returncode == 0, err
    return out


def records(place: Path, outputs: str) -> list[dict]:
    files = (place / outputs).rglob("labels.jsonl")
    return [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]


def replies(place: Path, outputs: str) -> dict[str, str]:
    return {each["name"]: each["raw"] for each in records(place, outputs)}


def whole(found: dict[str, str]) -> dict[str, str]:
    """Without half a character at the end, which the server leaves out (gibberish has some)."""
    return {name: raw.rstrip("\ufffd") for name, raw in found.items()}


@pytest.fixture(scope="module")
def by_transformers(place: Path) -> dict[str, str]:
    """What transformers writes, the miniature given as a folder."""
    finished(sweep(place, *arguments("transformers", "extractor.model=mini")))
    found = replies(place, "transformers")
    assert len(set(found.values())) > len(NAMES) / 2
    return found


def test_the_offline_engine_writes_what_transformers_writes(
    place: Path, by_transformers: dict[str, str]
):
    settings = arguments("vllm", "extractor.model=mini", "engine@extractor.engine=vllm")
    table = finished(sweep(place, *settings))
    assert "extractor=qwen25" in table
    assert replies(place, "vllm") == by_transformers
    # Again, with the labels gone: every answer is known, and no engine is started.
    next((place / "vllm").rglob("labels.jsonl")).unlink()
    assert finished(sweep(place, *settings, before=without_vllm)) == table
    assert replies(place, "vllm") == by_transformers


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[VllmServer]:
    with started(place) as server:
        yield server


@contextmanager
def started(place: Path, port: int | None = None) -> Iterator[VllmServer]:
    options = ("--served-model-name", "mini", "--max-model-len", "4096")
    server = VllmServer(place / "mini", *options, port=port)
    try:
        server.wait()
        yield server
    finally:
        server.kill()


def served(outputs: str, server: VllmServer, *more: str) -> list[str]:
    url = f"extractor.engine.base_url={server.url}"
    settings = ["extractor.model=mini", "engine@extractor.engine=server", url]
    return arguments(outputs, *settings, "extractor.engine.retries=1", *more)


def test_the_server_writes_what_transformers_writes(
    place: Path, server: VllmServer, by_transformers: dict[str, str]
):
    finished(sweep(place, *served("served", server)))
    assert whole(replies(place, "served")) == whole(by_transformers)
    assert server.answered == len(NAMES)


def test_a_served_model_is_asked_for_log_probabilities_and_answers(server: VllmServer):
    """With these, a model whose scores are NaN is known by them; here all are numbers."""
    from ovmer.adapters.base import Answer, Machine, Prepared
    from ovmer.adapters.served import Served
    from ovmer.baselines.decoding.completions import read_completion
    from ovmer.baselines.decoding.engine_settings import ServerSettings
    from ovmer.baselines.decoding.server_engine import chat_parameters
    from ovmer.baselines.decoding.settings import GenerationSettings

    generation = GenerationSettings(max_new_tokens=12)
    message = {"role": "user", "content": [{"type": "text", "text": "How does she feel?"}]}
    adapter = Served(model="mini", generation=generation)
    adapter.load(Machine(engine={"name": "server", "base_url": server.url}))
    (answer,) = adapter.generate([Prepared([message])])

    asked = chat_parameters(generation, ServerSettings(base_url=server.url))
    assert asked["logprobs"] is True
    request = Request(
        f"{server.url}/chat/completions",
        json.dumps({"model": "mini", "messages": [message]} | asked).encode(),
        {"Content-Type": "application/json"},
    )
    with urlopen(request, timeout=60) as response:
        body = response.read().decode()
    completion = json.loads(body)
    scores = [each["logprob"] for each in completion["choices"][0]["logprobs"]["content"]]
    assert len(scores) == completion["usage"]["completion_tokens"] > 0
    assert all(-9999.0 < each <= 0.0 for each in scores)
    assert isinstance(answer, Answer)
    assert answer.text.strip() == read_completion(body).text.strip() != ""


def test_a_wrong_model_is_reported_in_one_sentence(place: Path, server: VllmServer):
    process = sweep(place, *served("wrong", server, "extractor.model=mimi"))
    _, err = process.communicate(timeout=START_SECONDS)
    assert process.returncode == 2
    assert "has no model 'mimi'; did you mean mini?" in err


@contextmanager
def quick_successor(place: Path, port: int) -> Iterator[SimpleNamespace]:
    """One that is there at once, and says nothing."""
    seen = SimpleNamespace(answered=0)
    with serving(lambda before, request: "[]", port=port) as server:
        yield seen
        seen.answered = len(server.requests)


@pytest.mark.parametrize(
    "successor", [quick_successor, pytest.param(started, marks=pytest.mark.by_hand)]
)
def test_a_server_that_is_killed_half_way_is_asked_for_the_rest_only(
    successor, place: Path, server: VllmServer, by_transformers: dict[str, str]
):
    before = server.answered
    settings = served("killed", server)
    slowly = ["extractor.engine.per_minute=120", "extractor.engine.concurrency=1"]
    process = sweep(place, *settings, *slowly)
    process.wait_for(lambda: len(records(place, "killed")) >= 4)
    server.kill()
    _, err = process.communicate(timeout=START_SECONDS)
    assert process.returncode == 2
    assert "stopped answering" in err
    assert "what was answered is kept, the same command goes on from there" in err
    known = whole(replies(place, "killed"))
    assert 4 <= len(known) < len(NAMES)
    assert server.answered - before == len(known)

    with successor(place, server.port) as again:
        finished(sweep(place, *settings))
    assert again.answered == len(NAMES) - len(known)
    expected = whole(by_transformers)
    if successor is quick_successor:
        expected = {name: known.get(name, "[]") for name in expected}
    assert known.items() <= whole(by_transformers).items()
    assert whole(replies(place, "killed")) == expected
