"""What holds for every ported multimodal LLM, on a miniature of its checkpoint.

A new port is found by its yaml in conf/baseline. Tests of a model's own ways are in the file of its
name, those of the models that transformers has itself in test_native.py.
"""

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from ovmer.adapters import registry
from ovmer.adapters.audio_visual import AudioVisual
from ovmer.adapters.base import AUDIO, MEDIA, VIDEO, Answer, Machine, Prepared
from ovmer.adapters.chat_llm import ChatLlm
from ovmer.adapters.mllm import Mllm
from ovmer.adapters.native import Native
from ovmer.adapters.question import SLOT
from ovmer.baselines.errors import CheckpointError, MissingModality, Unreadable
from ovmer.runners.config import Settings
from ovmer.runners.job import Job
from tests import SAMPLE
from tests.adapters.media_files import SHARED, tone, write_video, write_wav

CONF = Path(__file__).parents[2] / "conf" / "baseline"
Clip = tuple[Path | None, Path | None, str | None]
CPU = Machine(device="cpu", dtype="float32")


def _configurations() -> dict[str, dict[str, Any]]:
    found = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(CONF.glob("*.yaml"))}
    found = {
        name: content for name, content in found.items() if "adapter" in content
    }  # no variants
    classes = {name: registry.get(content["adapter"]) for name, content in found.items()}
    return {
        name: content
        for name, content in found.items()
        if issubclass(classes[name], Mllm) and not issubclass(classes[name], Native | ChatLlm)
    }


BASELINES = _configurations()
# So that a batch costs little.
FEWER: dict[str, dict[str, Any]] = {
    "secap": {"candidates": 2, "kept": 1},
    "video_chatgpt": {"frames": 4},
    "videochat": {"frames": 2},
    "otter": {"frames": 2},
    "chat_univi": {"most_frames": 4},
    "llama_vid": {"most_frames": 2},
}
BOTH = {"modalities": "both"}


