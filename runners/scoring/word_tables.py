"""The authors' word tables: which files, where they are published, and how they are read.

Everything that a published score depends on is pinned by checksum; a file with another one is
refused, since one changed row moves every figure.
"""

import csv
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path

from ovmer.baselines.cache import WORD_TABLES, cache_folder
from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.scoring.parsing import string_to_list

EDITIONS = ("mer2025", "mer2026")
"""mer2025: all tables of OV-MER, AffectGPT and MER2025; mer2026: MER2026's tracks. Seventeen rows
of format.csv differ, and with them a score by up to 3.3 points."""

REPOSITORY = "https://raw.githubusercontent.com/zeroQiaoba/MERTools"
COMMIT = "89120b780ab18b28349f0e37dcc12b8cc253cb02"
_2025 = "MER2025/MER2025_Track23/emotion_wheel"
_2026 = "MER2026/MER2026_Track2/emotion_wheel"


@dataclass(frozen=True)
class WordTable:
    """One published file: path under the wheel root, path in the repository, sha256."""

    path: str
    source: str
    sha256: str

    def is_in(self, root: Path) -> bool:
        """Whether `root` holds this file, as published."""
        try:
            return hashlib.sha256((root / self.path).read_bytes()).hexdigest() == self.sha256
        except OSError:
            return False


_FORMS = {
    "mer2025": WordTable(
        "format.csv",
        f"{_2025}/format.csv",
        "ba6de7d61db8e129d1d7ef8a2aae22a9e93a2c2e3e683e6f2735d04455f016f2",
    ),
    "mer2026": WordTable(
        "mer2026/format.csv",
        f"{_2026}/format.csv",
        "82234299875465ecf6c196ace42ffbe745baaeea72b5e39de955af36929982a4",
    ),
}
# The same files in both editions.
_SHARED = tuple(
    WordTable(name, f"{_2025}/{name}", sha256)
    for name, sha256 in {
        "synonym.xlsx": "23f81f9ab1d2418aaf96775304fb5dc52c62bb5d5ef652a97471d045fc9d2e29",
        "wheel1.xlsx": "e70485d354b82a7491ff24648273182a5f4f13f92c76e6b3e4f9033f5e6afcc1",
        "wheel2.xlsx": "acc001e076a8e60440361f58dd8c05ed900c4890c84bb7d8d1df93708a7d9c87",
        "wheel3.xlsx": "d62f30bf88c17c55876634cd088eacaef98278fc25457474364439872f9dbf83",
        "wheel4.xlsx": "660260561b7fe15550f3679a01e7c783608ce3403d4c28db0a88520f68d83aea",
        "wheel5.xlsx": "2dd4595b2cf8e7628ca06a416a8e38ac831614b244f23d1ae613dc34007649f1",
    }.items()
)
TABLES = (*_FORMS.values(), *_SHARED)

WheelRow = tuple[str, str, str]


@dataclass(frozen=True)
class WordRelations:
    """The relations that a vocabulary is compiled from; all words lower-case."""

    forms: Mapping[str, set[str]]
    """Word form -> base words."""
    synonyms: Mapping[str, set[str]]
    """Base word -> wheel words."""
    wheels: tuple[tuple[WheelRow, ...], ...]
    """Wheels 1 to 5, each its rows (level 1, level 2, level 3) in published order."""


def wheel_root() -> Path:
    """The folder that `ovmer fetch wheels` fills by default."""
    return cache_folder(WORD_TABLES)


def is_complete(root: Path) -> bool:
    """Whether `root` holds every table, as published."""
    return all(table.is_in(root) for table in TABLES)


def read_tables(root: Path, edition: str) -> dict[str, bytes]:
    """The verified contents of the seven files of an edition, by file name.

    `root` holds the files as `ovmer fetch` lays them, or is the authors' own folder of that
    edition, if the 2026 format.csv is beside the others.

    Raises PrerequisiteError for a file that is missing or has another checksum.
    """
    forms = _FORMS[edition]
    contents = {table.path: _verified(root / table.path, table) for table in _SHARED}
    beside = root / "format.csv"
    path = root / forms.path
    if not path.exists() and beside.exists():
        path = beside
    return {"format.csv": _verified(path, forms), **contents}


def _verified(path: Path, table: WordTable) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PrerequisiteError(
            f"metric.wheel_root: {path} cannot be read ({error.strerror}); "
            "get the tables with `ovmer fetch wheels`"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != table.sha256:
        raise PrerequisiteError(
            f"metric.wheel_root: {path} is not the published file (sha256 {found[:12]}..., "
            f"expected {table.sha256[:12]}...); get it with `ovmer fetch wheels`"
        )
    return content


def parse_tables(contents: Mapping[str, bytes]) -> WordRelations:
    """Read the files of `read_tables` by the rules of the authors' loaders (wheel.py)."""
    forms: dict[str, set[str]] = {}
    for base, cell in list(csv.reader(StringIO(contents["format.csv"].decode())))[1:]:
        for form in (base, *string_to_list(cell)):
            forms.setdefault(form, set()).add(base)
    synonyms: dict[str, set[str]] = {}
    for row in _sheet(contents["synonym.xlsx"]):
        for word, others in zip(row[::2], row[1::2], strict=True):  # eight runs, side by side
            wheel_word = word.strip().lower()
            for synonym in (wheel_word, *string_to_list(others)):
                synonyms.setdefault(synonym.strip().lower(), set()).add(wheel_word)
    wheels = tuple(_wheel(contents[f"wheel{number}.xlsx"]) for number in range(1, 6))
    return WordRelations(forms, synonyms, wheels)


def _wheel(content: bytes) -> tuple[WheelRow, ...]:
    rows: list[WheelRow] = []
    above: WheelRow = ("", "", "")
    for row in _sheet(content):
        level1, level2, level3 = (
            cell.lower().strip() or old for cell, old in zip(row, above, strict=True)
        )
        above = (level1, level2, level3)
        rows.append(above)
    return tuple(rows)


def _sheet(content: bytes) -> list[list[str]]:
    """The rows below the header of a workbook's first sheet; an empty cell is ""."""
    import openpyxl  # a quarter of a second, and needed only before the vocabulary is cached

    book = openpyxl.load_workbook(BytesIO(content), read_only=True)
    rows = book.worksheets[0].iter_rows(min_row=2, values_only=True)
    return [["" if cell is None else str(cell) for cell in row] for row in rows]
