"""Multimodal LLMs for open-vocabulary emotion recognition, behind one interface.

    import ovmer

    model = ovmer.load("video_llava", "generation=greedy")
    model.describe(video="clip.mp4", subtitle="I'm fine.")
    ovmer.sweep(["baseline=random,lexicon", "dataset=sample"]).scores
    ovmer.score({"clip1": "happy, excited"}, {"clip1": "joyful"})
    ovmer.read_runs("outputs").scores
    ovmer.table("mer_unibench", "outputs")

An adapter of your own imports its base class from `ovmer.adapters`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ovmer.runners.describing.baseline import Baseline, load
    from ovmer.runners.folder.frames import read_runs
    from ovmer.runners.folder.scored import score
    from ovmer.runners.papers.frame import table
    from ovmer.runners.sweeping.sweep import sweep

_HOMES = {
    "Baseline": "ovmer.runners.describing.baseline",
    "load": "ovmer.runners.describing.baseline",
    "read_runs": "ovmer.runners.folder.frames",
    "score": "ovmer.runners.folder.scored",
    "sweep": "ovmer.runners.sweeping.sweep",
    "table": "ovmer.runners.papers.frame",
}

__all__ = ["Baseline", "load", "read_runs", "score", "sweep", "table"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `ovmer --help` stays quick."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
