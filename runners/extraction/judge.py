"""A language model that judges replies: the stage between replies and the figures of some tasks.

    laughter      two questions on a reply and its reference, text only (EmoBench-M's smile)
    mme_emotion   first the steps of a reply are taken out, then they are judged with frames of the
                  clip, the true label and a sentence on the sound (MME-Emotion)

Its answers are kept like labels: cached, under the model's identity, one a clip. What the answers
are worth is the metric's to read. The prompts are the authors', byte for byte (judge_prompts.json).
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ovmer.baselines.decoding.answers import Answered, Asked, Generated, TextEngine
from ovmer.baselines.decoding.language_model import LanguageModel
from ovmer.baselines.errors import ClipError, PrerequisiteError, near
from ovmer.runners.extraction.base import ClipDescription, ExtractedLabels

_SLOT = re.compile(r"\{([a-z_]+)\}")
_MOST_FRAMES, _LONGEST_SIDE, _QUALITY = 10, 512, 90
KINDS = ("laughter", "mme_emotion")


@dataclass
class JudgeSettings:
    """The key `task.judge`."""

    kind: str = ""
    """laughter or mme_emotion."""
    variant: str = ""
    """Of mme_emotion: ER-Lab, ER-Wild, Noise-ER, FG-ER, ML-ER, SA, FG-SA or IR."""
    audio_clues: str | None = None
    """A JSON list of {"video_id", "audio_clue"}, as the authors made beforehand."""
    frames: bool = True
    """Show the judge frames of the clip, which takes a model that sees, behind a server."""

    def check(self) -> None:
        """Raise PrerequisiteError for a kind or variant that there is not."""
        if self.kind not in KINDS:
            raise PrerequisiteError(f"task.judge.kind is {self.kind!r}; {near(self.kind, KINDS)}")
        known = _prompts()["mme_emotion"]["judge"]
        if self.kind == "mme_emotion" and self.variant not in known:
            raise PrerequisiteError(
                f"task.judge.variant is {self.variant!r}; {near(self.variant, known)}"
            )


@cache
def _prompts() -> Any:
    text = files("ovmer.runners.tasks").joinpath("judge_prompts.json").read_text(encoding="utf-8")
    return json.loads(text)


def _filled(template: str, **values: str) -> str:
    """Slots are filled literally and once."""
    return _SLOT.sub(lambda slot: values.get(slot[1], slot[0]), template)


@dataclass
class JudgeExtractor:
    """The judge's answer to each reply, as the one label of a clip."""

    name: str
    model: LanguageModel
    settings: JudgeSettings
    seed: int = 0
    """Starts the random streams of the answers; a greedy judge has none."""

    def __post_init__(self) -> None:
        self.settings.check()
        self._clues = _read_clues(self.settings.audio_clues)

    @property
    def identity(self) -> Mapping[str, Any]:
        judge: dict[str, Any] = {"kind": self.settings.kind, "variant": self.settings.variant}
        if self.settings.kind == "mme_emotion":
            judge |= {"frames": self.settings.frames, "audio_clues": _digest(self._clues)}
        seed = {"seed": self.seed} if self.model.generation.do_sample else {}
        return {"name": self.name, **self.model.identity, **seed, "judge": judge}

    def extract(self, items: Iterable[ClipDescription]) -> Iterator[ExtractedLabels]:
        judge = self._laughter if self.settings.kind == "laughter" else self._mme_emotion
        yield from judge(list(items))

    def close(self) -> None:
        self.model.engine.close()

    def _laughter(self, items: Sequence[ClipDescription]) -> Iterator[ExtractedLabels]:
        prompts = _prompts()["laughter"]
        answers = [
            self._ask(items, lambda item, p=prompt: _filled(p, **_pair(item)))  # type: ignore[misc]
            for prompt in (prompts["logical"], prompts["multimodal"])
        ]
        for item in items:
            yield _judged(item, [each[item.name] for each in answers])

    def _mme_emotion(self, items: Sequence[ClipDescription]) -> Iterator[ExtractedLabels]:
        prompts, variant = _prompts()["mme_emotion"], self.settings.variant
        steps = self._ask(
            items,
            lambda item: _with_system(
                prompts["system"], _filled(prompts["extract"][variant], model_response=item.text)
            ),
        )
        taken = dict[str, str]()
        for item in items:
            step = steps[item.name]
            if isinstance(step, Generated):
                taken[item.name] = step.text
            else:
                yield _judged(item, [step])

        def question(item: ClipDescription) -> str:
            text = _filled(
                prompts["judge"][variant],
                audio_clue=self._clues.get(item.name, ""),
                ground_truth=",".join(item.truth),
                step=taken[item.name],
            )
            return _with_system(
                prompts["system"], text, item.video if self.settings.frames else None
            )

        left = [item for item in items if item.name in taken]
        found = self._ask(left, question)
        for item in left:
            notes = [] if item.name in self._clues else ["judged without a sentence on the sound"]
            if self.settings.frames and item.video is None:
                notes.append("judged without frames, as the clip has no video")
            yield _judged(item, [found[item.name]], notes, {"steps": taken[item.name]})

    def _ask(
        self, items: Sequence[ClipDescription], question: Callable[[ClipDescription], str]
    ) -> dict[str, Generated | ClipError]:
        answers = self.model.ask([question(item) for item in items], self.seed)
        return {items[index].name: answer for index, answer in answers}


