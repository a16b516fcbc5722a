"""The engine that sends prompt embeddings to a running vLLM server, many at a time.

The server holds the language model as `LlmFolder` keeps it and nothing else; its tokenizer is not
used (ids come back), so it is to be started without one.
"""

import io
import json
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ovmer.baselines.decoding.answers import Answers, Generated, Prompt
from ovmer.baselines.decoding.server import ServerClient
from ovmer.baselines.decoding.server_settings import ServerSettings
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.decoding.vllm_engine import embeddings, sampling
from ovmer.baselines.errors import ClipError, PrerequisiteError, first_line
from ovmer.baselines.tokenizer import Tokenizer

_CHECK_SECONDS = 30.0


class ServerEngine:
    """Prompt embeddings -> texts, by the completions API with vLLM's `prompt_embeds`."""

    def __init__(
        self,
        folder: Path,
        tokenizer: Tokenizer,
        settings: GenerationSettings,
        server: ServerSettings,
    ) -> None:
        """Raises PrerequisiteError where no server answers, or one with another model."""
        self._folder = folder
        self._config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self._settings = settings
        self._answers = Answers(tokenizer, settings)
        # Without a tokenizer the server knows no stop strings, but it can end at a token that
        # spells one by itself; what ends otherwise is cut when it is back.
        spelled = self._answers.spelled_stops(self._config["vocab_size"])
        self._stop_ids = [*tokenizer.stop_ids, *spelled]
        self._client = ServerClient(
            self._find_model(server), server, key="engine", model_key="engine.base_url"
        )

    def _find_model(self, server: ServerSettings) -> str:
        """The served name of the language model, told by the folder that it was started with."""
        from openai import APIConnectionError, APIStatusError, OpenAI

        place = server.place
        try:
            with OpenAI(
                base_url=server.url, api_key=server.api_key, timeout=_CHECK_SECONDS, max_retries=1
            ) as client:
                served = list(client.models.list())
        except (APIConnectionError, APIStatusError) as error:
            raise PrerequisiteError(
                f"no server answers at {place} ({first_line(error.__cause__ or error)}); "
                f"{self._remedy}"
            ) from error
        for each in served:
            if Path(str(getattr(each, "root", None) or each.id)).name == self._folder.name:
                return each.id
        names = ", ".join(each.id for each in served) or "nothing"
        raise PrerequisiteError(
            f"the server at {place} serves {names}, not {self._folder.name}; {self._remedy}"
        )

    @property
    def _remedy(self) -> str:
        # Of itself vLLM halves float32.
        switches = f"--dtype {self._config['dtype']} --enable-prompt-embeds --skip-tokenizer-init"
        return f"start it (vllm serve {self._folder} {switches}), or correct engine.base_url"

    def generate(
        self, prompts: Sequence[Prompt], seeds: Sequence[int]
    ) -> list[Generated | ClipError]:
        """One answer per prompt, a ClipError where the server gave none.

        Raises PrerequisiteError where it answers no more.
        """
        found = dict(self.stream(enumerate(zip(prompts, seeds, strict=True))))
        return [found[place] for place in range(len(prompts))]

    def stream(
        self, asked: Iterable[tuple[int, tuple[Prompt, int]]]
    ) -> Iterator[tuple[int, Generated | ClipError]]:
        """(number, (prompt, seed)), drawn as there is room -> (number, answer), in any order."""
        without_room, lengths = list[tuple[int, Generated]](), dict[int, int]()

        def bodies() -> Iterator[tuple[int, Mapping[str, Any]]]:
            for number, (prompt, seed) in asked:
                limit = self._answers.limit(len(prompt))
                if limit == 0:
                    without_room.append((number, self._answers.read((), len(prompt))))
                    continue
                lengths[number] = len(prompt)
                vectors = embeddings(prompt, self._config["hidden_size"])
                told = sampling(self._settings, limit, seed, self._stop_ids)
                yield number, told | {"prompt_embeds": _as_text(vectors), "return_token_ids": True}

        for number, reply in self._client.complete(bodies(), "completions"):
            if isinstance(reply, ClipError):
                yield number, reply
            elif reply.ids is None:
                raise PrerequisiteError(f"the server returns no token ids; {self._remedy}")
            else:
                ids = self._answers.until_stop(reply.ids)
                yield number, self._answers.read(ids, lengths.pop(number))
        yield from without_room

    def close(self) -> None:
        """The server is not ours."""


def _as_text(vectors: Tensor) -> str:
    """A tensor as `torch.save` writes it, in base64."""
    file = io.BytesIO()
    torch.save(vectors.clone(), file)  # a clone: a view would drag its whole storage along
    return b64encode(file.getvalue()).decode("ascii")
