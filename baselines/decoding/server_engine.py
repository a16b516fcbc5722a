"""The engines behind a server: prompts of embeddings to a vLLM server, chats to any server.

Both keep many prompts in flight through one client, see server.py.
"""

import io
import json
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovmer.baselines.decoding.answers import (
    Answered,
    AnswerReader,
    Asked,
    Generated,
    StreamingEngine,
)
from ovmer.baselines.decoding.server import ServerClient, no_key
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.errors import ClipError, PrerequisiteError, first_line
from ovmer.baselines.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

    from ovmer.baselines.decoding.engine_settings import ServerSettings

_CHECK_SECONDS = 30.0
_SEEDS = (1 << 31) - 1  # some servers take no more
_PLAIN = GenerationSettings()
_OURS_ALONE = ("num_beams", "no_repeat_ngram_size", "max_length", "bad_words")
_TOLD = {"return_token_ids": True, "return_tokens_as_token_ids": True, "logprobs": 0}
"""Ids, as the server has no tokenizer, and their log probabilities, in which NaN show."""
_OF_VLLM = ("top_k", "min_p", "repetition_penalty", "min_new_tokens")


class ChatServer(StreamingEngine):
    """Chats -> answers, from any OpenAI-compatible server.

    Only the server knows which weights a model's name means. Control tokens that a
    message spells are left to the server; with the other engines they are plain text.
    """

    def __init__(
        self,
        model: str,
        settings: "ServerSettings",
        generation: GenerationSettings,
        *,
        model_key: str,
        revision: str = "",
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """`more` are further keys of the request; a null among them leaves one of ours out.

        Messages name `model_key`, the setting that holds the model's name; `revision` is a word of
        the user's own. Raises PrerequisiteError for sampling that the server does not take.
        """
        self.identity = {"engine": "server", "model": model, "revision": revision}
        asked = chat_parameters(generation, settings) | dict(more or {})
        self._parameters = {key: value for key, value in asked.items() if value is not None}
        self._is_drawn = generation.do_sample
        self._client = ServerClient(model, settings, model_key=model_key)

    def stream(self, asked: Asked) -> Answered:
        """Answer chats: lists of messages, or the text of one user message.

        They are drawn, in another thread, as there is room. Raises PrerequisiteError where the
        server answers no more.
        """
        return self._client.complete((key, self._body(*question)) for key, question in asked)

    def close(self) -> None:
        """Nothing to free: connections are closed with the last answer."""

    def _body(self, chat: str | Sequence[Mapping[str, Any]], seed: int) -> Mapping[str, Any]:
        messages = [{"role": "user", "content": chat}] if isinstance(chat, str) else chat
        drawn = {"seed": seed & _SEEDS} if self._is_drawn else {}
        return {"messages": messages, **drawn, **self._parameters}


def chat_parameters(generation: GenerationSettings, settings: "ServerSettings") -> dict[str, Any]:
    """How an answer is drawn, as keys of a request; all but the seed.

    None is left to the server's defaults: vLLM's fills in the model's generation_config.json.
    Raises PrerequisiteError for what this server cannot do.
    """
    found: dict[str, Any] = {
        "temperature": generation.temperature if generation.do_sample else 0.0,
        "top_p": generation.top_p if generation.do_sample else 1.0,
        settings.limit_parameter: generation.max_new_tokens,
        **({"stop": list(generation.stop)} if generation.stop else {}),
        **(
            {"presence_penalty": generation.presence_penalty} if generation.presence_penalty else {}
        ),
    }
    unable = [key for key in _OURS_ALONE if getattr(generation, key) != getattr(_PLAIN, key)]
    if settings.vllm_parameters:
        found["top_k"] = generation.top_k if generation.do_sample else 0
        found["min_p"] = generation.min_p if generation.do_sample else 0.0
        found["repetition_penalty"] = generation.repetition_penalty
        found["logprobs"] = True  # of the chosen tokens alone: NaN show in them
        if generation.min_new_tokens:
            found["min_tokens"] = generation.min_new_tokens
    else:
        unable += [key for key in _OF_VLLM if getattr(generation, key) != getattr(_PLAIN, key)]
    if unable:
        key = unable[0]
        raise PrerequisiteError(
            f"{' and '.join(unable)} of the generation preset cannot be asked of this server "
            f"({settings.at}.vllm_parameters={str(settings.vllm_parameters).lower()}); choose "
            f"another preset, or set {key} to {getattr(_PLAIN, key)} in it"
        )
    return found


class EmbeddingServer(StreamingEngine):
    """Prompt embeddings -> texts, by the completions API with vLLM's `prompt_embeds`.

    The server holds the language model as `LlmFolder` keeps it and nothing else; its tokenizer is
    not used (ids come back), so it is to be started without one.
    """

    def __init__(
        self,
        folder: Path,
        tokenizer: Tokenizer,
        generation: GenerationSettings,
        settings: "ServerSettings",
    ) -> None:
        """Raises PrerequisiteError where no server answers, or one with another model."""
        self._folder = folder
        self._generation, self._settings = generation, settings
        self._reader = AnswerReader(tokenizer, generation)
        # Without a tokenizer the server knows no stop strings, but it can end at a token that
        # spells one by itself; what ends otherwise is cut when it is back.
        spelled = self._reader.spelled_stops(self._config["vocab_size"])
        self._stop_ids = [*tokenizer.stop_ids, *spelled]
        self._client = ServerClient(
            self._find_model(),
            settings,
            model_key="engine.base_url",
            dtype_key="machine.dtype",
        )

    @cached_property
    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = json.loads((self._folder / "config.json").read_text("utf-8"))
        return config

    def _find_model(self) -> str:
        """The served name of the language model, known by the folder that it was started with."""
        from openai import (
            APIConnectionError,
            APIStatusError,
            AuthenticationError,
            OpenAI,
            PermissionDeniedError,
        )

        url, settings = self._settings.shown_url, self._settings
        try:
            with OpenAI(
                base_url=settings.url,
                api_key=settings.api_key,
                timeout=_CHECK_SECONDS,
                max_retries=1,
            ) as client:
                served = list(client.models.list())
        except (AuthenticationError, PermissionDeniedError) as error:
            raise no_key(settings) from error
        except (APIConnectionError, APIStatusError) as error:
            raise PrerequisiteError(
                f"no server answers at {url} ({first_line(error.__cause__ or error)}); "
                f"{self._remedy}"
            ) from error
        for each in served:
            if Path(str(getattr(each, "root", None) or each.id)).name == self._folder.name:
                return each.id
        names = ", ".join(each.id for each in served) or "nothing"
        raise PrerequisiteError(
            f"the server at {url} serves {names}, not {self._folder.name}; {self._remedy}"
        )

    @property
    def _remedy(self) -> str:
        # Of itself vLLM halves float32.
        switches = f"--dtype {self._config['dtype']} --enable-prompt-embeds --skip-tokenizer-init"
        return f"start it (vllm serve {self._folder} {switches}), or correct engine.base_url"

    def stream(self, asked: Asked) -> Answered:
        """Answer prompts of embeddings, which are drawn as there is room.

        Raises PrerequisiteError where the server answers no more.
        """
        from ovmer.baselines.decoding.vllm_engine import embeddings, vllm_parameters

        known, lengths = list[tuple[int, Generated | ClipError]](), dict[int, int]()

        def bodies() -> Iterator[tuple[int, Mapping[str, Any]]]:
            for key, (prompt, seed) in asked:
                limit = self._reader.limit(len(prompt))
                if limit == 0:
                    known.append((key, self._reader.read((), len(prompt))))
                    continue
                lengths[key] = len(prompt)
                vectors = embeddings(prompt, self._config["hidden_size"])
                body = vllm_parameters(self._generation, limit, seed, self._stop_ids)
                yield key, body | _TOLD | {"prompt_embeds": _as_text(vectors)}

        for key, reply in self._client.complete(bodies(), "completions"):
            if isinstance(reply, ClipError):
                yield key, reply
            elif not reply.ids and reply.new_tokens != 0:
                raise PrerequisiteError(f"the server returns no token ids; {self._remedy}")
            else:
                ids = self._reader.until_stop(reply.ids)
                yield key, self._reader.read(ids, lengths.pop(key))
        yield from known

    def close(self) -> None:
        """The server is not ours."""


def _as_text(vectors: "Tensor") -> str:
    """A tensor as `torch.save` writes it, in base64."""
    import torch

    file = io.BytesIO()
    torch.save(vectors.clone(), file)  # a clone: a view would drag its whole storage along
    return b64encode(file.getvalue()).decode("ascii")
