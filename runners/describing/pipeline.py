"""Clips -> predictions: the next clips are decoded and encoded while a batch is generated.

    prepare    threads: decode, resize, tokenise            some clips ahead
    encode     one thread: through the encoders, into batches    one batch ahead
    generate   the caller's thread

How far ahead each stage runs is bounded, so that memory is too. A batch is as many clips, in their
order, as fit a number of tokens: it depends on nothing but the clips, so that half precision, too,
gives the same words the next time. Answers come in the order of the clips, or from an adapter that
is fed a stream (of clips, not batches) as soon as each is known. A clip that fails becomes a record
and takes no other with it: where a batch fails as a whole, its clips are asked one by one.
"""

import itertools
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice, starmap
from pathlib import Path
from typing import TypeVar

from ovmer.adapters.base import MEDIA, Adapter, Answer, Prepared
from ovmer.adapters.media.blank import blanking
from ovmer.adapters.media.observe import observing, write_frames
from ovmer.baselines.errors import ClipError, MissingModality, PrerequisiteError, Status
from ovmer.runners.describing.failures import (
    Failure,
    attempt,
    checked,
    each_alone,
    failure,
    naming_clips,
    next_answer,
)
from ovmer.runners.describing.requests import ClipRequest, clip_seed, with_content
from ovmer.runners.describing.speed import Speed
from ovmer.runners.folder.records import Prediction

_ENCODED_AT_ONCE = 8
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Ready:
    """A request that was prepared, or failed to be, and how long that took."""

    request: ClipRequest
    prepared: Prepared | Failure
    seconds: float

    @property
    def notes(self) -> tuple[str, ...]:
        """For the clip's record."""
        return (self.request if isinstance(self.prepared, Failure) else self.prepared).notes

    @property
    def tokens(self) -> int:
        return 0 if isinstance(self.prepared, Failure) else self.prepared.tokens


class _Drawn:
    """Prepared clips, counted as a stream draws them; those that failed before are set apart."""

    def __init__(self, ready: Iterator[_Ready]) -> None:
        self._ready = ready
        self.count = 0
        self.waiting: dict[int, tuple[_Ready, float]] = {}
        """By index: the clips that have no answer yet, and since when."""
        self._unprepared = deque[tuple[_Ready, Failure, float]]()

    def __iter__(self) -> Iterator[Prepared]:
        indices = itertools.count()
        for item in self._ready:
            self.count += 1
            if isinstance(item.prepared, Failure):
                self._unprepared.append((item, item.prepared, item.seconds))
            else:
                self.waiting[next(indices)] = item, time.perf_counter()
                yield item.prepared

    def take_unprepared(self) -> list[tuple[_Ready, Failure, float]]:
        """Failures since the last call, as arguments of `Pipeline._failed`."""
        # One by one: the thread that draws may be adding to it.
        return [self._unprepared.popleft() for _ in range(len(self._unprepared))]

    def take(self, index: int) -> tuple[_Ready, float]:
        """The clip that an answer is for, and since when it waited."""
        if index not in self.waiting:
            raise PrerequisiteError(
                f"stream() answered item {index}, which it was not given or has answered already; "
                "this is a mistake in the adapter"
            )
        return self.waiting.pop(index)


