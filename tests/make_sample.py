"""Draws and speaks the sample data set that ships in runners/data/sample.

Run from the root of the repository: `python -m tests.make_sample`. It needs the program espeak-ng
for the voices; pictures come from Pillow, H.264 and AAC from PyAV. The files it made are checked
in, so neither users nor tests run this. Nobody's face or voice is in it.

The layout is that of the OV-MERD release, and as there every modality is missing somewhere: one
clip has no sound, one no picture, one has sound only inside its video, one no subtitle.
"""

import csv
import io
import math
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
from PIL import Image, ImageDraw

from tests import SAMPLE

FPS, WIDTH, HEIGHT, RATE = 25, 256, 192, 16_000
_OVERSAMPLING = 4  # drawn larger and scaled down, for smooth edges
_FACE_BOX, _FACE_SIZE, _FACES = (72, 24, 184, 136), 112, 6

Colour = tuple[int, ...]  # red, green, blue


@dataclass(frozen=True)
class Look:
    """A face: what moves. Zero is a face at rest."""

    smile: float = 0.0  # -1 corners down .. 1 corners up
    gape: float = 0.0  # 0 shut .. 1 wide open
    frown: float = 0.0  # -1 inner ends of the brows up .. 1 down
    brows: float = 0.0  # -1 low .. 1 high
    eyes: float = 0.0  # -1 shut .. 1 wide
    gaze: float = 0.0  # -1 left .. 1 right
    tear: float = 0.0  # 0 none .. 1 down the cheek
    blush: float = 0.0

    def towards(self, other: "Look", share: float) -> "Look":
        names = [each.name for each in fields(self)]
        mine, theirs = ([getattr(look, name) for name in names] for look in (self, other))
        return Look(*(a + (b - a) * share for a, b in zip(mine, theirs, strict=True)))


@dataclass(frozen=True)
class Scene:
    """One clip."""

    name: str
    chinese: str
    english: str
    labels: tuple[str, ...]
    reason: str  # for the labels, as training learns to say it
    look: Look
    speed: int = 210  # words a minute, for espeak-ng
    pitch: int = 50
    skin: Colour = (240, 205, 175)
    hair: Colour = (60, 40, 30)
    wall: Colour = (190, 205, 215)
    missing: str = ""  # sound, video, wav or subtitle
    faces: bool = False


