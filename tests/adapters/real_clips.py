"""The clips of ../shared/clips and ../shared/bad_clips, asked about as a sweep would.

What of them cannot be used hangs on the files, hardly on the model.
"""

import csv
from collections.abc import Collection

import pytest

from ovmer.adapters.base import AUDIO, VIDEO, Answer
from ovmer.adapters.mllm import Mllm
from ovmer.baselines.errors import ClipError
from tests.adapters.media_files import SHARED

WITHOUT_PICTURE = {
    "clips": set[str](),
    # `sound_only` has a video file without a picture; the others cannot be read.
    "bad_clips": {"empty_file", "sound_only", "text_file", "truncated"},
}
WITHOUT_SOUND = {
    "clips": {"batting", "birthday", "silence_girl"},
    "bad_clips": {"empty_file", "header_only", "silent", "text_file"},
}
# Neither picture nor sound can be read, or one of them is broken.
WITHOUT_EITHER = {
    "clips": set[str](),
    "bad_clips": {"empty_file", "header_only", "text_file", "truncated"},
}


def ask_about(
    which: str, model: Mllm, uses: Collection[str] = (VIDEO,), *, most: int | None = None
) -> set[str]:
    """Ask a model about the clips of a folder; the names of those whose files it could not use.

    The others must be answered, or with `most` those with the shortest prompts; a clip without a
    file of the kinds that the model uses must be refused.
    """
    folder = SHARED / which / "mer2025-dataset"
    if not folder.is_dir():
        pytest.skip("the real clips are not beside this checkout")
    with (folder / "subtitle_chieng.csv").open(newline="", encoding="utf-8") as file:
        subtitles = {row["name"]: row["english"] for row in csv.DictReader(file)}
    pictures, sounds = (
        {path.stem: path for path in (folder / kind).iterdir()} for kind in (VIDEO, AUDIO)
    )
    sounds = pictures | sounds  # a video's own sound, where there is no other
    absent, failed, items = set(), set(), []
    for name in sorted(subtitles.keys() | sounds.keys()):
        video = pictures.get(name) if VIDEO in uses else None
        audio = sounds.get(name) if AUDIO in uses else None
        if video is None and audio is None:
            absent.add(name)
        try:
            items.append(model.prepare(video, audio, subtitles.get(name)))
        except ClipError:
            failed.add(name)
    assert failed >= absent
    # In order of length, so that filling up to the longest costs little.
    items = sorted(items, key=lambda item: item.tokens)[:most]
    for start in range(0, len(items), 8):
        answers = model.generate(items[start : start + 8])
        assert all(isinstance(answer, Answer) for answer in answers)
    return failed - absent
