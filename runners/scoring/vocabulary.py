"""A label -> the twelve things it counts as: word form, synonym, and a group on each wheel.

The rules are those of the OV-MER papers (AffectGPT repository, OV-MER/wheel.py):

* M1, word form: the alphabetically first base word of the label.
* M2, synonym: the alphabetically first wheel word of *that* base word.
* M3-Wk-Ll, wheel k at level l: the wheel words of *all* base words in alphabetical order; the
  first that is on wheel k gives the group.

A label that leads nowhere is dropped. "Alphabetical" is the order of code points.

Compiling the published tables takes a second, so the result is kept in the user's cache, keyed by
the checksums of the tables; it is plain JSON, and a damaged one is made anew.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ovmer.baselines.cache import VOCABULARIES, cache_folder
from ovmer.baselines.errors import PrerequisiteError
from ovmer.baselines.words import wheel_rows, wheel_words
from ovmer.runners.scoring.word_tables import (
    EDITIONS,
    WheelRow,
    WordRelations,
    is_complete,
    parse_tables,
    read_tables,
    wheel_root,
)

WHEELS = range(1, 6)
LEVELS = (1, 2)
MAPPINGS = ("M1", "M2", *(f"M3-W{wheel}-L{level}" for wheel in WHEELS for level in LEVELS))
"""The twelve mappings, in the order of the columns of `Vocabulary.codes`."""

SHIPPED = "shipped"
UNKNOWN = 0
"""The row of a label that is not in the vocabulary."""

_LONGEST_WORD = 40  # letters; what is longer is no word of a dictionary
# Regular derivations, which a lemmatiser leaves alone: happiness, sadly, excitement, frustration.
_ENDINGS = (("ness", ""), ("ly", ""), ("ment", ""), ("ion", ""), ("ion", "e"))
_FORMAT = 1  # of the compiled file; raise it when the rules or the layout change


@dataclass(frozen=True)
class Vocabulary:
    """Compiled tables. Labels that count as the same under all twelve mappings share a row."""

    name: str
    """`mer2025`, `mer2026` or `shipped`."""
    rows: Mapping[str, int]
    """Word form -> row; what is not there is UNKNOWN."""
    codes: npt.NDArray[np.int16]
    """(rows x 12): index into `groups` of that mapping, -1 where the label is dropped."""
    groups: tuple[tuple[str, ...], ...]
    """For each mapping, the words it maps to, sorted."""
    stems: Callable[[str], tuple[str, ...]] | None = None
    """Other spellings under which to look a label up; only the shipped vocabulary has it."""

    @property
    def comparable(self) -> bool:
        """Whether figures may be set beside those of the papers."""
        return self.name in EDITIONS

    def row(self, label: str) -> int:
        """The row of a label, looked up exactly as written (so lower-case it first)."""
        row = self.rows.get(label, UNKNOWN)
        if row == UNKNOWN and self.stems is not None:
            found = (self.rows[stem] for stem in self.stems(label) if stem in self.rows)
            row = next(found, UNKNOWN)
        return row

    def group(self, label: str, mapping: str) -> str:
        """Group of `label` under one of MAPPINGS; "" if it is dropped."""
        column = MAPPINGS.index(mapping)
        code = int(self.codes[self.row(label), column])
        return "" if code < 0 else self.groups[column][code]


def load_vocabulary(root: str | Path = "auto", edition: str = "mer2025") -> Vocabulary:
    """The vocabulary of an edition from the tables in `root`.

    `shipped` is the small one of this package; `auto` is the folder that `ovmer fetch` fills
    where it is complete, else `shipped`.

    Raises PrerequisiteError for an unknown edition and for tables that are missing or changed.
    """
    if edition not in EDITIONS:
        raise PrerequisiteError(
            f"metric.edition is {edition!r}; choose one of {', '.join(EDITIONS)}"
        )
    if str(root) == "auto":
        root = wheel_root() if is_complete(wheel_root()) else SHIPPED
    if str(root) == SHIPPED:
        return _shipped()
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise PrerequisiteError(
            f"metric.wheel_root: there is no folder {folder}; fill one with "
            "`ovmer fetch wheels`, or say auto or shipped"
        )
    contents = read_tables(folder, edition)
    made_from = [contents[name] for name in sorted(contents)]
    return _vocabulary(edition, _compiled(edition, made_from, lambda: parse_tables(contents)))


def _compiled(
    name: str, made_from: list[bytes], words: Callable[[], WordRelations]
) -> dict[str, Any]:
    """The compiled tables out of the user's cache, or made and put there."""
    digest = hashlib.sha256(str(_FORMAT).encode())
    for content in made_from:
        digest.update(hashlib.sha256(content).digest())
    path = cache_folder(VOCABULARIES) / f"{name}-{digest.hexdigest()[:16]}.json"
    compiled = _read_compiled(path)
    if compiled is None:
        compiled = _compile(words())
        _write_compiled(path, compiled)
    return compiled


