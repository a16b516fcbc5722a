"""The engine `server`: any OpenAI-compatible server, through the `openai` client.

What goes wrong falls into two kinds. A question that fails by itself (the server errs on it again
and again, withholds the answer, or takes too long) has no answer and is asked again by the next
run. Where no other question would fare better (no server, no such model, no key, too many requests,
or one failure after another) the run stops with one sentence, and what was answered is kept.

The key stands in the environment and nowhere else. Which weights stand behind a model's name is
known to the server alone, so answers are kept by that name; if they have changed under it, put a
word of your own behind it (`extractor.model=qwen@may`). Control tokens that a description spells
are plain text to the other engines; here they are what the server makes of them.
"""

import asyncio
import json
import os
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from adapters.registry import near
from baselines.errors import ClipError, PrerequisiteError, Refused, Timeout
from runners.extraction.engines.base import Outcome, Question, Reply, Sampling, first_line

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

_BASE_URL = "OPENAI_BASE_URL"
_VLLM_SERVE = "http://localhost:8000/v1"
_NO_KEY = "none"  # what servers that want no key are sent: the client insists on one
_HOPELESS = 8
"""So many failures in a row, and the run stops."""
_CHECK_SECONDS = 30.0
_SHOWN = 200  # characters of a server's message
_PAUSE_SECONDS = 0.5
_ATTEMPTS = 4
"""Of asking where the answer is no JSON."""


@dataclass
class ServerSettings:
    """The keys of `extractor.server`."""

    base_url: str | None = None
    """Null: the environment variable OPENAI_BASE_URL, else where `vllm serve` listens."""
    key_variable: str = "OPENAI_API_KEY"
    """The environment variable that holds the key."""
    vllm_parameters: bool = True
    """Whether the server takes `top_k` and `repetition_penalty`, as vLLM's does."""
    limit_parameter: str = "max_tokens"
    """Some hosted models want `max_completion_tokens`."""
    concurrency: int = 32
    """Questions in flight."""
    per_minute: int = 0
    """Questions begun in a minute at most; 0 is no limit."""
    retries: int = 6
    """After a lost connection, 408, 409, 429 or 5xx; the waits double from 0.5 s to 8 s, or are
    what the server asks for."""
    timeout: float = 300.0
    """Seconds for one question, retries included."""

    def __post_init__(self) -> None:
        for key, least in (("concurrency", 1), ("per_minute", 0), ("retries", 0), ("timeout", 1)):
            if getattr(self, key) < least:
                raise PrerequisiteError(
                    f"extractor.server.{key} is {getattr(self, key)}; give at least {least}"
                )
        if self.base_url and urlsplit(self.base_url).password:
            raise PrerequisiteError(
                "extractor.server.base_url holds a password, which would be written to run.json; "
                f"put the url into the environment variable {_BASE_URL}"
            )


