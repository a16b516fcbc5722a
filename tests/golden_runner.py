"""The clips and the checkpoint with which the AffectGPT authors' runner was recorded."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor, nn

from ovmer.adapters.affectgpt_prompts import Template, question_and_answer
from ovmer.adapters.models.affectgpt import look_at
from ovmer.baselines.layers.hubert import SAMPLE_RATE
from ovmer.baselines.models.affectgpt_fusion import FusionConfig, FusionConfigs
from ovmer.baselines.training.affectgpt import (
    LORA_TARGETS,
    AffectGptDesign,
    AffectGptInTraining,
    FrozenPrecision,
    TrainingInputs,
)
from ovmer.baselines.training.lora import Lora, trained
from ovmer.baselines.training.step import Sample, SpecialTokens, assemble
from ovmer.runners.scoring.parsing import string_to_list
from ovmer.runners.training.affectgpt import encode_texts, read_media
from tests.golden_checks import Case

FACE_SETTING = "multiface_audio_face_text"  # of the authors' *_face_lz.yaml
BOS, END = 257, 258
PLACEHOLDERS = {"image": 259, "audio": 260, "frame": 261, "face": 262, "multi": 263}
FRAME = SpecialTokens((BOS,), END, END)


class Bytes:
    """The tokenizer of the recorded run: GPT-2's alphabet of bytes, without merges."""

    bos_id, eos_id, stop_ids = BOS, END, (END,)

    def __init__(self) -> None:
        first = [*range(33, 127), *range(161, 173), *range(174, 256)]
        order = first + [byte for byte in range(256) if byte not in first]
        self._ids = {byte: place for place, byte in enumerate(order)}

    def encode(self, text: str) -> list[int]:
        return [self._ids[byte] for byte in text.encode()]

    def decode(self, ids: Sequence[int]) -> str:
        raise NotImplementedError


class Golden:
    """The six clips of a folder, and models with its checkpoint."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        self.folder, self.scratch = folder, scratch
        with np.load(folder / "inputs.npz", allow_pickle=False) as file:
            self.inputs = dict(file)
        self._media: dict[str, dict[str, Tensor]] = {}

    @property
    def checkpoint(self) -> Path:
        return self.folder.parent.parent / "golden" / self.folder.name / "checkpoint"

    @property
    def trained(self) -> Path:
        return next(self.checkpoint.glob("checkpoint_*.pth"))

    @property
    def published(self) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = torch.load(self.trained, weights_only=True)["model"]
        return {name: tensor.float() for name, tensor in tensors.items()}

    @property
    def parts(self) -> dict[str, Path]:
        models = self.checkpoint / "models"
        names = ("Qwen2.5-7B-Instruct", "clip-vit-large-patch14", "chinese-hubert-large")
        return dict(zip(("llm", "clip", "hubert"), (models / name for name in names), strict=True))

    def model(self, start: Path | None = None, **fusions: FusionConfig) -> AffectGptInTraining:
        """Without dropout: rank as in the checkpoint."""
        adapters = [each for name, each in self.published.items() if ".lora_A" in name]
        design = AffectGptDesign(
            FusionConfigs(**fusions), Lora(len(adapters[0]), 32, 0.0, LORA_TARGETS), False, "batch"
        )
        cpu = torch.device("cpu")
        model = AffectGptInTraining.build(
            self.parts, cpu, FrozenPrecision(), design, start or self.trained
        )
        model.eval()
        return model

    def without(self, *names: str, **replaced: Tensor) -> Path:
        """The checkpoint less the tensors whose names begin so, with others added or replaced."""
        tensors = {n: each for n, each in self.published.items() if not n.startswith(names)}
        file = self.scratch / "changed.pth"
        torch.save({"model": tensors | replaced}, file)
        return file

    def media(self, sample: str) -> dict[str, Tensor]:
        """The clip as training reads it, once."""
        if sample not in self._media:
            self._media[sample] = self._read(sample)
        return self._media[sample]

    def _read(self, sample: str) -> dict[str, Tensor]:
        inputs = self.inputs
        faces = inputs[f"face_blocks_{sample}"].repeat(8, 1).repeat(8, 2)
        frames = inputs[f"frame_blocks_{sample}"].repeat(16, 1).repeat(16, 2)
        np.save(self.scratch / "clip.npy", faces)
        soundfile.write(
            self.scratch / "clip.wav",
            inputs[f"waveform_int16_{sample}"],
            SAMPLE_RATE,
            subtype="PCM_16",
        )
        files = {"face": self.scratch / "clip.npy", "audio": self.scratch / "clip.wav"}
        found = read_media(files)
        found["frame"] = torch.from_numpy(frames[look_at(len(frames), 25)])
        return found

    def values(self, sample: str) -> dict[str, str]:
        place = int(sample.removeprefix("s"))
        inputs = self.inputs
        labels = string_to_list(str(inputs["openset_csv"][place])) or ["neutral"]
        return {"ovlabel": ", ".join(labels), "description": str(inputs["reason_csv"][place])}

    def subtitle(self, sample: str) -> str:
        text = str(self.inputs["subtitle_csv"][int(sample.removeprefix("s"))])
        return "" if text == "nan" else text

    def row(
        self, sample: str, kind: str, name: str = FACE_SETTING, tokens: int = 1, limit: int = 1024
    ) -> Sample:
        """As training makes it; Unreadable where it is longer than `limit`."""
        template = Template.of(name)
        counts = dict.fromkeys(template.slots, tokens)
        question, answer = question_and_answer(kind, self.values(sample))
        texts, ids = encode_texts(
            Bytes(), template, self.subtitle(sample), question, answer, limit, counts
        )
        media = {k: v for k, v in self.media(sample).items() if k in template.reads}
        inputs = TrainingInputs(texts, template.slots, media, template.multi)
        return Sample(sample, inputs, ids)

    def rows(self, case: Case, **options: Any) -> list[Sample]:
        return [
            self.row(str(sample), str(kind), **options)
            for sample, kind in zip(case["sample"], case["label_type"], strict=True)
        ]


def prompt_ids(row: Sample, tokens: int = 1) -> list[int]:
    """The prompt with placeholders in the slots."""
    ids = list(row.inputs.texts[0])
    for slot, text in zip(row.inputs.slots, row.inputs.texts[1:], strict=True):
        ids += [PLACEHOLDERS[slot]] * tokens + list(text)
    return ids


def names_of(model: AffectGptInTraining) -> dict[str, nn.Parameter]:
    """What is trained by the authors' names, in our order."""
    published = list(model.published())
    return dict(zip(published, trained(model).values(), strict=True))


def same_ids(
    rows: Sequence[Sample],
    ids: np.ndarray,
    labels: np.ndarray,
    masks: np.ndarray,
    tokens: int = 1,
) -> None:
    """The collated batch, token by token: embeddings of width one that are the ids themselves."""
    table = nn.Embedding.from_pretrained(torch.arange(264.0)[:, None])
    prompts = [torch.tensor(prompt_ids(each, tokens), dtype=torch.float)[:, None] for each in rows]
    batch = assemble(prompts, [each.answer for each in rows], table, FRAME)
    assert np.array_equal(batch.embeds[..., 0].long().numpy(), ids)
    assert np.array_equal(batch.labels.numpy(), labels)
    assert np.array_equal(batch.mask.numpy(), masks.astype(bool))