def configured(name: str, preset: str = "greedy") -> Mllm:
    """The adapter as its file sets it up, for picture and sound where it has the choice."""
    fields = BASELINES[name] | FEWER.get(name, {})
    if "both" in fields.get("prompts", {}):
        fields |= BOTH
    adapter = Job(Settings(baseline=fields, generation=preset)).adapter
    assert isinstance(adapter, Mllm)
    return adapter


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The checkpoint of each miniature, written when it is first asked for."""

    class Written(dict[str, Any]):
        def __missing__(self, name: str) -> Any:
            folder = tmp_path_factory.mktemp(name)
            self[name] = configured(name).miniature(folder).checkpoint
            return self[name]

    return Written()


def miniature(name: str, parts: dict[str, Any], preset: str = "greedy", tokens: int = 6) -> Mllm:
    adapter = configured(name, preset)
    shorter = replace(adapter.generation, max_new_tokens=tokens)
    return replace(adapter, checkpoint=parts[name], generation=shorter)


# -- batches -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    """Long and short ones, then such as lack sound or picture."""
    folder = tmp_path_factory.mktemp("clips")
    noise = np.random.default_rng(1).integers(0, 256, (24, 48, 64, 3), dtype=np.uint8)
    short = write_video(folder / "short.mp4", noise[:1])
    long = write_video(folder / "long.mp4", noise, fps=8)
    return [
        (SAMPLE / "video" / "farewell.mp4", SAMPLE / "audio" / "farewell.wav", "Why now?"),
        (short, write_wav(folder / "short.wav", tone(0.01, 16000, 880), 16000), None),
        (long, write_wav(folder / "long.wav", tone(2.3, 16000), 16000), "no " * 60),
        (SAMPLE / "video" / "silent_smile.mp4", None, "Hm."),
        (None, SAMPLE / "audio" / "farewell.wav", ""),
    ]


def prepare(adapter: Mllm, clip: Clip) -> Prepared:
    """With what the adapter uses of the clip."""
    video, audio, subtitle = clip
    kinds = adapter.modalities
    return adapter.prepare(
        video if VIDEO in kinds else None, audio if AUDIO in kinds else None, subtitle
    )


def ids_of(adapter: Mllm, batch: list[Prepared]) -> list[tuple[int, ...]]:
    """The token ids of the answers."""
    ids: list[tuple[int, ...]] = []
    to_answer = type(adapter).to_answer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            type(adapter),
            "to_answer",
            lambda self, each, item: ids.append(each.ids) or to_answer(self, each, item),
        )
        assert all(isinstance(answer, Answer) for answer in adapter.generate(batch))
    return ids


@pytest.mark.parametrize("name", BASELINES)
def test_a_batch_gives_each_clip_what_it_gets_alone(name, parts, clips):
    """In float32 and with every preset; a model that may go without sound has such clips in it."""
    adapter = miniature(name, parts)
    kept = clips if isinstance(adapter, AudioVisual) and adapter.modalities >= MEDIA else clips[:3]
    if name == "onellm":  # its filters need a frame
        with pytest.raises(MissingModality, match="less than 25 ms of sound"):
            prepare(adapter, clips[1])
        kept = [clips[0], clips[2]]
    items = [replace(prepare(adapter, clip), seed=40 + n) for n, clip in enumerate(kept)]
    for preset in BASELINES[name]["generation"]:
        adapter = miniature(name, parts, preset)
        adapter.load(CPU)
        together = ids_of(adapter, items)
        alone = [ids for item in items for ids in ids_of(adapter, [item])]
        assert together == alone, preset
        assert len(set(together)) > 1, f"{preset}: all clips get the same answer"
    if adapter.feeding == "stream":  # as a sweep asks
        assert dict(adapter.stream(items)) == dict(enumerate(adapter.generate(items)))


@pytest.mark.parametrize(
    "name", [name for name in BASELINES if AUDIO in configured(name).modalities]
)
def test_samples_beyond_measure_are_unreadable(name, parts, tmp_path):
    adapter = miniature(name, parts)
    loud = write_wav(tmp_path / "loud.wav", tone(0.1, 16_000) * 3e38, 16_000)
    clip = (SAMPLE / "video" / "farewell.mp4", loud, None)
    if name == "emotion_llama":  # its authors' sound has 16 bits and stops at full scale
        assert prepare(adapter, clip).inputs.waveform.isfinite().all()
        return
    with pytest.raises(Unreadable, match="where full scale is 1"):
        prepare(adapter, clip)


# -- prompts -------------------------------------------------------------------------------------

# Whose question is asked where the authors' own to a model is not on record.
SIBLINGS = {VIDEO: "Video-LLaVA", AUDIO: "Qwen-Audio"}
AS_ANOTHER = {"video_llava_hf": "Video-LLaVA"}
OTHERS = {
    "affectgpt": "its template is in tests/adapters/test_affectgpt.py",
    "emotion_llama": "asked by its own authors' questions (tests/adapters/test_emotion_llama.py)",
    "humanomni": "asked by its own authors' questions (tests/adapters/test_humanomni.py)",
    "secap": "asked in Chinese, by its own authors' question (tests/adapters/test_secap.py)",
}


def theirs(name: str) -> dict[str, dict[str, str]]:
    """The authors' questions, by what a clip is given as ("" where there is no choice)."""
    file = SHARED / "prompts.json"
    if not file.exists():
        pytest.skip("the authors' prompts are not beside this checkout")
    known = json.loads(file.read_text(encoding="utf-8"))["zero_shot_mllm"]
    if "prompts" not in BASELINES[name]:
        return {"": known[AS_ANOTHER.get(name, BASELINES[name]["title"])]}
    asked = {kind: known[sibling] for kind, sibling in SIBLINGS.items()}
    # As for the picture, with the sound where the question to Video-ChatGPT has it.
    extra = "environment, acoustic information, "
    assert extra in known["Video-ChatGPT"]["without_subtitle"]
    both = {
        key: text.replace("environment, ", extra)
        for key, text in asked[VIDEO].items()
        if isinstance(text, str)
    }
    return {**asked, "both": both}


