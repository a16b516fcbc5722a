"""AffectGPT's prompts: its templates, and the question and answer for each kind of label.

Verbatim from zeroQiaoba/MERTools at 89120b78, MER2025_Track23, datasets/base_dataset.py
(`get_prompt_for_multimodal`, `func_get_qa_*`), so that training and inference have one source.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_BEGIN = "###Human: "
_MULTI = "The audio and video merged info is: <Multi><MultiHere></Multi>. "
_AUDIO = "The audio content is as follows: <Audio><AudioHere></Audio>. "
_IMAGE = "The image content is as follows: <Image><ImageHere></Image>. "
_SEEN = "niformly sample raw frames from the video"
_FRAME = f"u{_SEEN}: <Video><FrameHere></Video>. "
_FACE = f"u{_SEEN} and extract faces from these frames: <Video><FaceHere></Video>. "
SUBTITLE_TEXT = "The subtitle of this video is: <Subtitle>{subtitle}</Subtitle>. "
QUESTION_TEXT = "Now, please answer my question based on all the provided information. {question} "
_END = f"{QUESTION_TEXT}###Assistant: "

TEMPLATES: Mapping[str, str] = {
    "faceframe": (
        f"{_BEGIN}{_AUDIO}Meanwhile, we {_FRAME}Additionally, we {_FACE}{SUBTITLE_TEXT}{_END}"
    ),
    "face": f"{_BEGIN}{_AUDIO}Meanwhile, we {_FACE}{SUBTITLE_TEXT}{_END}",
    "frame": f"{_BEGIN}{_AUDIO}Meanwhile, we {_FRAME}{SUBTITLE_TEXT}{_END}",
    "audioonly": f"{_BEGIN}{_AUDIO}{_END}",
    "textonly": f"{_BEGIN}{SUBTITLE_TEXT}{_END}",
    "faceonly": f"{_BEGIN}We {_FACE}{_END}",
    "frameonly": f"{_BEGIN}We {_FRAME}{_END}",
    "image": f"{_BEGIN}{_IMAGE}{_END}",
    "audio_text": f"{_AUDIO}{SUBTITLE_TEXT}{_END}",
    "face_text": f"We {_FACE}{SUBTITLE_TEXT}{_END}",
    "frame_text": f"we {_FRAME}{SUBTITLE_TEXT}{_END}",
    "multiface_text": f"{_BEGIN}{_MULTI}{SUBTITLE_TEXT}{_END}",
    "multiface_audio_face_text": (
        f"{_BEGIN}{_MULTI}{_AUDIO}Meanwhile, we {_FACE}{SUBTITLE_TEXT}{_END}"
    ),
    "multiframe_audio_frame_text": (
        f"{_BEGIN}{_MULTI}{_AUDIO}Meanwhile, we {_FRAME}{SUBTITLE_TEXT}{_END}"
    ),
    "multiface_audio_face_frame_text": (
        f"{_BEGIN}{_MULTI}{_AUDIO}Meanwhile, we {_FACE}Meanwhile, we {_FRAME}{SUBTITLE_TEXT}{_END}"
    ),
}
"""By the values of `face_or_frame` in the authors' configurations."""
FOR_CLIPS = tuple(name for name in TEMPLATES if name != "image")
"""Those that a clip can fill: `image` is for still pictures."""

_SLOT = re.compile("<(Multi|Audio|Face|Frame|Image)Here>")


@dataclass(frozen=True)
class Template:
    """A prompt with slots for what is seen and heard."""

    name: str
    texts: Sequence[str]
    """Around the slots, with `{subtitle}` and `{question}`."""
    slots: Sequence[str]
    """`multi`, `audio`, `face`, `frame` or `image`, in the order of the prompt."""

    @classmethod
    def of(cls, name: str) -> "Template":
        """The template that the authors call `name`; KeyError for another name."""
        pieces = _SLOT.split(TEMPLATES[name])
        return cls(name, pieces[::2], [slot.lower() for slot in pieces[1::2]])

    @property
    def has_subtitle(self) -> bool:
        return SUBTITLE_TEXT in self.texts[-1]

    @property
    def multi(self) -> str:
        """The picture that pre-fusion takes."""
        return "face" if self.name.startswith("multiface") else "frame"

    @property
    def reads(self) -> frozenset[str]:
        """The kinds of media that a clip must have: audio, face, frame, image."""
        fused = {"audio", self.multi} if "multi" in self.slots else set()
        return frozenset((set(self.slots) | fused) - {"multi"})

    def filled(self, subtitle: str, question: str) -> list[str]:
        """The texts around the slots. What a subtitle spells is text, never a slot."""
        return [
            text.replace("{question}", question).replace("{subtitle}", subtitle)
            for text in self.texts
        ]


DESCRIPTION, LABELS = "description", "ovlabel"

QUESTIONS: Mapping[str, str] = {
    DESCRIPTION: ("Please infer the person's emotional state and provide your reasoning process."),
    LABELS: "Please recognize all possible emotional states of the character.",
    "onehot_w_candidates": (
        "Please select the label that can best describe the person's emotional state from the "
        "provided candidate labels: {candidate_labels}."
    ),
    "onehot_wo_candidates": "Please recognize the character's most likely emotional state.",
    "sentiment": (
        "Please select the most likely sentiment label that can best describe the person's "
        "emotional state: positive, negative, neutral."
    ),
    "valence": (
        "Please identify the overall positive or negative emotional polarity of the main "
        "characters. The output should be a ﬂoating-point number ranging from {minval} to "
        "{maxval}. Here, {minval} indicates extremely negative emotions, 0 indicates neutral "
        "emotions, and {maxval} indicates extremely positive emotions. Please provide your "
        "judgment as a ﬂoating-point number."
    ),
}
ANSWERS: Mapping[str, str] = {
    DESCRIPTION: "{description}",
    LABELS: "The character's emotional state is {ovlabel}.",
    "onehot_w_candidates": "The most likely label is {onehot}.",
    "onehot_wo_candidates": "The character's emotional state is {onehot}.",
    "sentiment": "The character's sentiment state is {sentiment}.",
    "valence": "The valence score is {valence:.2f}.",
}
END_OF_ANSWER = "###"


def question_and_answer(kind: str, values: Mapping[str, Any]) -> tuple[str, str]:
    """The question of a kind of label, and its answer with `values` in it."""
    return QUESTIONS[kind].format(**values), ANSWERS[kind].format(**values)
