"""An OpenAI-compatible server, through the `openai` client: for chats and for plain prompts alike.

What goes wrong falls into two kinds. A question that fails by itself (the server errs on it again
and again, withholds the answer, or takes too long) has no answer and is asked again by the next
run. Where no other question would fare better (no server, no such model, no key, too many requests,
or one failure after another) the run stops with one sentence, and what was answered is kept.

The key is read from the environment and stored nowhere.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

from ovmer.baselines.decoding.answers import Generated, NotFinite
from ovmer.baselines.decoding.completions import (
    ErrorBody,
    ScoresNotFinite,
    message_of,
    read_completion,
)
from ovmer.baselines.decoding.refusals import OF_VLLM, refused_medium, unknown_keys
from ovmer.baselines.errors import ClipError, PrerequisiteError, Refused, Timeout, first_line, near

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from ovmer.baselines.decoding.engine_settings import ServerSettings

_NO_JSON_OF_NAN = "not JSON compliant"
"""In the error of a server in Python (vLLM) that had NaN among the log probabilities."""
_HOPELESS = 8
"""So many failures in a row, and the run stops."""
_CHECK_SECONDS = 30.0
_SHOWN = 200  # characters of a server's message
_PAUSE_SECONDS = 0.5
_ATTEMPTS = 4
"""Of asking where the answer is no JSON."""

Endpoint = Literal["chat/completions", "completions"]
"""Where questions are put: with `messages` in their body, or with a literal `prompt`."""


Outcome = Generated | ClipError
"""An answer, or why this one question has none."""


class ServerClient:
    """Asks many questions at once; answers come in any order."""

    def __init__(
        self,
        model: str,
        settings: "ServerSettings",
        *,
        model_key: str,
        dtype_key: str = "the server's --dtype",
    ) -> None:
        """Messages name `model_key`, the setting that holds the model's name, and `dtype_key`, that
        of its data type."""
        self._model, self._settings = model, settings
        self._dtype_key = dtype_key
        self._model_key = model_key
        self._url, self._shown_url = settings.url, settings.shown_url
        self._failures = 0
        self._refused: tuple[str, ...] = ()
        """Keys of a request that this server has refused."""
        self._is_checked = False

    def complete(
        self,
        questions: Iterable[tuple[int, Mapping[str, Any]]],
        endpoint: Endpoint = "chat/completions",
    ) -> Iterator[tuple[int, Outcome]]:
        """(number of the question, outcome), each as soon as it is known.

        A question is a number of the caller's own and the body of the request, but for the model;
        it is drawn, in another thread, when its turn comes. Raises PrerequisiteError where no
        further question can be answered; answers yielded before are kept.
        """
        answers = self._answers(iter(questions), endpoint)

        async def next_answer() -> tuple[int, Outcome] | None:
            return await anext(answers, None)

        with asyncio.Runner() as runner:
            while (answer := runner.run(next_answer())) is not None:
                yield answer

    async def _answers(
        self, questions: Iterator[tuple[int, Mapping[str, Any]]], endpoint: Endpoint
    ) -> AsyncIterator[tuple[int, Outcome]]:
        """Once something is wrong that concerns all, what is in flight is still waited for.

        Questions are drawn in a thread, for drawing one may take its time (a clip is decoded) and
        what is in flight must not wait for it.
        """
        running: set[asyncio.Task[Any]] = set()
        drawing: asyncio.Task[Any] | None = None
        problem: PrerequisiteError | None = None
        is_over = False
        pace = _Pace(self._settings.per_minute)
        async with self._client() as client:
            if not self._is_checked:
                await self._check(client)
                self._is_checked = True
            try:
                while True:
                    has_room = len(running) < self._settings.concurrency
                    if has_room and not (drawing or is_over or problem):
                        drawing = asyncio.create_task(asyncio.to_thread(next, questions, None))
                    if not (waited_for := running | ({drawing} if drawing else set())):
                        break
                    done, _ = await asyncio.wait(waited_for, return_when="FIRST_COMPLETED")
                    if drawing in done:
                        done.remove(drawing)
                        question, drawing = drawing.result(), None
                        if question is None:
                            is_over = True
                        elif not problem:
                            ask = self._ask(client, pace, endpoint, *question)
                            running.add(asyncio.create_task(ask))
                    running -= done
                    for number, outcome in [task.result() for task in done]:
                        if isinstance(outcome, PrerequisiteError):
                            problem = outcome
                            continue
                        problem = self._count(outcome) or problem
                        yield number, outcome
            finally:
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)
        if problem:
            raise problem

    def _count(self, outcome: Outcome) -> PrerequisiteError | None:
        """That there is no hope, once enough failures have followed each other."""
        self._failures = self._failures + 1 if type(outcome) in _OF_THE_SERVER else 0
        if self._failures != _HOPELESS:
            return None
        return self._stopped(f"failed on {_HOPELESS} questions in a row, the last: {outcome}")

    @asynccontextmanager
    async def _client(self) -> AsyncIterator["AsyncOpenAI"]:
        from openai import AsyncOpenAI

        try:
            client = AsyncOpenAI(
                api_key=self._settings.api_key,
                base_url=self._url,
                max_retries=self._settings.retries,
                timeout=self._settings.timeout,
            )
        except (ImportError, ValueError) as error:  # a proxy of a kind that httpx cannot use
            raise PrerequisiteError(
                f"the server at {self._shown_url} cannot be asked ({first_line(error)})"
                f"{_proxy_hint(self._url)}"
            ) from error
        async with client:
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
                f"no server answers at {self._shown_url} ({first_line(error.__cause__ or error)}); "
                f"start it (vllm serve {self._model}), or correct {self._settings.at}.base_url"
                f"{_proxy_hint(self._url)}"
            ) from error
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise no_key(self._settings) from error
        except (openai.APIStatusError, ValueError, KeyError, TypeError):
            return  # not every server lists its models
        if served and self._model not in served:
            raise PrerequisiteError(
                f"the server at {self._shown_url} has no model {self._model!r}; "
                f"{near(self._model, served)} ({self._model_key})"
            )

    async def _ask(
        self,
        client: "AsyncOpenAI",
        pace: "_Pace",
        endpoint: Endpoint,
        number: int,
        body: Mapping[str, Any],
    ) -> tuple[int, Outcome | PrerequisiteError]:
        import openai

        await pace.wait()
        try:
            async with asyncio.timeout(self._settings.timeout):
                return number, await self._answer(client, endpoint, body)
        except (TimeoutError, openai.APITimeoutError):
            seconds = self._settings.timeout
            return number, Timeout(f"the server gave no answer within {seconds:g} s")
        except openai.APIConnectionError as error:
            return number, await self._lost(client, first_line(error.__cause__ or error))
        except ScoresNotFinite:
            return number, self._not_finite()
        except ErrorBody as error:
            return number, self._failure(error.status, str(error))
        except openai.APIStatusError as error:
            message = message_of(error.body) or error.response.reason_phrase
            return number, self._failure(error.status_code, message)

    async def _lost(self, client: "AsyncOpenAI", reason: str) -> Outcome | PrerequisiteError:
        """Tells a server that is gone from one that hangs up on this question alone."""
        import openai

        try:
            await client.with_options(max_retries=1, timeout=_CHECK_SECONDS).models.list()
        except openai.APIConnectionError:
            return self._stopped(f"stopped answering ({reason})")
        except (openai.APIStatusError, ValueError, TypeError):
            pass  # it lives; not every server lists its models
        return _ServerError(f"the server broke off the connection each time ({reason})")

    def _failure(self, status: int | None, message: str) -> Outcome | PrerequisiteError:
        """Tells the failure of one question from what concerns all, by HTTP status and message."""
        said = self._scrubbed(message)
        if status in (401, 403):
            return no_key(self._settings)
        if medium := refused_medium(message):
            what, remedy = medium
            return PrerequisiteError(
                f"the server at {self._shown_url} takes no {what} ({said}); {remedy}"
            )
        if status == 404:
            root = (
                "" if "/v1" in self._shown_url else f"; most want {self._shown_url}/v1 as base_url"
            )
            return self._stopped(f"does not know the model {self._model!r} ({said}){root}")
        if status == 402:
            return self._stopped(f"wants payment ({said}); look to your quota")
        at = self._settings.at
        if status == 429:
            return self._stopped(
                f"says that there are too many requests ({said}); lower {at}.concurrency, set "
                f"{at}.per_minute, or look to your quota"
            )
        code = f" with {status}" if status else ""
        if _NO_JSON_OF_NAN in message:
            return self._not_finite()
        if status and status >= 500:
            return _ServerError(f"the server failed{code} ({said})")
        if remedy := self._other_parameters(message):
            return PrerequisiteError(
                f"the server at {self._shown_url} refuses a parameter{code} ({said}); {remedy}"
            )
        return Refused(f"the server refused the question{code} ({said})")

    def _not_finite(self) -> NotFinite:
        return NotFinite("the scores of the server's model are", self._dtype_key)

    def _other_parameters(self, message: str) -> str:
        """The setting to change where a server does not know a parameter of ours."""
        settings, newer = self._settings, "max_completion_tokens"
        if settings.limit_parameter != newer and newer in message:
            return f"set {settings.at}.limit_parameter={newer}"
        if settings.vllm_parameters and any(name in message for name in OF_VLLM):
            return f"set {settings.at}.vllm_parameters=false"
        return ""

    async def _answer(
        self, client: "AsyncOpenAI", endpoint: Endpoint, body: Mapping[str, Any]
    ) -> Outcome:
        """Ask, and ask again without what the server does not know; the answer has a note then.

        Raises as `_put` does for whatever else the server refuses.
        """
        import openai

        while True:
            left = tuple(key for key in self._refused if key in body)
            asked = {key: value for key, value in body.items() if key not in left}
            try:
                answer = await self._put(client, endpoint, asked)
            except (openai.APIStatusError, ErrorBody) as error:
                refused = unknown_keys(error, asked)
                if not refused:
                    raise
                self._refused = tuple(dict.fromkeys((*self._refused, *refused)))
                continue
            if left and isinstance(answer, Generated):
                note = f"the server does not know {' and '.join(left)}; asked without"
                answer = replace(answer, notes=(*answer.notes, note))
            return answer

    async def _put(
        self, client: "AsyncOpenAI", endpoint: Endpoint, body: Mapping[str, Any]
    ) -> Outcome:
        """Ask until the answer can be read. An empty one is an answer: the same words again would
        get the same."""
        is_chat = endpoint == "chat/completions"
        put: Any = (client.chat.completions if is_chat else client.completions).with_raw_response
        # The one argument that the client insists on; the rest is sent unchanged.
        first = "messages" if is_chat else "prompt"
        rest = {key: value for key, value in body.items() if key != first}
        for attempt in range(_ATTEMPTS):
            await asyncio.sleep(attempt * _PAUSE_SECONDS)
            response = await put.create(
                model=self._model, extra_body=rest, **{first: body.get(first)}
            )
            try:
                return read_completion(self._settings.without_key(response.text))
            except ErrorBody as error:
                # What passes is asked again, as the client does for the same status by itself.
                passes = error.status is not None and (error.status == 429 or error.status >= 500)
                if attempt + 1 == _ATTEMPTS or not passes:
                    raise
            except ValueError:
                continue
        return _ServerError("the server's answer is no completion in JSON")

    def _scrubbed(self, message: str) -> str:
        """A server's words in short and without the key, should it repeat that."""
        return self._settings.without_key((message.splitlines() or [""])[0])[:_SHOWN]

    def _stopped(self, what: str) -> PrerequisiteError:
        return PrerequisiteError(
            f"the server at {self._shown_url} {what}; what was answered is kept, the same "
            "command goes on from there"
        )


