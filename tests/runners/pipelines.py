"""Clips through the pipeline, by an adapter of the test."""

from pathlib import Path

from ovmer.adapters.scripted import Scripted
from ovmer.runners.describing.pipeline import Pipeline
from ovmer.runners.describing.requests import ClipRequest

NAMES = "abcdef"


def requests(names=NAMES):
    return [ClipRequest(name, Path(f"{name}.mp4"), None, "", (), {}) for name in names]


def described(adapter, names=NAMES, batch_size=4, workers=2, strict=False):
    pipeline = Pipeline(adapter, seed=0, batch_size=batch_size, workers=workers, strict=strict)
    return list(pipeline.describe(requests(names)))


class Streaming(Scripted):
    """Keeps three clips in flight and answers the last of them first."""

    feeding = "stream"

    def stream(self, items):
        flying = []
        for number, item in enumerate(items):
            flying.append((number, item))
            if len(flying) == 3:
                yield self.said(*flying.pop())
        while flying:
            yield self.said(*flying.pop())

    def said(self, number, item):
        return number, self.generate([item])[0]
