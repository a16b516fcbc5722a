"""Emotion-LLaMA: a clip's first frame, its whole sound and its subtitle, as the authors' demo runs.

The demo knows neither the vector of the face nor that of the video and gives zeros for both; the
evaluation scripts read all three vectors from the files of a data set (`features`). The two ways
also differ in their prompts. A clip without a picture is `missing_modality`; for one without sound
the demo fails, and here the vector of sound is zeros as well, with a note.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ovmer.adapters.base import Machine, Prepared, require_video
from ovmer.adapters.media import Frames, read_frames, read_nearest
from ovmer.adapters.media.sampling import first
from ovmer.adapters.mllm import Mllm
from ovmer.adapters.question import QuestionTemplate
from ovmer.adapters.registry import register
from ovmer.baselines.errors import MissingModality, PrerequisiteError, Unreadable, near

if TYPE_CHECKING:
    import torch

EMOTION = "emotion"

FEATURE_FOLDERS = (
    ("mae_340_UTT", "mae_340_23_UTT"),
    ("maeV_399_UTT", "maeVideo_399_23_UTT"),
    ("HL-UTT", "HL_23_UTT"),
)
"""Face, video, sound: the folders of the authors' features, of MER2023 and of MER2024."""

# Below this many samples HuBERT's convolutions have no output.
_SHORTEST = 400


# Texts before and after the vectors; "<s>" is the start token. At inference (not in training) all
# vectors are at <VideoHere>, and <FeatureHere> stays a word. Picture and question are two turns of
# the user in the demo, so that there is a second header.
DEMO = (
    "<s>[INST] <video>",
    "</video> <feature><FeatureHere></feature><s>[INST] {question} [/INST]",
)
DATASET = (DEMO[0], "</video> <feature><FeatureHere></feature> {question}  [/INST]")
_START = "<s>"


@register("emotion_llama")
@dataclass
class EmotionLlamaAdapter(Mllm):
    """A released checkpoint, asked for an emotion or for a reasoned description.

    `bug_compat` changes nothing: what the authors' code does by accident (two start tokens, the
    second header of the demo, sound without a low-pass filter) is in every published answer.
    """

    features: str | None = None
    """The folder with the vectors of a data set, a file NAME.npy for each clip; None: the demo."""
    asks_for: str = "reason"
    requests: dict[str, str] = field(default_factory=lambda: {"reason": ""})
    """Replacement for `{request}` in the prompt, by `asks_for`."""

    model_class: ClassVar[str] = "ovmer.baselines.models.emotion_llama:EmotionLlama"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.asks_for not in self.requests:
            raise PrerequisiteError(
                f"baseline.asks_for is {self.asks_for!r}; {near(self.asks_for, self.requests)}"
            )
        self.answers_with_labels = self.asks_for == EMOTION  # type: ignore[misc]  # as is asked

    @property
    def own_parts(self) -> list[str]:
        return ["trained", "vision", "llm", *([] if self.features else ["hubert"])]

    @property
    def template(self) -> Sequence[str]:  # type: ignore[override]  # by the available media
        return DATASET if self.features else DEMO

    @cached_property
    def _folders(self) -> list[Path]:
        return feature_folders(Path(self.features or "").expanduser())

    def load(self, machine: Machine) -> None:
        if self.features:
            _ = self._folders  # missing files are reported before anything is loaded
        super().load(machine)

    def asking(self, question: str) -> Self:
        """The question replaces the authors' request; the text around it stays."""
        asked = copy(self)
        asked.requests = dict.fromkeys(self.requests, question)
        return asked

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        import torch

        from ovmer.baselines.models.emotion_llama import EmotionLlamaInputs

        video = require_video(video)
        _, frame = look(video)
        features, waveform = np.zeros((3, self.sizes.features), np.float32), None
        notes: list[str] = []
        if self.features:
            features = read_features(self._folders, video.stem, self.sizes.features)
            if subtitle is not None:
                subtitle += "."  # whatever it ends with
        else:
            try:
                waveform = listen(audio)
            except MissingModality as error:
                notes.append(f"{error}; the vector of sound is zeros")
        question, cut = self.fit_question(subtitle, self.sizes.positions, self._question)
        inputs = EmotionLlamaInputs(
            self.texts(question), torch.from_numpy(frame), torch.from_numpy(features), waveform
        )
        return Prepared(inputs, (*notes, *cut))

    def clean(self, text: str) -> str:
        """The answer as `Chat.answer` of the demo, or the evaluation script, cleans it."""
        if self.features:
            return text.split("</s>")[0].split("[/INST]")[-1].strip()
        return text.split("###")[0].split("Assistant:")[-1].strip()

    def texts(self, question: str, template: Sequence[str] | None = None) -> list[list[int]]:
        """The ids before and after the vectors. The tokenizer adds a start token to the first.

        Text between start tokens is encoded by itself.
        """
        start = self.tokenizer.bos_id

        def ids(text: str) -> list[int]:
            pieces = (piece.replace("{question}", question) for piece in text.split(_START))
            return [i for piece in pieces for i in (start, *self.tokenizer.encode(piece))]

        before, after = map(ids, template or self.template)
        return [before, after[1:]]

    @property
    def _question(self) -> QuestionTemplate:
        return self.prompt.replaced("{request}", self.requests[self.asks_for])