def _vocabulary(
    name: str, compiled: dict[str, Any], stems: Callable[[str], tuple[str, ...]] | None = None
) -> Vocabulary:
    codes = np.array(compiled["codes"], dtype=np.int16)
    groups = tuple(tuple(words) for words in compiled["groups"])
    return Vocabulary(name, compiled["rows"], codes, groups, stems)


def _compile(words: WordRelations) -> dict[str, Any]:
    """The tables as {rows: form -> row, codes: rows x 12, groups: 12 lists of words}."""
    wheels = [_wheel_maps(rows) for rows in words.wheels]
    targets = {form: _targets(bases, words, wheels) for form, bases in words.forms.items()}
    groups = [sorted({target[m] for target in targets.values()} - {""}) for m in range(12)]
    index = [{"": -1} | {word: code for code, word in enumerate(column)} for column in groups]
    rows: dict[str, int] = {}
    codes: dict[tuple[int, ...], int] = {(-1,) * 12: UNKNOWN}
    for form in sorted(targets):
        code = tuple(index[m][target] for m, target in enumerate(targets[form]))
        rows[form] = codes.setdefault(code, len(codes))
    return {"rows": rows, "codes": list(codes), "groups": groups}


def _targets(
    bases: set[str], words: WordRelations, wheels: list[list[dict[str, str]]]
) -> tuple[str, ...]:
    """Groups of one word form under the twelve mappings; "" = dropped."""
    first = min(bases)
    wheel_words = sorted({word for base in bases for word in words.synonyms[base]})
    on_wheels = [
        next((level[word] for word in wheel_words if word in level), "")
        for wheel in wheels
        for level in wheel
    ]
    return (first, min(words.synonyms[first]), *on_wheels)


def _wheel_maps(rows: tuple[WheelRow, ...]) -> list[dict[str, str]]:
    """A wheel's words -> their level-1 group, and -> their level-2 group.

    A word may be listed several times: the last one wins, in the order of first appearance of
    the level-1 words and, inside them, of the level-2 words.
    """
    tree: dict[str, dict[str, list[str]]] = {}
    for level1, level2, level3 in rows:
        tree.setdefault(level1, {}).setdefault(level2, []).append(level3)
    to_level1: dict[str, str] = {}
    to_level2: dict[str, str] = {}
    for level1, branches in tree.items():
        for level2, leaves in branches.items():
            to_level1 |= dict.fromkeys([level1, level2, *leaves], level1)
            to_level2 |= {level1: min(branches)} | dict.fromkeys([level2, *leaves], level2)
    return [to_level1, to_level2]


def _read_compiled(path: Path) -> dict[str, Any] | None:
    try:
        compiled = json.loads(path.read_text(encoding="utf-8"))
        return compiled if compiled.keys() == {"rows", "codes", "groups"} else None
    except (OSError, ValueError, AttributeError):
        return None


def _write_compiled(path: Path, compiled: dict[str, Any]) -> None:
    """Keep the compiled tables; a cache that cannot be written costs time, no more."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        with open(handle, "w", encoding="utf-8") as file:
            json.dump(compiled, file, ensure_ascii=False, separators=(",", ":"))
        os.replace(name, path)
    except OSError:
        pass


@cache
def _shipped() -> Vocabulary:
    """The five wheels as published, word forms by lemmatiser, no synonyms."""
    made_from = [repr(wheel_rows()).encode(), version("simplemma").encode()]
    return _vocabulary(SHIPPED, _compiled(SHIPPED, made_from, _shipped_words), _stems)


def _shipped_words() -> WordRelations:
    forms: dict[str, set[str]] = {}
    for word in wheel_words():
        for form in (word, *_stems(word)):
            forms.setdefault(form, set()).add(word)
    return WordRelations(forms, {word: {word} for word in wheel_words()}, wheel_rows())


def _stems(label: str) -> tuple[str, ...]:
    """Other words under which to look a single English word up: worries -> worry."""
    if not (label.isascii() and label.isalpha() and len(label) <= _LONGEST_WORD):
        return ()
    import simplemma  # a fifth of a second with its dictionary

    lemma = simplemma.lemmatize(label, "en")
    stems = [lemma]
    for ending, instead in _ENDINGS:
        if lemma.endswith(ending):
            stem = lemma.removesuffix(ending) + instead
            stems.append(stem.removesuffix("i") + "y" if stem.endswith("i") else stem)
    return tuple(stems)
