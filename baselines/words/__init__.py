"""The words that ship with the package: five emotion wheels, and a list of word forms.

`wheels.csv` (wheel, level1, level2, level3; lower-case; rows in the order of the published tables,
on which the group of a word listed twice depends) holds the words of the five wheels that the
OV-MER papers score with: MERTools, MER2025/MER2025_Track23/emotion_wheel/wheel1-5.xlsx, commit
89120b7, Apache License 2.0. The authors' word forms and synonyms are not here, so figures from the
shipped vocabulary cannot be set beside those of the papers.

`emotions.csv` (label, its other forms) is our own list, which `lexicon` finds in a text.
"""

import csv
from functools import cache
from importlib.resources import files


@cache
def wheel_rows() -> tuple[tuple[tuple[str, str, str], ...], ...]:
    """Wheels 1 to 5, each as its rows (level 1, level 2, level 3) in published order."""
    wheels: dict[str, list[tuple[str, str, str]]] = {}
    text = files(__name__).joinpath("wheels.csv").read_text(encoding="utf-8")
    for wheel, level1, level2, level3 in list(csv.reader(text.splitlines()))[1:]:
        wheels.setdefault(wheel, []).append((level1, level2, level3))
    return tuple(tuple(rows) for rows in wheels.values())


@cache
def wheel_words() -> frozenset[str]:
    """Every word of the five wheels at any level, lower-case; some are phrases ("let down")."""
    return frozenset(word for rows in wheel_rows() for row in rows for word in row)