@pytest.mark.parametrize("name", [name for name in BASELINES if name not in OTHERS])
def test_the_question_is_the_authors_byte_for_byte(name, parts, clips):
    fields = BASELINES[name]
    asked = theirs(name)
    ours = fields["prompts"] if "prompts" in fields else {"": fields["prompt"]}
    for kind, questions in ours.items():
        for key, text in questions.items():
            assert text == asked[kind][key]

    adapter = miniature(name, parts)
    texts: list[str] = []
    encode = adapter.tokenizer.encode
    adapter.tokenizer.encode = lambda text, *more: texts.append(text) or encode(text, *more)
    media = adapter.modalities & MEDIA
    kind = "" if "" in asked else "both" if media == MEDIA else min(media)
    for subtitle in ("{question} I can't  believe\tit!", "", None):
        texts.clear()
        prepare(adapter, (*clips[0][:2], subtitle))
        if subtitle is None:
            question = asked[kind]["without_subtitle"]
        else:
            question = asked[kind]["with_subtitle"].replace(SLOT, subtitle)
        assert any(question in text for text in texts)


# -- checkpoints ---------------------------------------------------------------------------------

# Parts of which the sizes are read, and no weights.
CONFIGURATION_ALONE = {"secap": ("chinese-hubert-large",)}
WEIGHTS = (".bin", ".ckpt", ".pt", ".pth", ".safetensors")


@dataclass
class Weights:
    """A weight file, whatever its format and nesting."""

    file: Path

    def __post_init__(self) -> None:
        torch_file = self.file.suffix != ".safetensors"
        self.content = (
            torch.load(self.file, weights_only=True) if torch_file else load_file(self.file)
        )
        nested = [each for each in self.content.values() if isinstance(each, dict)]
        self.tensors: dict[str, Tensor] = max(nested, key=len) if nested else self.content

    def write(self) -> None:
        if self.file.suffix == ".safetensors":
            save_file({key: each.contiguous() for key, each in self.tensors.items()}, self.file)
        else:
            torch.save(self.content, self.file)


@contextmanager
def changed(file: Path) -> Iterator[None]:
    """The file gets its content back."""
    content = file.read_bytes()
    try:
        yield
    finally:
        file.write_bytes(content)


def complaint(name: str, parts: dict[str, Any], clip: Clip) -> str:
    """In what words a checkpoint is refused; none where it is not."""
    adapter = miniature(name, parts)
    try:
        adapter.load(CPU)
        prepare(adapter, clip)
    except CheckpointError as error:
        said = str(error)
    else:
        return ""
    assert "\n" not in said
    return said


def weight_files(parts: dict[str, Any], name: str) -> list[Path]:
    paths = [Path(part.path) for part in parts[name].values()]
    files = {file for path in paths for file in ([path] if path.is_file() else path.rglob("*"))}
    return sorted(file for file in files if file.suffix in WEIGHTS)


@pytest.mark.parametrize("name", BASELINES)
def test_a_checkpoint_that_is_not_whole_is_refused_by_file_and_key(name, parts, clips):
    """Each weight file cut, with a key too many, and one of its keys gone or of another shape."""
    clip = clips[0]

    def refused(file: Path, key: str, change: Callable[[Tensor | None], Tensor | None]) -> str:
        """The words, or none, with one tensor of the file changed."""
        with changed(file):
            weights = Weights(file)
            found = change(weights.tensors.pop(key, None))
            weights.tensors.update({} if found is None else {key: found})
            weights.write()
            return complaint(name, parts, clip)

    assert complaint(name, parts, clip) == ""
    needed = 0
    for file in weight_files(parts, name):
        if file.parent.name in CONFIGURATION_ALONE.get(name, ()):
            continue
        with changed(file):
            file.write_bytes(file.read_bytes()[: file.stat().st_size * 3 // 4])
            assert str(file) in complaint(name, parts, clip)
        assert f"{file}: unheard.of" in refused(file, "unheard.of", lambda _: torch.zeros(3))

        keys = [key for key, tensor in Weights(file).tensors.items() if tensor.dim()]
        for key in random.Random(name).sample(keys, 3):
            if said := refused(file, key, lambda _: None):
                break
        else:
            continue  # what a later file overrides, or copies that nobody reads
        needed += 1
        assert str(file) in said
        for other in (lambda x: torch.cat([x, x[:1]]), lambda x: x[None]):
            assert f"{file}: {key}" in refused(file, key, other)
    assert needed
