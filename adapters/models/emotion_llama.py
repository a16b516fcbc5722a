"""Emotion-LLaMA: a clip's first frame, its whole sound and its subtitle, as the authors' demo runs.

The demo knows neither the vector of the face nor that of the video and gives zeros for both; the
evaluation scripts read all three vectors from the files of a data set (`features`). The two ways
also differ in their prompts. A clip without a picture is `missing_modality`; for one without sound
the demo fails, and here the vector of sound is zeros as well, with a note.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from ovmer.adapters.base import Prepared, require_video
from ovmer.adapters.media import Frames, read_frames, read_nearest
from ovmer.adapters.media.sampling import first
from ovmer.adapters.mllm import Mllm, Model, Question
from ovmer.adapters.registry import near, register
from ovmer.baselines.checkpoint import file_of
from ovmer.baselines.errors import (
    CheckpointError,
    MissingModality,
    PrerequisiteError,
    Unreadable,
)
from ovmer.baselines.tokenizer import LlamaTokenizer

if TYPE_CHECKING:
    import torch

    from ovmer.baselines.device import Place
    from ovmer.baselines.models.emotion_llama import Sizes

EMOTION = "emotion"

FEATURE_FOLDERS = (
    ("mae_340_UTT", "mae_340_23_UTT"),
    ("maeV_399_UTT", "maeVideo_399_23_UTT"),
    ("HL-UTT", "HL_23_UTT"),
)
"""Face, video, sound: the folders of the authors' features, of MER2023 and of MER2024."""

# Below this many samples HuBERT's convolutions have no output.
_SHORTEST = 400


@dataclass(frozen=True)
class Template:
    """The prompt around the 260 vectors: the text before, and the texts after them.

    Each text is tokenised by itself, with a start token before it but for the first one after the
    vectors; the tokenizer adds another to `before`. `<FeatureHere>` is plain text: at inference
    (not in training) all vectors are at `<VideoHere>`.
    """

    before: str
    after: tuple[str, ...]


_BEFORE = "[INST] <video>"
_FEATURES = "</video> <feature><FeatureHere></feature>"
# Picture and question are two turns of the user, so that there is a second header.
DEMO = Template(_BEFORE, (_FEATURES, "[INST] {question} [/INST]"))
DATASET = Template(_BEFORE, (f"{_FEATURES} {{question}}  [/INST]",))


@register("emotion_llama")
@dataclass
class EmotionLlamaAdapter(Mllm):
    """A released checkpoint, asked for an emotion or for a reasoned description.

    There are no quirks to switch: of what the authors' code does by accident (two start tokens, the
    second header of the demo, sound without a low-pass filter), the published answers depend on all
    of it.
    """

    features: str | None = None
    """The folder with the vectors of a data set, a file NAME.npy for each clip; None: the demo."""
    asks_for: str = "reason"
    requests: dict[str, str] = field(default_factory=lambda: {"reason": ""})
    """What takes the place of `{request}` in the prompt, by `asks_for`."""

    known_quirks: ClassVar[tuple[str, ...]] = ("none",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.asks_for not in self.requests:
            raise PrerequisiteError(
                f"baseline.asks_for is {self.asks_for!r}; {near(self.asks_for, self.requests)}"
            )
        self.answers_with_labels = self.asks_for == EMOTION  # type: ignore[misc]  # as is asked

    @property
    def needed_parts(self) -> list[str]:
        return ["trained", "vision", "llm", *([] if self.features else ["hubert"])]

    @cached_property
    def _files(self) -> tuple[Path, Path, Path]:
        """The checkpoint of training, the picture tower's file and the language model's folder."""
        from ovmer.baselines.layers.eva_vit import EVA_FILE

        parts = self.parts
        return checkpoint_file(parts["trained"]), file_of(parts["vision"], EVA_FILE), parts["llm"]

    @cached_property
    def _sizes(self) -> "Sizes":
        from ovmer.baselines.models.emotion_llama import Sizes

        return Sizes.read(*self._files)

    @cached_property
    def _folders(self) -> list[Path]:
        return feature_folders(Path(self.features or "").expanduser())

    def read_tokenizer(self) -> LlamaTokenizer:
        return LlamaTokenizer(self.parts["llm"] / "tokenizer.model")

    def build(self, place: "Place") -> Model:
        from ovmer.baselines.models.emotion_llama import EmotionLlama

        if self.features:
            _ = self._folders  # what is missing is said before anything is loaded
        return EmotionLlama.load(*self._files, self.parts.get("hubert"), place)

    def write_miniature(self, folder: Path, seed: int) -> dict[str, Path]:
        from ovmer.baselines.models.emotion_llama import write_miniature

        return write_miniature(folder, seed)

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        import torch

        from ovmer.baselines.models.emotion_llama import EmotionLlamaInputs

        _, frame = look(require_video(video))
        notes: list[str] = []
        features, waveform = np.zeros((3, self._sizes.width), np.float32), None
        if self.features and video is not None:
            features = read_features(self._folders, video.stem, self._sizes.width)
        else:
            try:
                waveform = listen(audio)
            except MissingModality as error:
                notes.append(f"{error}; the vector of sound is zeros")
        texts, cut = self._texts(subtitle)
        inputs = EmotionLlamaInputs(
            texts, torch.from_numpy(frame), torch.from_numpy(features), waveform
        )
        return Prepared(inputs, (*notes, *cut))

    def clean(self, text: str) -> str:
        """What `Chat.answer` of the demo, or the evaluation script, leaves of an answer."""
        if self.features:
            return text.split("</s>")[0].split("[/INST]")[-1].strip()
        return text.split("###")[0].split("Assistant:")[-1].strip()

    def _texts(self, subtitle: str | None) -> tuple[tuple[list[int], list[int]], tuple[str, ...]]:
        """The ids before and after the vectors, and a note where the subtitle was cut.

        The demo cuts the left end of a prompt beyond 2000 positions, where the picture is; here it
        is the subtitle, beyond the model's context.
        """
        encode, start = self.tokenizer.encode, self.tokenizer.bos_id
        template = DATASET if self.features else DEMO
        before = [start, start, *encode(template.before)]
        fixed = len(before) + self._sizes.vectors

        def after(question: str) -> list[int]:
            first, *others = (text.replace("{question}", question) for text in template.after)
            return encode(first) + [i for text in others for i in (start, *encode(text))]

        limit = self._sizes.context - self.generation.max_new_tokens
        if self.features and subtitle is not None:
            subtitle += "."  # whatever it ends with
        question, notes = self.ask(
            subtitle, limit, lambda text: fixed + len(after(text)), self._question
        )
        return (before, after(question)), notes

    @cached_property
    def _question(self) -> Question:
        request = self.requests[self.asks_for]
        return Question(
            self.prompt.with_subtitle.replace("{request}", request),
            self.prompt.without_subtitle.replace("{request}", request),
        )


def checkpoint_file(place: Path) -> Path:
    """The file `place` itself, or the one .pth file in that folder, at any depth.

    Raises CheckpointError where there is none or where there are several.
    """
    if place.is_file():
        return place
    found = sorted(place.rglob("*.pth"))
    if len(found) == 1:
        return found[0]
    there = ", ".join(file.name for file in found) or "none"
    raise CheckpointError(
        f"{place} should hold one .pth file but holds {there}; set "
        "baseline.checkpoint.trained.path to the file itself"
    )


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