def look(video: Path) -> tuple[Frames, NDArray[np.uint8]]:
    """The first frame as it is read, and as the model takes it (448 x 448 x 3, stretched)."""
    from PIL import Image

    from ovmer.baselines.models.emotion_llama import SIDE

    frames = read_frames(video, lambda count, _: first(count, 1))
    picture = Image.fromarray(frames.pixels[0]).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return frames, np.array(picture)


def listen(audio: Path | None) -> "torch.Tensor":
    """The whole sound as HuBERT takes it [samples]. Raises MissingModality where there is none."""
    import torch

    from ovmer.baselines.layers.hubert import SAMPLE_RATE, normalise

    if audio is None:
        raise MissingModality("the clip has no sound")
    samples = read_nearest(audio, SAMPLE_RATE)
    samples = np.pad(samples, (0, max(0, _SHORTEST - len(samples))))
    return normalise(torch.from_numpy(samples))


def feature_folders(root: Path) -> list[Path]:
    """The folders of face, video and sound vectors in `root`.

    Raises PrerequisiteError where one is missing.
    """
    found = []
    for names in FEATURE_FOLDERS:
        folder = next((root / name for name in names if (root / name).is_dir()), None)
        if folder is None:
            raise PrerequisiteError(
                f"baseline.features={root} has no folder {' or '.join(names)}; give the folder "
                "that holds the authors' features, or null to run as the demo does"
            )
        found.append(folder)
    return found


def read_features(folders: list[Path], name: str, width: int) -> NDArray[np.float32]:
    """The vectors of one clip (3 x width) from NAME.npy in each folder.

    Raises MissingModality where there is no such file, Unreadable where it holds something else.
    """
    vectors = []
    for folder in folders:
        file = folder / f"{name}.npy"
        try:
            vector = np.load(file, allow_pickle=False)
        except FileNotFoundError:
            raise MissingModality(f"there is no file {folder.name}/{file.name}") from None
        except (ValueError, EOFError, OSError) as error:
            raise Unreadable(f"{folder.name}/{file.name} is no array of numbers") from error
        if vector.shape not in ((width,), (1, width)) or not np.isfinite(vector).all():
            raise Unreadable(
                f"{folder.name}/{file.name} has shape {list(vector.shape)} where a vector of "
                f"{width} finite numbers is expected"
            )
        vectors.append(vector.reshape(width).astype(np.float32))
    return np.stack(vectors)
