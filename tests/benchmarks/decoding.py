"""A baseline without a model that decodes all the same: eight frames and the sound of each clip."""

from pathlib import Path

from ovmer.adapters import media
from ovmer.adapters.base import AUDIO, VIDEO, Adapter, Prepared
from tests import SAMPLE
from tests.runners.conftest import write_tables

NAME = "tests.benchmarks.decoding:Decoding"


class Decoding(Adapter):
    """Says the same of every clip, having looked and listened."""

    modalities = frozenset({VIDEO, AUDIO})
    answers_with_labels = True

    def prepare(self, video: Path | None, audio: Path | None, subtitle: str | None) -> Prepared:
        assert video is not None
        frames = media.read_frames(video, _eight, size=(224, 224))
        sound = media.read_sound(audio, 16000) if audio else None
        return Prepared((frames, sound))

    def generate(self, batch: list[Prepared]) -> list[str]:
        return ["calm"] * len(batch)


def _eight(count: int, fps: float) -> list[int]:
    return media.sampling.linspace(count, 8)


def write_clips(root: Path, count: int) -> list[str]:
    """A data set of so many clips, which are those of the sample again and again.

    Returns the overrides that name it, and this baseline.
    """
    names = [f"clip{number:05}" for number in range(count)]
    write_tables(root, names)
    videos = sorted((SAMPLE / "video").glob("*.mp4"))
    videos = [each for each in videos if (SAMPLE / "audio" / f"{each.stem}.wav").is_file()]
    for folder in ("video", "audio"):
        (root / folder).mkdir()
    for number, name in enumerate(names):
        video = videos[number % len(videos)]
        (root / "video" / f"{name}.mp4").symlink_to(video)
        (root / "audio" / f"{name}.wav").symlink_to(SAMPLE / "audio" / f"{video.stem}.wav")
    return [
        *("baseline=empty", "baseline.name=decoding", f"baseline.adapter={NAME}"),
        *("dataset=ovmerd", f"dataset.root={root}"),
    ]
