"""A sweep on a GPU that is nearly full, pretended on the CPU: no clip is lost for it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ovmer.adapters.base import Machine
from ovmer.adapters.mllm import Mllm
from ovmer.baselines.decoding.continuous import ContinuousEngine
from ovmer.baselines.transfer import SideStream
from ovmer.runners.describing.pipeline import Pipeline
from ovmer.runners.describing.requests import ClipRequest
from tests import SAMPLE
from tests.adapters.small_mllms import miniature

VIDEO = SAMPLE / "video" / "farewell.mp4"
NAMES = [f"clip{number:02}" for number in range(32)]


class Card:
    """Memory that encoders and language model share; what does not fit is torch's error."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.streams = 0
        self.refused = 0
        self._lock = threading.Lock()

    @contextmanager
    def taking(self, amount: int) -> Iterator[None]:
        with self._lock:
            if amount > self.room:
                self.refused += 1
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
            self.room -= amount
        try:
            yield
        finally:
            with self._lock:
                self.room += amount


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Mllm:
    return miniature("video_llava", tmp_path_factory.mktemp("video_llava"), tokens=4)


@pytest.fixture
def on(model: Mllm, monkeypatch: pytest.MonkeyPatch):
    """Puts the model on a card: a clip takes 3 to be encoded and 1 to be answered."""

    def put(card: Card) -> None:
        encode = model.embed_batch
        prefill, step = ContinuousEngine.prefill, ContinuousEngine.step

        def encoding(items):
            with card.taking(3 * len(items)):
                return encode(items)

        def taking_in(engine, rows, *known):
            with card.taking(len(rows)):
                return prefill(engine, rows, *known)

        def stepping(engine, rows, cache):
            with card.taking(len(rows)):
                time.sleep(0.02)
                return step(engine, rows, cache)

        monkeypatch.setattr(model, "embed_batch", encoding, raising=False)
        monkeypatch.setattr(ContinuousEngine, "prefill", taking_in)
        monkeypatch.setattr(ContinuousEngine, "step", stepping)

    return put


def described(model: Mllm, names: list[str], file: Path = VIDEO) -> dict[str, tuple[str, str]]:
    pipeline = Pipeline(model, seed=0, batch_size=16, workers=2)
    requests = [ClipRequest(name, file, None, name, (), {}) for name in names]
    return {each.name: (each.status, each.description) for each in pipeline.describe(requests)}


def test_no_clip_is_lost_while_the_language_model_holds_the_memory(model, on):
    expected = described(model, NAMES)
    card = Card(room=8)  # 16 clips do not fit; beside 8 not a single one is encoded
    on(card)
    assert described(model, NAMES) == expected
    assert {status for status, _ in expected.values()} == {"ok"}
    assert card.refused > 0, "the memory did run out"


def test_only_what_fails_alone_on_an_empty_card_is_out_of_memory(model, on):
    on(Card(room=2))
    assert {status for status, _ in described(model, NAMES[:3]).values()} == {"out_of_memory"}


def test_all_encode_calls_share_a_stream_and_where_nothing_is_encoded_there_is_none(
    model, monkeypatch
):
    streams = []

    class Stream:
        def __init__(self, device):
            streams.append(self)

        def synchronize(self):
            pass

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: torch.inference_mode())
    monkeypatch.setattr(torch.cuda, "default_stream", lambda device: None)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)

    class OnCard(SideStream):
        def __init__(self, device):
            super().__init__(torch.device("cuda"))

        def moved(self, inputs):
            return inputs

    monkeypatch.setattr("ovmer.baselines.transfer.SideStream", OnCard)
    encoding, generating = replace(model), replace(model)
    for each in (encoding, generating):
        each.load(Machine(device="cpu", dtype="float32"))
    items = [encoding.prepare(VIDEO, None, "hm") for _ in range(3)]
    encoded = [encoding.encode([item])[0] for item in items]
    assert len(streams) == 1
    generating.generate(encoded)
    assert len(streams) == 1, "what is encoded needs no stream"
