"""Reads the body of a server's answer: a completion in JSON or as a stream of events, or an error.

Servers differ: content is a string or a list of parts (Mistral, OpenAI), thinking has a field or a
part of its own, an error comes with status 200 (OpenRouter), and some proxies stream unasked.

Scores of the model are known by the log probabilities of the chosen tokens, where a server gives
them. Without these, only an answer that repeats itself to its limit hints at NaN.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ovmer.baselines.decoding.answers import Generated
from ovmer.baselines.errors import Refused

_THINKING_FIELDS = ("reasoning", "reasoning_content", "thinking")
_TEXT_PARTS = ("text", "output_text")
_FLOOR = -9999.0
"""The log probability of a token outside of the twenty likeliest (OpenAI's API), and what servers
write in place of NaN (vLLM)."""
_REPEATED = re.compile(r"(.{1,12}?)\1{15,}.{0,11}", re.DOTALL)
"""One token over and over, the last one maybe cut."""
_AS_OF_NAN = (
    "{} up to its limit, as a model answers whose scores are NaN; this server does not tell: see "
    "that its data type does not overflow (bfloat16 instead of float16)"
)


class ScoresNotFinite(Exception):
    """Scores of the model that were NaN or infinite, by the log probabilities of its tokens."""


class ErrorBody(Exception):
    """An error instead of a completion, with the HTTP status that it names, if any."""

    def __init__(self, error: Any) -> None:
        code = error.get("code", error.get("status")) if isinstance(error, Mapping) else ""
        self.status = int(str(code)) if str(code).isdecimal() else None
        super().__init__(message_of(error) or "an error without a message")


def read_completion(text: str) -> Generated | Refused:
    """The answer in the body of a response.

    Raises ErrorBody for an error, ScoresNotFinite where the server reveals such, ValueError for
    what is no completion.
    """
    try:
        body = _of_events(text) if text.lstrip().startswith("data:") else json.loads(text)
        if body.get("error"):
            raise ErrorBody(body["error"])
        choice, usage = body["choices"][0], body.get("usage") or {}
        if choice.get("error"):
            raise ErrorBody(choice["error"])
        message = choice["message"] if "message" in choice else {"content": choice["text"]}
        reason, refusal = choice.get("finish_reason"), message.get("refusal")
        if reason == "content_filter" or refusal:
            return Refused(f"the server withheld its answer ({refusal or reason})")
        scores = _log_probabilities(choice)
        if not _are_finite(scores):
            raise ScoresNotFinite
        words, thinking = _parted(message.get("content"))
        apart = next((message[key] for key in _THINKING_FIELDS if message.get(key)), "")
        thinking, is_cut = _joined(apart) or thinking, reason == "length"
        return Generated(
            _whole(words),
            tuple(map(int, choice.get("token_ids") or ())),
            _count(usage.get("prompt_tokens")),
            _count(usage.get("completion_tokens")),
            is_cut,
            _whole(thinking),
            _hints(words or thinking) if is_cut and not scores else (),
        )
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError("no completion") from error


def _log_probabilities(choice: Mapping[str, Any]) -> list[Any]:
    """Those of the chosen tokens, of a chat or a plain completion; empty where none are given."""
    given = choice.get("logprobs") or {}
    if "token_logprobs" in given:
        return list(given["token_logprobs"] or ())
    return [each["logprob"] for each in given.get("content") or () if "logprob" in each]


def _are_finite(scores: Sequence[Any]) -> bool:
    """Whether log probabilities come from scores that are numbers. Servers write NaN as NaN, as
    null (orjson, pydantic, llama.cpp) or as the floor, which alone is also a rare token's."""
    numbers = [each for each in scores if isinstance(each, int | float) and math.isfinite(each)]
    return len(numbers) == len(scores) and (not numbers or max(numbers) > _FLOOR)


def _hints(text: str) -> tuple[str, ...]:
    """Notes on an answer that was cut and looks as if it had been drawn from NaN."""
    if not text.strip():
        return (_AS_OF_NAN.format("the answer has no words"),)
    if _REPEATED.fullmatch(text.strip()):
        return (_AS_OF_NAN.format("the answer is one sign or word"),)
    return ()


def message_of(error: Any) -> str:
    """The words of an error in any of the usual forms; empty where it has none."""
    if isinstance(error, Mapping):
        found = (error.get(key) for key in ("message", "detail", "error"))
        return next((words for each in found if (words := message_of(each))), "")
    return error if isinstance(error, str) else ""


def _parted(content: Any) -> tuple[str, str]:
    """(text, thinking) of a message's content; raises TypeError for neither text nor parts."""
    if content is None or isinstance(content, str):
        return content or "", ""
    if not isinstance(content, list):
        raise TypeError("the content is neither text nor a list of parts")
    text = [part for part in content if isinstance(part, str) or part["type"] in _TEXT_PARTS]
    thinking = [part for part in content if part not in text]
    return _joined(text), _joined(thinking)


def _joined(part: Any) -> str:
    """The words of a part, or of a list of parts within each other."""
    if isinstance(part, Mapping):
        return _joined(next((part[key] for key in ("text", *_THINKING_FIELDS) if key in part), ""))
    if isinstance(part, Sequence) and not isinstance(part, str):
        return "".join(map(_joined, part))
    return part if isinstance(part, str) else ""


def _of_events(text: str) -> dict[str, Any]:
    """The completion that a stream of server-sent events adds up to."""
    lines = (line.removeprefix("data:").strip() for line in text.splitlines())
    events = [json.loads(line) for line in lines if line.startswith("{")]
    if error := next((each["error"] for each in events if each.get("error")), None):
        return {"error": error}
    choices = [each["choices"][0] for each in events if each.get("choices")]
    deltas = [each.get("delta") or {"content": each.get("text")} for each in choices]
    message: dict[str, Any] = {
        key: "".join(_joined(each.get(key)) for each in deltas)
        for key in ("content", "refusal", *_THINKING_FIELDS)
    }
    if not choices:
        raise ValueError("no completion")
    reason = _last(choices, "finish_reason")
    scores = [score for each in choices for score in _log_probabilities(each)]
    return {
        "choices": [
            {
                "message": message,
                "finish_reason": reason,
                "logprobs": {"token_logprobs": scores},
            }
        ],
        "usage": _last(events, "usage"),
    }


def _last(found: Iterable[Mapping[str, Any]], key: str) -> Any:
    values = [each[key] for each in found if each.get(key)]
    return values[-1] if values else None


def _count(value: Any) -> int | None:
    """A number of tokens; None for any other value."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if is_count else None


def _whole(text: str) -> str:
    """Without the halves of characters that JSON can spell."""
    return text.encode("utf-8", "replace").decode()
