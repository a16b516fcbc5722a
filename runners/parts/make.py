"""Makes missing subtitles and face crops of a job's clips."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ovmer.adapters.base import SUBTITLE, VIDEO
from ovmer.baselines.errors import PrerequisiteError, one_of
from ovmer.runners.config import Settings
from ovmer.runners.data import Clip
from ovmer.runners.explain import to_dataclass
from ovmer.runners.parts import faces
from ovmer.runners.parts.asr import AsrSettings, Listener
from ovmer.runners.parts.faces import FaceFinder
from ovmer.runners.progress import Progress

_AT_ONCE = 4
"""Files read at a time, or requests in flight if a server does the work."""


@dataclass
class FaceSettings:
    """`conf/faces/NAME.yaml`."""

    name: str = "given"
    missing: str = "record"
    """A clip without a face is recorded as such (record), or described from its frames (frame)."""


def identities(settings: Settings, uses: frozenset[str]) -> dict[str, Any]:
    """Keys that generated parts add to a run's identity; `uses` are the baseline's modalities."""
    found: dict[str, Any] = {}
    if VIDEO in uses and _finds_faces(settings):
        found["faces"] = {**faces.IDENTITY, "missing": _face_settings(settings).missing}
    if SUBTITLE in uses and _listens(settings) and settings.subtitle == "prompt":
        found["asr"] = _asr_settings(settings).identity
    return found


def make(settings: Settings, clips: Sequence[Clip], uses: frozenset[str], label: str) -> None:
    """Make what the clips lack; what was made before is not looked at again.

    Raises PrerequisiteError where a package, model or server is missing.
    """
    if VIDEO in uses and _finds_faces(settings):
        finder = FaceFinder(settings.machine.device)
        videos = [clip.video for clip in clips if clip.face is None and clip.video is not None]
        _make(finder, videos, f"{label}: faces")
    if _listens(settings):
        asr = _asr_settings(settings)
        listener = Listener(asr)
        sounds = [clip.audio for clip in clips if clip.audio and _is_heard(asr, clip)]
        _make(listener, sounds, f"{label}: subtitles")


def _make(maker: FaceFinder | Listener, files: Sequence[Path], label: str) -> None:
    """Make the parts of each file once; the next files are read while the model is at work."""
    todo = [file for file in dict.fromkeys(files) if maker.cache.find(file) is None]
    if not todo:
        return
    with Progress(len(todo), label) as progress, ThreadPoolExecutor(_AT_ONCE, "parts") as pool:
        try:
            for _ in pool.map(maker.make, todo):
                progress.add()
        finally:
            pool.shutdown(cancel_futures=True)
            maker.close()


def with_parts(settings: Settings, clips: Sequence[Clip], uses: frozenset[str]) -> Sequence[Clip]:
    """The clips with what was made for them so far, for a baseline that uses so much."""
    if _listens(settings):
        asr = _asr_settings(settings)
        listener = Listener(asr)
        clips = [_with_words(listener, asr, clip) for clip in clips]
    if VIDEO in uses and _finds_faces(settings):
        finder, missing = FaceFinder(), _face_settings(settings).missing
        clips = [_with_face(finder, missing, clip) for clip in clips]
    return clips


def _with_words(listener: Listener, asr: AsrSettings, clip: Clip) -> Clip:
    if clip.audio is None or not _is_heard(asr, clip):
        return clip
    heard = listener.cache.find(clip.audio)
    if heard is None:
        return clip
    if heard["text"] is None:
        note = f"no subtitle could be heard by {asr.name}: {heard['error']}"
        return replace(clip, notes=(*clip.notes, note))
    language = f" ({heard['language']})" if heard["language"] else ""
    note = f'the subtitle was heard by {asr.name}{language}: "{heard["text"]}"'
    return replace(clip, subtitle=heard["text"], notes=(*clip.notes, note))


def _with_face(finder: FaceFinder, missing: str, clip: Clip) -> Clip:
    if clip.face is not None or clip.video is None:
        return clip
    seen = finder.cache.find(clip.video)
    if seen is None:  # not made yet, as while a sweep is planned: its path is known
        return replace(clip, face=finder.file(clip.video))
    if not seen["crops"]:
        if missing == "frame" and "error" not in seen:
            note = "no face was found, so whole frames are shown"
            return replace(clip, face=clip.video, notes=(*clip.notes, note))
        why = seen.get("error", "faces.missing=frame shows whole frames then")
        return replace(clip, notes=(*clip.notes, f"no face was found in its video: {why}"))
    notes = clip.notes
    if seen["most"] > 1:
        notes = (*notes, f"up to {seen['most']} faces in a frame; the largest is shown")
    if seen["crops"] < seen["frames"] / 2:
        notes = (*notes, f"a face was found in {seen['crops']} of {seen['frames']} frames")
    return replace(clip, face=finder.file(clip.video), notes=notes)


def _is_heard(asr: AsrSettings, clip: Clip) -> bool:
    return asr.clips == "all" or not (clip.subtitle or "").strip()


def _listens(settings: Settings) -> bool:
    return settings.asr.get("name", "none") != "none"


def _finds_faces(settings: Settings) -> bool:
    if settings.faces.get("name", "given") == "given":
        return False
    if settings.dataset.get("visual") != "face":
        raise PrerequisiteError("faces=detect is for crops of faces; add dataset.visual=face")
    return True


def _asr_settings(settings: Settings) -> AsrSettings:
    return to_dataclass(AsrSettings, settings.asr, "asr")


def _face_settings(settings: Settings) -> FaceSettings:
    found = to_dataclass(FaceSettings, settings.faces, "faces")
    one_of("faces.missing", found.missing, ("record", "frame"))
    return found