class Pipeline:
    """One loaded adapter and how it is fed."""

    def __init__(
        self,
        adapter: Adapter,
        *,
        seed: int,
        batch_size: int,
        workers: int,
        batch_tokens: int = 0,
        strict: bool = False,
    ) -> None:
        """A batch has at most `batch_size` clips and, where the adapter counts them, at most
        `batch_tokens` tokens, padding included (0: any number), and no more than the adapter says
        that the device holds; a larger clip is asked alone.

        `strict` raises ClipError at the first clip that fails.
        """
        self._adapter = adapter
        self._seed = seed
        self._batch_size = 1 if adapter.feeding == "clip" else batch_size
        limits = [limit for limit in (batch_tokens, adapter.batch_tokens) if limit]
        self._batch_tokens = min(limits, default=0)
        self._encodes = "encode" in adapter.defines
        self._workers = workers
        self._strict = strict
        self.frames_folder: Path | None = None
        """Where the frames of each clip are written as images, if anywhere."""
        self.speed = Speed()
        """Of all that was described so far."""

    @property
    def most_unanswered(self) -> int:
        """Clips that it may hold, at most, while it waits for another one and answers none."""
        at_once = min(_ENCODED_AT_ONCE, self._batch_size) if self._encodes else 1
        return self._depth + (at_once - 1) + (self._batch_size - 1)

    @property
    def _depth(self) -> int:
        """Clips that are being prepared, or are ready, beyond the one that is asked for."""
        return 2 * self._workers + (_ENCODED_AT_ONCE if self._encodes else 0)

    def describe(self, requests: Iterable[ClipRequest]) -> Iterator[Prediction]:
        """One prediction a request, each batch or streamed clip as soon as it is done."""
        with (
            ThreadPoolExecutor(self._workers, "prepare") as pool,
            ThreadPoolExecutor(1, "encode") as encoder,
            self.speed.running(),
        ):
            encoded = self._encoded(self._ahead(pool, iter(requests)))
            try:
                if self._adapter.feeding == "stream":
                    self._adapter.limit_batches(self._batch_size, self._batch_tokens)
                    ready = chain.from_iterable(self._one_ahead(encoder, encoded))
                    answers = self._stream(ready)
                else:
                    batches = self._batches(chain.from_iterable(encoded))
                    answers = chain.from_iterable(
                        map(self._answer, self._one_ahead(encoder, batches))
                    )
                for done in answers:
                    self.speed.add(done)
                    yield done
            finally:
                for each in (encoder, pool):
                    each.shutdown(wait=False, cancel_futures=True)

    def _one_ahead(self, encoder: ThreadPoolExecutor, items: Iterator[T]) -> Iterator[T]:
        """The items, each made in the encoder's thread while the one before it is at work."""
        coming = encoder.submit(next, items, None)
        while (item := self._waited_for(coming)) is not None:
            coming = encoder.submit(next, items, None)
            yield item

    def _waited_for(self, coming: Future[T | None]) -> T | None:
        started = time.perf_counter()
        try:
            return coming.result()
        finally:
            self.speed.waited += time.perf_counter() - started

    def _ahead(self, pool: ThreadPoolExecutor, requests: Iterator[ClipRequest]) -> Iterator[_Ready]:
        """Keep the pool busy with some clips beyond the one that is asked for."""
        waiting: deque[Future[_Ready]] = deque()
        for request in requests:
            waiting.append(pool.submit(self._prepare, request))
            if len(waiting) > self._depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _encoded(self, ready: Iterator[_Ready]) -> Iterator[list[_Ready]]:
        """Bring what was prepared onto the device, some clips at a time: 1, 2, 4 and so on, so that
        the first answer is not begun after eight clips, but after one."""
        if not self._encodes:
            yield from ([item] for item in ready)
            return
        count, most = 1, min(_ENCODED_AT_ONCE, self._batch_size)
        while items := list(islice(ready, count)):
            count = min(2 * count, most)
            started = time.perf_counter()
            prepared = [each.prepared for each in items if isinstance(each.prepared, Prepared)]
            with naming_clips(item.request.name for item in items):
                encoded = iter(each_alone(self._encode_or_raise, prepared))
            each = (time.perf_counter() - started) / max(len(prepared), 1)
            yield [
                replace(item, prepared=next(encoded), seconds=item.seconds + each)
                if isinstance(item.prepared, Prepared)
                else item
                for item in items
            ]

    def _encode_or_raise(self, batch: list[Prepared]) -> list[Prepared | Failure]:
        found = self._adapter.encode(batch)
        return [failure(each) if isinstance(each, ClipError) else each for each in found]

    def _batches(self, ready: Iterator[_Ready]) -> Iterator[list[_Ready]]:
        batch, longest = list[_Ready](), 0
        for item in ready:
            longest = max(longest, item.tokens)
            if batch and 0 < self._batch_tokens < longest * (len(batch) + 1):
                yield batch
                batch, longest = [], item.tokens
            batch.append(item)
            if len(batch) == self._batch_size:
                yield batch
                batch, longest = [], 0
        if batch:
            yield batch

    def _prepare(self, request: ClipRequest) -> _Ready:
        started = time.perf_counter()
        request = replace(request, fingerprint=with_content(request))
        prepared = attempt(lambda: self._prepare_or_raise(request))
        if isinstance(prepared, Prepared):
            prepared.seed = clip_seed(self._seed, request.name)
            prepared.truth = request.truth
            prepared.clues = request.clues
            prepared.answers = request.answers
        return _Ready(request, prepared, time.perf_counter() - started)

    def _prepare_or_raise(self, request: ClipRequest) -> Prepared:
        uses = self._adapter.modalities & MEDIA
        if uses and request.video is None and request.audio is None:
            raise MissingModality(f"the clip has no {' and no '.join(sorted(uses))}")
        adapter = self._adapter
        if request.question is not None:
            adapter = adapter.asking(request.question)
        with (
            observing(keeps_frames=self.frames_folder is not None) as observed,
            blanking(request.blank) as blanked,
        ):
            prepared = adapter.prepare(request.video, request.audio, request.subtitle)
        if uses and request.blank and not blanked.reads:
            raise PrerequisiteError(
                "inputs= cannot take anything from this baseline's media, as it reads files in its "
                "own way; use an adapter whose prepare() reads by ovmer.adapters.media"
            )
        if self.frames_folder is not None:
            write_frames(observed, self.frames_folder, request.name)
        prepared.notes = (*request.notes, *prepared.notes, *observed.notes)
        return prepared

    def _answer(self, batch: Sequence[_Ready]) -> Iterator[Prediction]:
        started = time.perf_counter()
        asked = [item.prepared for item in batch if isinstance(item.prepared, Prepared)]
        with naming_clips(item.request.name for item in batch):
            answers = iter(each_alone(self._generate_or_raise, asked))
        each = (time.perf_counter() - started) / max(len(asked), 1)
        for item in batch:
            if isinstance(item.prepared, Prepared):
                done = self._predicted(item, next(answers), item.seconds + each)
            else:
                done = self._failed(item, item.prepared, item.seconds)
            yield done

    def _stream(self, ready: Iterator[_Ready]) -> Iterator[Prediction]:
        """Answer by streams. If one breaks off, its unanswered clips fail and another is begun."""
        while (first := next(ready, None)) is not None:
            drawn = _Drawn(chain([first], ready))
            answers = self._adapter.stream(drawn)
            while True:
                answer = attempt(partial(next_answer, answers))
                yield from starmap(self._failed, drawn.take_unprepared())
                if answer is None or isinstance(answer, Failure):
                    break
                item, since = drawn.take(answer[0])
                yield self._predicted(item, answer[1], item.seconds + time.perf_counter() - since)
            lost = answer or failure(ValueError("stream() ended without an answer to this clip"))
            if not drawn.count:
                yield self._failed(first, lost, first.seconds)
            for item, _ in drawn.waiting.values():
                yield self._failed(item, lost, item.seconds)

    def _generate_or_raise(self, batch: list[Prepared]) -> list[Answer | Failure]:
        with observing() as observed:  # an adapter that only describes reads its clip here
            answers = self._adapter.generate(batch)
        if len(answers) != len(batch):
            raise ValueError(f"generate() gave {len(answers)} answers for {len(batch)} clips")
        if len(batch) == 1:
            batch[0].notes = (*batch[0].notes, *observed.notes)
        return [checked(answer) for answer in answers]

    def _predicted(self, item: _Ready, answer: Answer | Failure, seconds: float) -> Prediction:
        if isinstance(answer, Failure):
            return self._failed(item, answer, seconds)
        return Prediction(
            item.request.name,
            Status.OK if answer.text.strip() else Status.EMPTY,
            description=answer.text,
            seconds=round(seconds, 4),
            prompt_tokens=answer.prompt_tokens,
            new_tokens=answer.new_tokens,
            notes=(*item.notes, *answer.notes),
            thinking=answer.thinking,
            fingerprint=item.request.fingerprint,
        )

    def _failed(self, item: _Ready, failure: Failure, seconds: float) -> Prediction:
        if item.request.lacks_face and failure.status is Status.MISSING_MODALITY:
            failure = replace(failure, error=item.request.lacks_face)
        if self._strict:
            raise ClipError(f"{item.request.name}: {failure.error}") from failure.cause
        return Prediction(
            item.request.name,
            failure.status,
            error=failure.error,
            seconds=round(seconds, 4),
            notes=item.notes,
            fingerprint=item.request.fingerprint,
        )