SCENES = (
    Scene(
        "good_news",
        "我们赢了，我太开心了！",
        "We won, I am so happy!",
        ("happy", "excited"),
        "In the text, she says that they have won and that she is so happy. In the video, "
        "she smiles broadly and raises her brows. Hence she is happy and excited.",
        Look(smile=1, gape=0.35, brows=0.5, eyes=0.2, blush=0.8),
        speed=220,
        pitch=75,
        faces=True,
    ),
    Scene(
        "broken_promise",
        "你怎么又骗我？",
        "How could you lie to me again? I am so angry.",
        ("angry", "disappointed"),
        "In the text, he complains that he was lied to again. In the video, his brows are "
        "drawn down and his mouth is tight. Hence he is angry and disappointed.",
        Look(smile=-0.7, gape=0.25, frown=1, brows=-0.5, eyes=-0.3),
        speed=210,
        pitch=30,
        skin=(225, 180, 145),
        hair=(25, 20, 20),
        wall=(215, 195, 185),
    ),
    Scene(
        "farewell",
        "他走了，我好孤单。",
        "He is gone. I feel so lonely.",
        ("sad", "lonely", "heartbroken"),
        "In the text, she says that he is gone and that she feels lonely. In the video, a "
        "tear runs down her cheek. Hence she is sad, lonely and heartbroken.",
        Look(smile=-0.9, frown=-0.9, brows=0.2, eyes=-0.45, gaze=-0.3, tear=1),
        speed=220,
        pitch=25,
        hair=(110, 75, 40),
        wall=(165, 175, 195),
        faces=True,
    ),
    Scene(
        "late_night",
        "这么晚了，她怎么还没回家？",
        "It is so late. Why is she not home yet? I am worried.",
        ("worried", "anxious"),
        "In the text, he asks why she is not home so late at night. In the video, his "
        "brows are raised in the middle. Hence he is worried and anxious.",
        Look(smile=-0.35, gape=0.1, frown=-0.7, brows=0.4, eyes=0.15, gaze=0.8),
        speed=310,
        pitch=60,
        skin=(205, 160, 125),
        hair=(40, 30, 30),
        wall=(95, 100, 130),
    ),
    Scene(
        "unexpected_guest",
        "啊，你怎么来了？",
        "Oh! What are you doing here?",
        ("surprised", "curious"),
        "In the text, she asks somebody what they are doing here. In the video, her mouth "
        "is open and her eyes are wide. Hence she is surprised and curious.",
        Look(smile=0.1, gape=1, brows=1, eyes=1),
        speed=190,
        pitch=85,
        hair=(150, 60, 40),
        wall=(220, 215, 180),
    ),
    Scene(
        "plain_answer",
        "会议三点开始。",
        "The meeting starts at three.",
        ("calm", "thoughtful"),
        "In the text, the time of a meeting is given. In the video, the face shows little "
        "change. Hence the person is calm and thoughtful.",
        Look(gaze=-0.1),
        skin=(220, 185, 155),
        hair=(90, 90, 95),
        wall=(200, 205, 200),
    ),
    Scene(
        "sour_milk",
        "这牛奶坏了。",
        "Ugh, this milk has gone off. Disgusting.",
        ("disgusted",),
        "In the text, she says that the milk has gone off. In the video, she frowns and "
        "turns the corners of her mouth down. Hence she is disgusted.",
        Look(smile=-0.6, gape=0.15, frown=0.6, brows=-0.2, eyes=-0.55, gaze=0.5),
        speed=190,
        pitch=40,
        skin=(235, 205, 180),
        hair=(200, 165, 90),
        wall=(185, 210, 180),
    ),
    Scene(
        "silent_smile",
        "",
        "",
        ("content", "bashful"),
        "In the video, the person blushes, looks aside and smiles a little, and says "
        "nothing. Hence the person is content and bashful.",
        Look(smile=0.6, eyes=-0.35, gaze=0.6, blush=1),
        hair=(60, 30, 60),
        wall=(225, 200, 205),
        missing="sound",
    ),
    Scene(
        "phone_call",
        "喂？谁在那儿？",
        "Hello? Who is there? Please say something.",
        ("nervous", "fearful"),
        "In the audio, a trembling voice asks who is there and begs for an answer. Hence "
        "the person is nervous and fearful.",
        Look(),
        speed=200,
        pitch=70,
        missing="video",
    ),
    Scene(
        "second_thoughts",
        "嗯，我不太确定。",
        "",
        ("confused", "hesitant"),
        "In the video, the gaze wanders from side to side and one brow goes up. Hence the "
        "person is confused and hesitant.",
        Look(smile=-0.2, frown=-0.2, brows=0.3, eyes=-0.15, gaze=-0.9),
        speed=190,
        pitch=45,
        skin=(200, 150, 115),
        hair=(20, 20, 25),
        wall=(205, 190, 215),
        missing="wav",
    ),
)


def main() -> None:
    shutil.rmtree(SAMPLE, ignore_errors=True)
    for folder in ("video", "audio"):
        (SAMPLE / folder).mkdir(parents=True)
    for scene in SCENES:
        voice = None if scene.missing == "sound" else _speak(scene)
        if voice is not None and scene.missing != "wav":
            soundfile.write(SAMPLE / "audio" / f"{scene.name}.wav", voice, RATE, subtype="PCM_16")
        if scene.missing != "video":
            pictures = _play(scene, voice)
            _write_video(SAMPLE / "video" / f"{scene.name}.mp4", pictures, voice)
            if scene.faces:
                _write_faces(scene.name, pictures)
    subtitles = [(each.name, each.chinese, each.english) for each in SCENES]
    _write_table("subtitle_chieng.csv", ("name", "chinese", "english"), subtitles)
    labels = [(each.name, str(list(each.labels))) for each in SCENES]
    _write_table("track2_train_ovmerd.csv", ("name", "openset"), labels)
    _write_table(
        "track3_train_ovmerd.csv", ("name", "reason"), [(each.name, each.reason) for each in SCENES]
    )


