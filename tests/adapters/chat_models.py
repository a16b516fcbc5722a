"""Chat models as their files in conf/baseline set them up, with few frames and short answers."""

from dataclasses import replace
from functools import cache

from omegaconf import DictConfig, OmegaConf

from ovmer.adapters import registry
from ovmer.adapters.base import AUDIO, VIDEO, Machine, Prepared
from ovmer.adapters.native import Native
from ovmer.runners.config import shipped_baselines
from ovmer.runners.job import NOT_FIELDS
from tests import ROOT, SAMPLE

MACHINE = Machine(device="cpu", dtype="float32")
CONF = ROOT / "conf" / "baseline"


@cache
def content_of(name: str) -> DictConfig:
    """A yaml file over the one that it varies."""
    own = OmegaConf.load(CONF / f"{name}.yaml")
    assert isinstance(own, DictConfig)
    parents = [each for each in own.pop("defaults", []) if each != "_self_"]
    merged = OmegaConf.merge(*(content_of(each) for each in parents), own)
    assert isinstance(merged, DictConfig)
    return merged


def kind(name: str) -> str:
    """What a miniature depends on: a checkpoint of the same class has the same."""
    keys = ("architecture", "modalities", "picture", "sound_in_video", "thinking", "shrink")
    return str([content_of(name).get(key) for key in keys])


NATIVE = [name for name, each in shipped_baselines().items() if each.get("adapter") == "native"]
NAMES = list({kind(name): name for name in reversed(NATIVE)}.values())[::-1]
"""One of each kind, the first by name."""
CLIPS = ("good_news", "farewell", "sour_milk")
SUBTITLES = ("No!", None, "a much longer subtitle, so that lengths differ " * 3)


def configured(name: str) -> Native:
    """The adapter as its yaml file has it."""
    content = content_of(name)
    fields = {key: value for key, value in content.items() if key not in NOT_FIELDS}
    cls = registry.get(content["adapter"])
    fields["generation"] = content["generation"]["greedy"]
    adapter = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), fields))
    assert isinstance(adapter, Native)
    # Fewer frames than shipped: prompts of thousands of tokens would take minutes in all.
    frames = min(adapter.frames, 8)
    return replace(
        adapter, frames=frames, generation=replace(adapter.generation, max_new_tokens=12)
    )


def prepared(adapter: Native, name: str, subtitle: str | None = None) -> Prepared:
    """One clip of the sample, of which the adapter gets what it uses."""
    video = SAMPLE / "video" / f"{name}.mp4" if VIDEO in adapter.modalities else None
    audio = SAMPLE / "audio" / f"{name}.wav" if AUDIO in adapter.modalities else None
    return adapter.prepare(video, audio, subtitle)
