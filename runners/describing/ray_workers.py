"""One run on many GPUs and machines: a Ray actor for each worker, the run folder with the driver.

The driver distributes clips and collects predictions, one stream per worker. A worker holds only
the clips that keep it busy; towards the end it gets ever fewer, so that all end together. The clips
of a lost worker go to the end of the queue and are sent again, each alone: if that worker dies as
well, it was this clip, which is recorded as crashed. A lost worker is replaced, unless it died
before its model was loaded.

Words do not depend on who describes a clip, since the random stream is the clip's own. (In half
precision batches of another make-up can change one, as another `batch_size` can.)
"""

import re
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ovmer.baselines.errors import OvmerError, PrerequisiteError, Status
from ovmer.runners.describing.pipeline_settings import PipelineSettings
from ovmer.runners.describing.ray_actor import LOADED, FileNotOnWorker, RayWorker
from ovmer.runners.describing.requests import ClipRequest
from ovmer.runners.describing.speed import Speed
from ovmer.runners.folder.records import Prediction
from ovmer.runners.progress import say
from ovmer.runners.ray_cluster import joined, unreachable

_DEATHS = 2
"""After this many workers lost with it (the second time alone), a clip is given up."""
_LOOK_SECONDS = 1.0
_GONE_SECONDS = 15.0
"""Without its head a cluster is taken to be gone; Ray itself ends the process after a minute."""
_GB = 2**30


@dataclass
class RayOptions:
    """The keys of conf/launcher/ray.yaml."""

    name: str = "ray"
    address: str = "local"
    workers: int = 0
    gpus: float | None = None
    cpus: int = 0
    memory_gb: float = 0.0
    timeout: float = 120.0


@dataclass(eq=False)
class _WorkerHandle:
    """A worker as the driver sees it."""

    actor: Any
    stream: Any
    is_started: bool = False
    is_loaded: bool = False
    clips: dict[str, ClipRequest] = field(default_factory=dict)
    """Its unanswered clips, by name."""
    is_open: bool = False
    """Whether it waits for more before it answers a batch that is not full."""
    rounds: int = 0
    """Whose speed has not come yet."""


