"""Clip's name -> its file, by patterns; each folder is listed once.

The rules, in order: the exact name; the same name in other case or another Unicode normal form
(macOS); the same name with another ending, or with the ending in the table. A folder inside a
folder of the same name (`video/video/`), as some archives unpack, is looked into as well. Two files
that answer to one looser rule are an error that names both.
"""

import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ovmer.baselines.errors import PrerequisiteError

ENDINGS = {
    "video": frozenset(
        ".mp4 .mkv .mov .avi .webm .m4v .mpg .mpeg .ts .mts .m2ts .wmv .flv .3gp .ogv".split()
    ),
    "audio": frozenset(".wav .mp3 .m4a .flac .ogg .opus .aac .wma".split()),
    "face": frozenset({".npy"}),
}
_ANY_ENDING = frozenset().union(*ENDINGS.values())


class Finder:
    """Index of one kind of media below `root`."""

    def __init__(
        self,
        root: Path,
        kind: str,
        patterns: Sequence[str],
        check: bool,
        *,
        folder_may_lack: bool = False,
    ) -> None:
        """Without `check` nothing is listed. Raises PrerequisiteError for a pattern or a folder."""
        self._root = root
        self._check = check
        self._endings = ENDINGS[kind]
        self._patterns: list[str] = []
        self._folders: dict[str, _Folder] = {}
        for pattern in patterns:
            if "{name}" not in pattern:
                raise PrerequisiteError(f"dataset.{kind}: {pattern!r} lacks {{name}}")
            self._patterns.append(pattern)
            folder = _folder_of(pattern)
            if not check or folder in self._folders:
                continue
            self._folders[folder] = _Folder(_listing(root / folder, kind, folder_may_lack))
        for pattern in list(self._patterns) if check else []:
            self._add_nested(pattern, kind)

    def _add_nested(self, pattern: str, kind: str) -> None:
        folder = _folder_of(pattern)
        inner = folder.rpartition("/")[2]
        nested = f"{folder}/{inner}"
        if inner and inner in self._folders[folder].names and (self._root / nested).is_dir():
            self._folders.setdefault(nested, _Folder(_listing(self._root / nested, kind, True)))
            self._patterns.append(nested + pattern[len(folder) :])

    def find(self, name: str) -> Path | None:
        """The first pattern's file that is there (unchecked: the first pattern's).

        Raises PrerequisiteError where two files answer to a looser rule.
        """
        for pattern in self._patterns:
            path = pattern.replace("{name}", name)
            if not self._check or self._is_there(pattern, path):
                return self._root / path
        return self._find_loosely(name) if self._check else None

    def _find_loosely(self, name: str) -> Path | None:
        for key_of in (_alike, _without_ending):
            found: set[Path] = set()
            for pattern in self._patterns:
                folder = _folder_of(pattern)
                entry, _, below = _below(pattern, folder).partition("/")
                if key_of is _without_ending and below:
                    continue
                wanted = key_of(entry.replace("{name}", name))
                if key_of is _without_ending:
                    wanted = key_of(name)
                for actual in self._folders[folder].alike(key_of, wanted):
                    stem = actual if below else ""
                    path = self._root / folder / actual / below.replace("{name}", stem)
                    is_kind = key_of is _alike or path.suffix.lower() in self._endings
                    if is_kind and path.is_file():
                        found.add(path)
                if found:
                    break
            if len(found) > 1:
                both = " and ".join(str(each.relative_to(self._root)) for each in sorted(found)[:2])
                raise PrerequisiteError(
                    f"clip {name!r} could be {both} in {self._root}; rename one of them, or name "
                    "it in the table as on disk"
                )
            if found:
                return found.pop()
        return None

    def _is_there(self, pattern: str, path: str) -> bool:
        folder = _folder_of(pattern)
        entry, _, below = path[len(folder) :].lstrip("/").partition("/")
        if entry not in self._folders[folder].names:
            return False
        return not below or (self._root / path).is_file()


class _Folder:
    """The names in a folder, and which of them are alike by a rule."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names
        self._alike: dict[Any, dict[str, list[str]]] = {}

    def alike(self, key_of: Any, wanted: str) -> list[str]:
        if key_of not in self._alike:
            groups: dict[str, list[str]] = {}
            for name in self.names:
                groups.setdefault(key_of(name), []).append(name)
            self._alike[key_of] = groups
        return self._alike[key_of].get(wanted, [])


def looser_matches(
    root: Path, patterns: Mapping[str, Sequence[str]], files: Iterable[tuple[str, str, Path]]
) -> Iterator[str]:
    """Sentences on files that matched only a looser rule: (kind, clip's name, file) each.

    Patterns without `{name}` name a file by a column of its row, which is no looser rule.
    """
    found: dict[str, list[tuple[str, Path]]] = {}
    for kind, name, path in files:
        expected = [pattern.replace("{name}", name) for pattern in patterns[kind]]
        if expected == list(patterns[kind]):
            continue
        actual = path.relative_to(root).as_posix()
        if actual in expected:
            continue
        is_alike = _alike(path.name) in {_alike(each.rpartition("/")[2]) for each in expected}
        rule = "in other case or Unicode form" if is_alike else "with another ending"
        if path.name in {each.rpartition("/")[2] for each in expected}:
            rule = "one folder further down"
        found.setdefault(f"{kind} files were found {rule}", []).append((name, path))
    for what, matches in found.items():
        name, path = matches[0]
        yield f"{len(matches)} {what}, e.g. {path.relative_to(root)} for {name!r}"


def _folder_of(pattern: str) -> str:
    return pattern.partition("{name}")[0].rpartition("/")[0]


def _below(pattern: str, folder: str) -> str:
    return pattern[len(folder) :].lstrip("/")


def _alike(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _without_ending(name: str) -> str:
    stem, ending = os.path.splitext(_alike(name))
    return stem if ending in _ANY_ENDING else _alike(name)


def _listing(folder: Path, kind: str, may_lack: bool) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries)
    except OSError as error:
        if may_lack:
            return frozenset()
        raise PrerequisiteError(
            f"the data set should have a folder {folder} ({error.strerror}); "
            f"set dataset.{kind}=[] to go without"
        ) from error