def _write_table(name: str, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    with (SAMPLE / name).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def _speak(scene: Scene) -> np.ndarray:
    """The Chinese line by espeak-ng, mono at RATE, with some quiet before and after."""
    # Imported here: the tests read SCENES, and librosa takes seconds.
    import librosa
    from librosa.effects import trim

    command = ["espeak-ng", "-v", "cmn", "-s", str(scene.speed), "-p", str(scene.pitch)]
    spoken = subprocess.run([*command, "--stdout", scene.chinese], capture_output=True, check=True)
    voice, rate = soundfile.read(io.BytesIO(spoken.stdout), dtype="float32")
    voice = librosa.resample(voice, orig_sr=rate, target_sr=RATE)
    voice, _ = trim(voice, top_db=40)
    voice = 0.5 * voice / np.abs(voice).max()
    short = max(0, int(1.6 * RATE) - len(voice))
    quiet = int(0.15 * RATE)
    return np.pad(voice, (quiet + short // 2, quiet + short - short // 2)).astype(np.float32)


def _play(scene: Scene, voice: np.ndarray | None) -> np.ndarray:
    """All frames of a clip, uint8 n x HEIGHT x WIDTH x 3."""
    count = 2 * FPS if voice is None else len(voice) * FPS // RATE
    loudness = np.zeros(count)
    if voice is not None:
        hop = RATE // FPS
        power = (voice[: count * hop].reshape(count, hop) ** 2).mean(axis=1)
        loudness = np.sqrt(power / power.max())
    pictures = []
    for i in range(count):
        share = 0.5 - 0.5 * math.cos(math.pi * min(1.0, i / (0.4 * count)))
        look = Look().towards(scene.look, share)
        blink = i % 40 in (28, 29, 30)
        look = Look(
            **{
                **vars(look),
                "gape": min(1.0, look.gape + 0.5 * loudness[i]),
                "eyes": -1.0 if blink else look.eyes,
                "gaze": look.gaze + 0.15 * math.sin(i / 6),
            }
        )
        sway = 3 * math.sin(2 * math.pi * i / 60), 2 * math.sin(2 * math.pi * i / 25)
        pictures.append(_draw(scene, look, sway))
    return np.stack(pictures)


@dataclass(frozen=True)
class _Pen:
    """Draws relative to the middle of the face, in pixels of the finished picture."""

    draw: ImageDraw.ImageDraw
    x: float
    y: float

    def place(self, dx: float, dy: float) -> tuple[float, float]:
        return (self.x + dx) * _OVERSAMPLING, (self.y + dy) * _OVERSAMPLING

    def oval(self, dx: float, dy: float, rx: float, ry: float, colour: Colour) -> None:
        self.draw.ellipse((*self.place(dx - rx, dy - ry), *self.place(dx + rx, dy + ry)), colour)

    def line(self, points: Sequence[tuple[float, float]], width: float, colour: Colour) -> None:
        placed = [self.place(*point) for point in points]
        self.draw.line(placed, colour, int(width * _OVERSAMPLING), joint="curve")


def _draw(scene: Scene, look: Look, sway: tuple[float, float]) -> np.ndarray:
    size = WIDTH * _OVERSAMPLING, HEIGHT * _OVERSAMPLING
    image = Image.new("RGB", size, scene.wall)
    pen = _Pen(ImageDraw.Draw(image), WIDTH / 2 + sway[0], HEIGHT * 0.47 + sway[1])
    shade = tuple(int(c * 0.75) for c in scene.skin)
    pen.oval(0, 105, 75, 48, tuple(255 - c for c in scene.wall))  # shoulders
    pen.draw.rectangle((*pen.place(-16, 40), *pen.place(16, 75)), shade)  # neck
    pen.oval(0, -12, 56, 60, scene.hair)
    for side in (-1, 1):
        pen.oval(side * 48, 4, 8, 12, scene.skin)  # ears
    pen.oval(0, 2, 47, 56, scene.skin)
    pen.draw.chord((*pen.place(-48, -58), *pen.place(48, 12)), 195, 345, scene.hair)  # fringe
    for side in (-1, 1):
        _draw_half(pen, side, scene, look)
    pen.line([(0, -2), (-4, 14), (2, 15)], 1.5, shade)  # nose
    _draw_mouth(pen, look)
    return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))


def _draw_half(pen: _Pen, side: int, scene: Scene, look: Look) -> None:
    """What a face has twice: cheek, eye, brow, tear."""
    red = 0.45 * look.blush
    cheek = (int(c + (r - c) * red) for c, r in zip(scene.skin, (235, 90, 90), strict=True))
    pen.oval(side * 27, 19, 10, 7, tuple(cheek))
    high = 7 * (1 + look.eyes * (0.8 if look.eyes > 0 else 1))
    if high < 1:
        pen.line([(side * 19 - 10, -5), (side * 19 + 10, -5)], 1.5, (50, 35, 35))
    else:
        pen.oval(side * 19, -5, 10, high, (255, 255, 255))
        pen.oval(side * 19 + 4 * look.gaze, -5, 4.5, min(4.5, high), (45, 35, 35))
    lift = -20 - 6 * look.brows
    inner, outer = lift + 6 * look.frown, lift - 3 * look.frown
    brow = [(side * 8, inner), (side * 19, (inner + outer) / 2 - 2), (side * 31, outer)]
    pen.line(brow, 3.5, scene.hair)
    if look.tear > 0:
        pen.oval(side * 20, 6 + 18 * look.tear, 2.5, 4.5, (150, 200, 245))


def _draw_mouth(pen: _Pen, look: Look) -> None:
    steps = np.linspace(-1, 1, 25)
    half = 18 - 6 * look.gape * (1 - max(0.0, look.smile))
    bend = 33 + 4 * look.smile - 7 * look.smile * steps**2
    upper = list(zip(half * steps, bend - 4 * look.gape * (1 - steps**2), strict=True))
    lower = list(zip(half * steps, bend + 15 * look.gape * (1 - steps**2), strict=True))
    inside = [pen.place(*point) for point in (*upper, *reversed(lower))]
    pen.draw.polygon(inside, (110, 25, 35))
    for lip in (upper, lower):
        pen.line(lip, 3, (165, 60, 65))


def _write_video(path: Path, pictures: np.ndarray, voice: np.ndarray | None) -> None:
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", FPS, options={"crf": "26", "preset": "slow"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound = None
        if voice is not None:
            sound = container.add_stream("aac", RATE, layout="mono")
            sound.bit_rate = 48_000
        for picture in pictures:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode())
        if sound is not None and voice is not None:
            frame = av.AudioFrame.from_ndarray(voice[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
            container.mux(sound.encode(frame))
            container.mux(sound.encode())


def _write_faces(name: str, pictures: np.ndarray) -> None:
    """A few heads as OpenFace leaves them (it keeps all): 112 x 112, channels in OpenCV's order."""
    left, top, right, bottom = _FACE_BOX
    crops = [
        Image.fromarray(picture[top:bottom, left:right]).resize((_FACE_SIZE, _FACE_SIZE))
        for picture in pictures[np.linspace(0, len(pictures) - 1, _FACES, dtype=int)]
    ]
    folder = SAMPLE / "openface_face" / name
    folder.mkdir(parents=True)
    np.save(folder / f"{name}.npy", np.stack([np.asarray(crop)[..., ::-1] for crop in crops]))


if __name__ == "__main__":
    main()