@dataclass(frozen=True)
class WorkerShare:
    """How many workers, and what each of them takes of the cluster."""

    workers: int
    cpus: int
    gpus: float
    memory: int
    """Bytes; 0: not requested."""

    @classmethod
    def of(
        cls, cluster: Mapping[str, float], options: RayOptions, on_gpu: bool, model_gpus: int = 1
    ) -> "WorkerShare":
        """What the options ask for, the rest filled in; PrerequisiteError where it is not there.

        `model_gpus` is how many GPUs one model is spread over.
        """
        cpus, gpus = cluster.get("CPU", 0.0), cluster.get("GPU", 0.0)
        each_gpu = options.gpus
        if each_gpu is None:
            each_gpu = float(model_gpus) if on_gpu and gpus else 0.0
        if on_gpu and 1 < model_gpus != each_gpu:
            raise PrerequisiteError(
                f"engine.gpus={model_gpus} spreads each model over as many GPUs, but a worker has "
                f"{each_gpu:g}; leave launcher.gpus out, in a cluster with GPUs"
            )
        most = gpus // each_gpu if each_gpu else cpus // max(options.cpus, 1)
        workers = options.workers or int(most)
        each_cpu = options.cpus or max(int(cpus // max(workers, 1)), 1)
        share = cls(workers, each_cpu, each_gpu, int(options.memory_gb * _GB))
        wanted = workers * each_cpu, workers * each_gpu, workers * share.memory
        had = cpus, gpus, cluster.get("memory", 0.0)
        if not workers or any(want > have for want, have in zip(wanted, had, strict=True)):
            raise PrerequisiteError(
                f"the Ray cluster has {cpus:g} CPUs, {gpus:g} GPUs and {had[2] / _GB:.0f} GB, too "
                f"little for {share}; lower launcher.workers, .cpus, .gpus or .memory_gb"
            )
        return share

    def __str__(self) -> str:
        memory = f" and {self.memory / _GB:g} GB" if self.memory else ""
        each = f"{self.cpus} CPUs, {self.gpus:g} GPUs{memory}"
        return f"{max(self.workers, 1)} workers with {each} each"


class RayWorkers:
    """A launcher (see launchers.py)."""

    def __init__(self, settings: PipelineSettings, options: RayOptions) -> None:
        self._settings = settings
        self._options = options
        self.speed = Speed()

    def describe(self, requests: Sequence[ClipRequest]) -> Iterator[Prediction]:
        import ray

        with joined(self._options.address):
            gpus = int(self._settings.machine.engine.get("gpus", 1))
            share = WorkerShare.of(ray.cluster_resources(), self._options, self._on_gpu, gpus)
            driver = _Driver(self._settings.with_cores(share.cpus), share, self._options.timeout)
            started = time.perf_counter()
            try:
                yield from driver.run(requests)
            finally:
                driver.close()
                seconds = time.perf_counter() - started
                self.speed = Speed.together(list(driver.speeds.values()), seconds)

    @property
    def _on_gpu(self) -> bool:
        has_weights = "load" in self._settings.adapter.defines
        return has_weights and self._settings.machine.device.startswith(("auto", "cuda"))


class _Driver:
    """The driver: distributes clips to its workers and collects predictions."""

    def __init__(self, settings: PipelineSettings, share: WorkerShare, timeout: float) -> None:
        import ray

        self._settings, self._share, self._timeout = settings, share, timeout
        self._actor = ray.remote(RayWorker).options(
            num_cpus=share.cpus,
            num_gpus=share.gpus,
            memory=share.memory or None,
            max_concurrency=2,  # it receives clips while it answers
        )
        self._settings_ref = ray.put(settings)
        batch = 1 if settings.adapter.feeding == "clip" else settings.batch_size
        self._idle_at = settings.most_unanswered
        # Beyond that a batch at work, one that waits, and some, so that not each clip is a message.
        self._most = self._idle_at + 2 * batch + 16
        self._workers: list[_WorkerHandle] = []
        self._pending: deque[ClipRequest] = deque()
        self._deaths = Counter[str]()
        self._head = str(ray.get_runtime_context().gcs_address)
        self._head_answered = time.monotonic()
        self.speeds: dict[_WorkerHandle, Speed] = {}

    def run(self, requests: Sequence[ClipRequest]) -> Iterator[Prediction]:
        """Predictions as they come in."""
        self._pending.extend(requests)
        for _ in range(min(self._share.workers, len(requests))):
            self._start_worker()
        seen = time.monotonic()
        while self._pending or any(worker.clips or worker.rounds for worker in self._workers):
            if any(worker.is_started for worker in self._workers):
                seen = time.monotonic()
            elif time.monotonic() - seen > self._timeout:
                raise PrerequisiteError(
                    f"no Ray worker started within {self._timeout:g} s: others may be using the "
                    f"cluster, or no machine in it can hold one of the {self._share}; wait, lower "
                    "these, or raise launcher.timeout"
                )
            worker = self._next()
            if worker is not None:
                yield from self._receive(worker)
            elif self._settings.adapter.feeding == "stream":
                # How much a stream draws before it answers is its own affair: it may want more.
                for each in self._workers:
                    self._send(each, [], last=True)

    def close(self) -> None:
        """End the workers."""
        import ray

        for worker in self._workers:
            ray.kill(worker.actor)

    def _start_worker(self) -> None:
        share = self._share.gpus if 0 < self._share.gpus < 1 else 1.0
        actor = self._actor.remote(self._settings_ref, share)
        stream = actor.answers.options(num_returns="streaming").remote()
        self._workers.append(_WorkerHandle(actor, stream))

    def _next(self) -> _WorkerHandle | None:
        """A worker with a message; None if there is none after a while."""
        import ray

        by_stream = {id(worker.stream): worker for worker in self._workers}
        streams = [worker.stream for worker in self._workers]
        ready, _ = ray.wait(streams, num_returns=1, timeout=_LOOK_SECONDS, fetch_local=False)
        if not ready:
            self._require_head()
            return None
        self._head_answered = time.monotonic()
        worker = by_stream[id(ready[0])]
        # The next look begins behind it, so that no worker is heard at the cost of the others.
        self._workers.remove(worker)
        self._workers.append(worker)
        return worker

    def _require_head(self) -> None:
        """Raise PrerequisiteError where the head has not answered for a while."""
        now = time.monotonic()
        if unreachable(self._head) is None:
            self._head_answered = now
        elif now - self._head_answered > _GONE_SECONDS:
            self._workers.clear()  # to end them the head would be asked
            raise PrerequisiteError(
                f"the Ray cluster at {self._head} is gone; what was finished is kept, the same "
                "command goes on when there is one again"
            )

    def _receive(self, worker: _WorkerHandle) -> Iterator[Prediction]:
        import ray

        try:
            said = ray.get(next(worker.stream))
        except (ray.exceptions.RayActorError, ray.exceptions.RayTaskError, StopIteration) as error:
            yield from self._replace(worker, error)
            return
        if isinstance(said, OvmerError):
            raise said
        if isinstance(said, FileNotOnWorker):
            self._remove(worker, said)
            return
        if isinstance(said, Prediction):
            del worker.clips[said.name]
            yield said
        elif isinstance(said, Speed):
            worker.rounds -= 1
            self.speeds[worker] = said
        else:
            worker.is_started = True
            worker.is_loaded = said == LOADED
        self._send_next(worker)

    def _send_next(self, worker: _WorkerHandle) -> None:
        """Give a worker more, if it holds little; see to it that no batch waits for clips that
        will not come."""
        if worker.is_loaded and self._pending:
            if self._is_suspect(self._pending[0]):
                given = [] if worker.clips else [self._pending.popleft()]
                self._send(worker, given, last=True)
            else:
                self._send_batch(worker)
        if not self._pending or self._is_suspect(self._pending[0]):
            for each in self._workers:
                if each.is_open:
                    self._send(each, [], last=True)

    def _send_batch(self, worker: _WorkerHandle) -> None:
        left = len(self._pending) + sum(len(each.clips) for each in self._workers)
        even = -(-left // self._share.workers)
        is_end = even < self._most
        if worker.is_open and not is_end and len(worker.clips) > self._idle_at:
            return  # it has enough to answer: not a message for every clip
        count = min(self._most, even) - len(worker.clips)
        given = list[ClipRequest]()
        while self._pending and len(given) < count and not self._is_suspect(self._pending[0]):
            given.append(self._pending.popleft())
        # In the end a worker is never left open: it would wait for clips that go to others.
        self._send(worker, given, last=is_end)

    def _send(self, worker: _WorkerHandle, given: Sequence[ClipRequest], *, last: bool) -> None:
        if not given and not worker.is_open:
            return
        worker.clips |= {each.name: each for each in given}
        worker.is_open = not last
        worker.rounds += last
        files = {
            each.name: [path for path in (each.video, each.audio) if path and path.exists()]
            for each in given
        }
        worker.actor.add.remote(given, files, last=last)

    def _is_suspect(self, request: ClipRequest) -> bool:
        return bool(self._deaths[request.name])

    def _remove(self, worker: _WorkerHandle, unseen: FileNotOnWorker) -> None:
        """Drop a worker that lacks files; its clips are sent to others."""
        import ray

        self._workers.remove(worker)
        ray.kill(worker.actor)
        self._pending.extend(worker.clips.values())
        sentence = (
            f"the Ray worker on {unseen.machine} does not see {unseen.path}, which is here; mount "
            "the data set under the same path there, or keep that machine out of the cluster"
        )
        if not self._workers:
            raise PrerequisiteError(f"{sentence}; no other worker is left")
        say(f"{sentence}; its {len(worker.clips)} clips are sent to others")
        for each in self._workers:
            self._send_next(each)

    def _replace(self, worker: _WorkerHandle, error: Exception) -> Iterator[Prediction]:
        """Take back what a dead worker held, or one that failed otherwise, and replace it."""
        import ray

        self._workers.remove(worker)
        ray.kill(worker.actor)  # an error of its own code leaves its process
        again = list[ClipRequest]()
        for name, request in worker.clips.items():
            self._deaths[name] += 1
            if self._deaths[name] < _DEATHS:
                again.append(request)
            else:
                yield Prediction(
                    name,
                    Status.CRASHED,
                    error=f"{name}: the Ray worker that was asked about it alone died "
                    f"({_cause(error)})",
                    fingerprint=request.fingerprint,
                )
        self._pending.extend(again)
        say(f"a Ray worker died ({_cause(error)}); {len(again)} of its clips are sent again")
        if worker.is_loaded:
            self._start_worker()
        elif not self._workers:
            raise PrerequisiteError(
                f"every Ray worker died before its model was loaded ({_cause(error)}); what was "
                "finished is kept, the same command goes on"
            )
        for each in self._workers:
            self._send_next(each)


def _cause(error: Exception) -> str:
    """Why a worker died, in a line: the last of Ray's that names an error, or the usual reason."""
    lines = [line.strip() for line in str(error).splitlines()]
    named = [line for line in lines if re.match(r"\w+(\.\w+)*(Error|Exception): ", line)]
    return named[-1] if named else "was there too little memory?"
