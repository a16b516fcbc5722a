"""Checks a data set: counts its clips and opens their files (first frame only)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

from tabulate import tabulate

from ovmer.runners.data.finder import Finder
from ovmer.runners.data.probe import Probe, probe
from ovmer.runners.data.reader import dataset_root, read_dataset
from ovmer.runners.data.settings import Clip
from ovmer.runners.progress import Progress

_KINDS = ("video", "audio", "face")
_SHOWN = 5  # names behind each count
_IN_VIDEO = "without a file of its own, but the video has sound"
_GRAVE = ("missing", "unreadable")


@dataclass
class DatasetCheck:
    """Counts and gaps of one data set."""

    name: str
    root: Path
    clips: int
    expected: int | None
    is_labelled: bool = True
    """False of a challenge's candidates, whose labels nobody has."""
    seconds: float = 0.0
    files: dict[str, int] = field(default_factory=dict)
    """Kind -> files that can be read."""
    with_sound: set[str] = field(default_factory=set)
    """The clips whose video has a sound track."""
    gaps: list[tuple[str, str, str, str]] = field(default_factory=list)
    """(clip, kind, missing | unreadable | without ..., what exactly)"""

    @property
    def is_whole(self) -> bool:
        short = self.expected is not None and self.clips < self.expected
        return not short and not any(what in _GRAVE for _, _, what, _ in self.gaps)

    def add(self, clip: str, kind: str, what: str, detail: str = "") -> None:
        self.gaps.append((clip, kind, what, detail))


def check(settings: Mapping[str, Any], workers: int) -> DatasetCheck:
    """Probe the files of one data set (keys of `DatasetSettings`).

    Raises PrerequisiteError where its tables cannot be read.
    """
    rows = settings.get("rows") or {}
    clips = read_dataset({**settings, "check_files": bool(rows.get("file"))})
    labels = settings["labels"]
    expected = labels.get("expected")
    if rows.get("file"):
        expected = rows["expected"].get(rows["fold"])
    if settings.get("limit") or settings.get("clips"):
        expected = None
    root = dataset_root(settings)
    report = DatasetCheck(
        settings["name"], root, len(clips), expected, labels["column"] is not None
    )
    if settings.get("source"):
        _look_at_own(report, clips, workers, settings["columns"])
        return report
    for kind in _KINDS:
        patterns = settings[kind]
        report.files[kind] = 0
        if rows.get("file"):  # the row's own column names it
            if patterns:
                _probe_all(report, kind, clips, workers, attrgetter(kind))
            continue
        folders = {root / pattern.partition("{name}")[0] for pattern in patterns}
        if kind == "face" and not any(folder.is_dir() for folder in folders):
            patterns = []  # only dataset.visual=face needs them
        if patterns:
            finder = Finder(root, kind, patterns, True, folder_may_lack=True)
            _probe_all(report, kind, clips, workers, partial(_by_name, finder))
    if not rows.get("file") or rows.get("subtitle"):
        _look_at_subtitles(report, clips)
    else:
        report.files["subtitle"] = 0
    _look_at_labels(report, clips)
    return report


def _look_at_own(
    report: DatasetCheck, clips: Sequence[Clip], workers: int, columns: Mapping[str, str]
) -> None:
    """Clips of the user's own: a missing medium is no gap unless a column names it."""
    for kind in _KINDS:
        own = [clip for clip in clips if getattr(clip, kind) is not None]
        if kind == "audio":  # a video's own sound was looked at with the video
            for clip in own:
                if clip.audio == clip.video and clip.name in report.with_sound:
                    report.add(clip.name, kind, _IN_VIDEO)
            own = [clip for clip in own if clip.audio != clip.video]
        report.files[kind] = 0
        _probe_all(report, kind, own, workers, attrgetter(kind))
    if "subtitle" in columns:
        _look_at_subtitles(report, clips)
    else:
        report.files["subtitle"] = 0
    _look_at_labels(report, clips)


def _by_name(finder: Finder, clip: Clip) -> Path | None:
    return finder.find(clip.name)


def _probe_all(
    report: DatasetCheck,
    kind: str,
    clips: Sequence[Clip],
    workers: int,
    find: Callable[[Clip], Path | None],
) -> None:
    def look(clip: Clip) -> Probe | None:
        found = find(clip)
        return None if found is None or not found.exists() else probe(found)

    with ThreadPoolExecutor(workers) as pool, Progress(len(clips), kind) as progress:
        for clip, seen in zip(clips, pool.map(look, clips), strict=True):
            progress.add()
            if seen is None and kind == "audio" and clip.name in report.with_sound:
                report.add(clip.name, kind, _IN_VIDEO)
            elif seen is None:
                report.add(clip.name, kind, "missing")
            elif seen.problem is not None:
                report.add(clip.name, kind, "unreadable", seen.problem)
            else:
                report.files[kind] += 1
                if kind == "video":
                    report.seconds += seen.seconds
                    if seen.has_sound:
                        report.with_sound.add(clip.name)
                    if not seen.has_picture:
                        report.add(clip.name, kind, "without picture")
                if kind == "audio" and not seen.has_sound:
                    report.add(clip.name, kind, "without sound")


def _look_at_subtitles(report: DatasetCheck, clips: Sequence[Clip]) -> None:
    for clip in clips:
        if not (clip.subtitle or "").strip():
            report.add(clip.name, "subtitle", "without text")


def _look_at_labels(report: DatasetCheck, clips: Sequence[Clip]) -> None:
    for clip in clips:
        if report.is_labelled and not clip.labels:
            report.add(clip.name, "labels", "without any")


def text(report: DatasetCheck) -> str:
    """The report to read: counts, and the first names behind each."""
    expected = "" if report.expected is None else f" of {report.expected:,} expected"
    minutes = report.seconds / 60
    length = f"{minutes / 60:.1f} h" if minutes >= 60 else f"{minutes:.1f} min"
    head = f"{report.name}: {report.clips:,} clips{expected}, {length} of video in {report.root}"
    rows = []
    for kind in (*_KINDS, "subtitle", *(["labels"] if report.is_labelled else [])):
        gaps = [gap for gap in report.gaps if gap[1] == kind]
        found = report.files.get(kind, report.clips - len(gaps))
        rows.append([kind, f"{found:,}", *_counts(gaps)])
    table = tabulate(
        rows,
        ["", "found", "missing", "unreadable", "without"],
        colalign=["left", *["right"] * 4],
        disable_numparse=True,
    )
    none = [] if report.is_labelled else ["- labels: none, these are clips to be predicted"]
    return "\n".join([head, "", table, *none, *_names(report)])


def _counts(gaps: Sequence[tuple[str, str, str, str]]) -> list[str]:
    whats = [what for _, _, what, _ in gaps]
    numbers = [whats.count("missing"), whats.count("unreadable")]
    return [f"{number:,}" if number else "" for number in (*numbers, len(whats) - sum(numbers))]


def _names(report: DatasetCheck) -> Iterator[str]:
    groups: dict[tuple[str, str], list[str]] = {}
    for clip, kind, what, detail in report.gaps:
        groups.setdefault((kind, what), []).append(clip + (f" ({detail})" if detail else ""))
    for (kind, what), names in groups.items():
        more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
        yield f"- {kind} {what}: {', '.join(names[:_SHOWN])}{more}"