class ServerCompletion:
    """Asks many questions at once; answers come in any order."""

    def __init__(self, model: str, sampling: Sampling, settings: ServerSettings) -> None:
        """Raises PrerequisiteError where the sampling has what the server does not take."""
        self._model, _, self._revision = model.partition("@")
        self._settings = settings
        self._parameters = _parameters(sampling, settings)
        self._is_greedy = sampling.is_greedy
        self._url = settings.base_url or os.environ.get(_BASE_URL) or _VLLM_SERVE

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"engine": "server", "model": self._model, "revision": self._revision}

    def complete(self, questions: Sequence[Question]) -> Iterator[tuple[int, Outcome]]:
        answers = self._answers(questions)

        async def next_answer() -> tuple[int, Outcome] | None:
            return await anext(answers, None)

        with asyncio.Runner() as runner:
            while (answer := runner.run(next_answer())) is not None:
                yield answer

    def close(self) -> None:
        """Nothing to free: connections are closed with the last answer."""

    async def _answers(self, questions: Sequence[Question]) -> AsyncIterator[tuple[int, Outcome]]:
        """Once something is wrong that concerns all, what is in flight is still waited for."""
        waiting = deque(enumerate(questions))
        running: set[asyncio.Task[tuple[int, Outcome | PrerequisiteError]]] = set()
        problem: PrerequisiteError | None = None
        failures = 0
        pace = _Pace(self._settings.per_minute)
        async with self._client() as client:
            await self._check(client)
            try:
                while running or (waiting and not problem):
                    while waiting and not problem and len(running) < self._settings.concurrency:
                        ask = self._ask(client, pace, *waiting.popleft())
                        running.add(asyncio.create_task(ask))
                    done, running = await asyncio.wait(running, return_when="FIRST_COMPLETED")
                    for place, outcome in [task.result() for task in done]:
                        if isinstance(outcome, PrerequisiteError):
                            problem = outcome
                            continue
                        failures = failures + 1 if type(outcome) in _OF_THE_SERVER else 0
                        if failures == _HOPELESS:
                            last = f"failed on {failures} questions in a row, the last: {outcome}"
                            problem = problem or self._stopped(last)
                        yield place, outcome
            finally:
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)
        if problem:
            raise problem

    @asynccontextmanager
    async def _client(self) -> AsyncIterator["AsyncOpenAI"]:
        from openai import AsyncOpenAI

        variable = self._settings.key_variable
        key = os.environ.get(variable, "").strip() or _NO_KEY
        if not key.isascii():
            raise PrerequisiteError(f"the environment variable {variable} holds no key")
        async with AsyncOpenAI(
            api_key=key,
            base_url=self._url,
            max_retries=self._settings.retries,
            timeout=self._settings.timeout,
        ) as client:
            yield client

    async def _check(self, client: "AsyncOpenAI") -> None:
        """Is there a server that takes our key and has the model? Before the first question."""
        import openai

        try:
            patient = client.with_options(max_retries=1, timeout=_CHECK_SECONDS)
            listing = await patient.models.with_raw_response.list()
            served = {each["id"] for each in json.loads(listing.text)["data"]}
        except openai.APIConnectionError as error:
            raise PrerequisiteError(
                f"no server answers at {self._url} ({first_line(error.__cause__ or error)}); "
                f"start it (vllm serve {self._model}), or correct extractor.server.base_url"
            ) from error
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise self._no_key() from error
        except (openai.APIStatusError, ValueError, KeyError, TypeError):
            return  # not every server lists its models
        if served and self._model not in served:
            raise PrerequisiteError(
                f"the server at {self._url} has no model {self._model!r}; "
                f"{near(self._model, served)} (extractor.model)"
            )

    async def _ask(
        self, client: "AsyncOpenAI", pace: "_Pace", place: int, question: Question
    ) -> tuple[int, Outcome | PrerequisiteError]:
        import openai

        await pace.wait()
        try:
            async with asyncio.timeout(self._settings.timeout):
                return place, await self._answer(client, question)
        except (TimeoutError, openai.APITimeoutError):
            seconds = self._settings.timeout
            return place, Timeout(f"the server gave no answer within {seconds:g} s")
        except openai.APIConnectionError as error:
            return place, self._stopped(
                f"stopped answering ({first_line(error.__cause__ or error)})"
            )
        except (openai.AuthenticationError, openai.PermissionDeniedError):
            return place, self._no_key()
        except openai.NotFoundError as error:
            return place, self._stopped(f"does not know the model {self._model!r} ({_said(error)})")
        except openai.RateLimitError as error:
            return place, self._stopped(
                f"says that there are too many requests ({_said(error)}); lower extractor.server."
                "concurrency, set extractor.server.per_minute, or look to your quota"
            )
        except openai.InternalServerError as error:
            return place, _ServerError(
                f"the server failed with {error.status_code} ({_said(error)})"
            )
        except openai.APIStatusError as error:
            return place, Refused(
                f"the server refused the question with {error.status_code} ({_said(error)})"
            )

    async def _answer(self, client: "AsyncOpenAI", question: Question) -> Outcome:
        """Ask until the answer can be read. An empty one is an answer: the same words again would
        get the same."""
        seed = {} if self._is_greedy else {"seed": question.seed}
        for attempt in range(_ATTEMPTS):
            await asyncio.sleep(attempt * _PAUSE_SECONDS)
            response = await client.chat.completions.with_raw_response.create(
                model=self._model,
                messages=[{"role": "user", "content": question.prompt}],
                extra_body=self._parameters | seed,
            )
            if (answer := _read(response.text)) is not None:
                return answer
        return _ServerError("the server's answer is no chat completion in JSON")

    def _no_key(self) -> PrerequisiteError:
        variable = self._settings.key_variable
        state = "refuses the key in" if os.environ.get(variable) else "wants a key; set"
        return PrerequisiteError(
            f"the server at {self._url} {state} the environment variable {variable}"
        )

    def _stopped(self, what: str) -> PrerequisiteError:
        return PrerequisiteError(
            f"the server at {self._url} {what}; what was answered is kept, the same command goes "
            "on from there"
        )


class _ServerError(ClipError):
    """The server erred, again and again."""


_OF_THE_SERVER = (_ServerError, Timeout)
"""Failures of which many in a row mean that no question fares better."""


class _Pace:
    """Lets so many pass in a minute, evenly."""

    def __init__(self, per_minute: int) -> None:
        self._gap = 60 / per_minute if per_minute else 0.0
        self._next = 0.0

    async def wait(self) -> None:
        now = asyncio.get_running_loop().time()
        turn = max(now, self._next)
        self._next = turn + self._gap
        await asyncio.sleep(turn - now)


def _parameters(sampling: Sampling, settings: ServerSettings) -> dict[str, Any]:
    """The sampling as the server's parameters, none left to its defaults.

    (vLLM's server fills in the model's generation_config.json, where Qwen2.5 has top_k 20.)
    """
    parameters: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        settings.limit_parameter: sampling.max_tokens,
    }
    extensions = {"top_k": sampling.top_k, "repetition_penalty": sampling.repetition_penalty}
    if settings.vllm_parameters:
        return parameters | extensions
    neutral = {"top_k": 0, "repetition_penalty": 1.0}
    if unusual := [key for key, value in extensions.items() if value != neutral[key]]:
        raise PrerequisiteError(
            f"{' and '.join(unusual)} of the sampling cannot be asked of this server "
            "(extractor.server.vllm_parameters=false); choose another preset, or set "
            f"{unusual[0]} to {neutral[unusual[0]]} in it"
        )
    return parameters


def _read(text: str) -> Reply | Refused | None:
    """The reply in a chat completion; None where the text is something else."""
    try:
        body = json.loads(text)
        choice, usage = body["choices"][0], body.get("usage") or {}
        message, reason = choice["message"], choice.get("finish_reason")
        words = message.get("content") or ""
        if reason == "content_filter" or message.get("refusal"):
            return Refused(f"the server withheld its answer ({message.get('refusal') or reason})")
        return Reply(
            words.encode("utf-8", "replace").decode(),  # JSON can spell halves of characters
            reason == "length",
            usage.get("prompt_tokens"),
            usage.get("completion_tokens"),
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None


def _said(error: "APIStatusError") -> str:
    """The server's own words, in short."""
    body = error.body
    message = body.get("message") if isinstance(body, dict) else None
    return str(message or error.response.reason_phrase).splitlines()[0][:_SHOWN]