def no_key(settings: "ServerSettings") -> PrerequisiteError:
    """The error for a server that wants a key, or another one."""
    variable = settings.key_variable
    state = "refuses the key in" if os.environ.get(variable) else "wants a key; set"
    return PrerequisiteError(
        f"the server at {settings.shown_url} {state} the environment variable {variable}"
    )


def _proxy_hint(url: str) -> str:
    """The variable that sends requests to `url` through a proxy, as the end of a sentence."""
    host = urlsplit(url).hostname or ""
    if proxy_bypass(host):
        return ""
    names = ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY")
    set_ones = [each for name in names for each in (name, name.lower()) if os.environ.get(each)]
    if not set_ones:
        return ""
    return f"; {set_ones[0]} sends this through a proxy; set NO_PROXY={host} where it shall not"


class _ServerError(ClipError):
    """The server erred, again and again."""


_OF_THE_SERVER = (_ServerError, Timeout)
"""Failures of which many in a row mean that no question fares better."""


class _Pace:
    """Limits calls per minute, evenly spaced."""

    def __init__(self, per_minute: int) -> None:
        self._gap = 60 / per_minute if per_minute else 0.0
        self._next = 0.0

    async def wait(self) -> None:
        now = asyncio.get_running_loop().time()
        turn = max(now, self._next)
        self._next = turn + self._gap
        await asyncio.sleep(turn - now)