def _pair(item: ClipDescription) -> dict[str, str]:
    return {"reference": " ".join(item.truth), "generated": item.text}


def _judged(
    item: ClipDescription,
    answers: Sequence[Generated | ClipError],
    notes: Sequence[str] = (),
    trail: Mapping[str, str] | None = None,
) -> ExtractedLabels:
    """A failed judgement is kept with its reason and asked for again by the next run."""
    failed = [str(answer) for answer in answers if isinstance(answer, ClipError)]
    text = "\n".join(answer.text for answer in answers if isinstance(answer, Generated))
    error = f"judge: {failed[0]}" if failed else None
    return ExtractedLabels(
        item.name, () if failed else (text,), text, tuple(notes), trail or {}, error
    )


def _digest(clues: Mapping[str, str]) -> str | bool:
    """A hash of the sentences on the sound; False where there are none."""
    text = json.dumps(clues, sort_keys=True).encode()
    return hashlib.blake2b(text, digest_size=6).hexdigest() if clues else False


def _read_clues(path: str | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        content = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
        return {str(each["video_id"]): str(each["audio_clue"]) for each in content}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise PrerequisiteError(
            f"task.judge.audio_clues={path} is no JSON list of objects with video_id and "
            f"audio_clue ({error})"
        ) from error


_MARK = "\x1eovmer-judge:"
"""Begins a question that is more than one text; the rest is JSON."""


def _with_system(system: str, text: str, video: Path | None = None) -> str:
    """A question with a system message and, perhaps, frames of a clip, as one text to be cached."""
    message: dict[str, Any] = {"system": system, "text": text}
    if video is not None:
        message |= {"video": str(video), "changed": video.stat().st_mtime_ns}
    return _MARK + json.dumps(message, ensure_ascii=False)


@dataclass
class JudgeEngine:
    """An engine that takes such questions: as chats where it is a server, else as plain text.

    `takes_chats` is False for the engines of this machine, which have one user message of text:
    there the system message precedes the question, and frames are refused.
    """

    engine: TextEngine
    takes_chats: bool

    @property
    def identity(self) -> Mapping[str, Any]:
        return self.engine.identity

    def stream(self, asked: Asked) -> Answered:
        """Answer prompts; see TextEngine. A clip whose frames cannot be read has no answer."""
        unreadable = list[tuple[int, ClipError]]()

        def chats() -> Asked:
            for key, (text, seed) in asked:
                try:
                    yield key, (self._chat(text), seed)
                except ClipError as error:
                    unreadable.append((key, error))

        yield from self.engine.stream(chats())
        yield from unreadable

    def close(self) -> None:
        """Free what answering took."""
        self.engine.close()

    def _chat(self, text: str) -> Any:
        if not text.startswith(_MARK):
            return text
        message = json.loads(text.removeprefix(_MARK))
        if not self.takes_chats:
            if "video" in message:
                raise PrerequisiteError(
                    "this judge is shown frames, which takes a model that sees behind a server: "
                    "add engine@extractor.engine=server, or task.judge.frames=false"
                )
            return f"{message['system']}\n\n{message['text']}"
        content: list[dict[str, Any]] = [{"type": "text", "text": message["text"]}]
        if "video" in message:
            content += [_image(frame) for frame in _frames(Path(message["video"]))]
        return [
            {"role": "system", "content": message["system"]},
            {"role": "user", "content": content},
        ]


def _frames(video: Path) -> Any:
    """One frame a second from the first, ten at most, as the authors show them."""
    from ovmer.adapters.media import read_frames

    def rule(count: int, rate: float) -> list[int]:
        return list(range(0, count, max(1, int(rate))))[:_MOST_FRAMES]

    return read_frames(video, rule).pixels


def _image(frame: Any) -> dict[str, Any]:
    from base64 import b64encode

    from ovmer.adapters.media.encode import jpeg

    data = b64encode(jpeg(frame, _LONGEST_SIDE, _QUALITY)).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}}
