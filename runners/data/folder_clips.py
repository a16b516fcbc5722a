"""A folder of media files -> clips: the ones that end as videos or sound files do."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.data.finder import ENDINGS
from ovmer.runners.data.settings import Clip, DatasetSettings, select
from ovmer.runners.table_files import READERS

_SHOWN = 5


def read_folder_clips(root: Path, wanted: DatasetSettings) -> tuple[list[Clip], list[str]]:
    """The clips below a folder, and what was understood, as parts of one sentence.

    Raises PrerequisiteError where there is no video and no sound.
    """
    files = sorted(_walk(root))
    videos = [each for each in files if each.suffix.lower() in ENDINGS["video"]]
    sounds = {each for each in files if each.suffix.lower() in ENDINGS["audio"]}
    media = ENDINGS["video"] | ENDINGS["audio"]
    others = [each for each in files if each.suffix.lower() not in media]
    if not videos and not sounds:
        raise PrerequisiteError(_without_media(root, others))
    by_stem = {each.with_suffix(""): each for each in sorted(sounds)}
    twice = Counter(each.with_suffix("") for each in videos)
    clips: dict[Path, Clip] = {}
    for video in videos:
        stem = video.with_suffix("")
        # Of two videos called alike neither owns the sound beside them.
        sound = by_stem.get(stem) if twice[stem] == 1 else None
        sounds.discard(sound or root)
        clips[video] = Clip("", video, sound or video, None, None, ())
    for sound in sounds:
        clips[sound] = Clip("", None, sound, None, None, ())
    paths = sorted(clips)
    named = dict(zip(names_after([each.relative_to(root) for each in paths]), paths, strict=True))
    kept = select(list(named), wanted)
    understood = [f"{len(videos)} videos", f"{len(sounds)} sound files alone"][: 1 + bool(sounds)]
    deeper = sum(each.parent != root for each in paths)
    if deeper:
        understood.append(f"{deeper} of them in subfolders")
    understood.append("no subtitles and no truth, so labels are counted and not scored")
    if others:
        understood.append(f"{len(others)} other files left aside ({_endings(others)})")
    return [replace(clips[named[name]], name=name) for name in kept], understood


def _walk(root: Path) -> Iterator[Path]:
    """Every file below a folder; links are followed, hidden files and folders are not."""
    seen: set[tuple[int, int]] = set()
    for folder, below, names in os.walk(root, followlinks=True):
        stat = os.stat(folder)
        if (stat.st_dev, stat.st_ino) in seen:  # a link to a folder above
            below.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        below[:] = [each for each in below if not each.startswith(".")]
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def _without_media(root: Path, others: Sequence[Path]) -> str:
    if not others:
        return f"clips={root} is an empty folder; put videos or sound files into it"
    tables = [each for each in others if each.suffix.lower() in READERS]
    hint = f"; if a table names the clips, say clips={tables[0]}" if tables else ""
    return (
        f"clips={root} holds {len(others)} files ({_endings(others)}), but no video "
        f"({', '.join(sorted(ENDINGS['video']))}) and no sound file{hint}"
    )


def _endings(files: Sequence[Path]) -> str:
    counts = Counter(each.suffix.lower() or "without ending" for each in files)
    more = ", ..." if len(counts) > _SHOWN else ""
    return ", ".join(ending for ending, _ in counts.most_common(_SHOWN)) + more


def names_after(paths: Sequence[Path]) -> list[str]:
    """A name for each path: without the ending where that is unique, numbered where need be."""
    plain = [each.with_suffix("").as_posix() for each in paths]
    files = {plain_name: set[Path]() for plain_name in plain}
    for name, path in zip(plain, paths, strict=True):
        files[name].add(path)
    used, names = Counter[str](), []
    for name, path in zip(plain, paths, strict=True):
        name = name if len(files[name]) == 1 else path.as_posix()
        used[name] += 1
        names.append(name if used[name] == 1 else f"{name}-{used[name]}")
    return names
