"""What the scorer's tests read. The authors' tables and outputs are not ours to ship, so tests
that need them look beside the project and are skipped, with the reason, where they are absent."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ovmer.runners.scoring.word_tables import wheel_root
from tests import ROOT

SHARED = ROOT / ".." / "shared"
CASES = ROOT / "tests" / "golden" / "scorer" / "cases.json"
EDITIONS = ("mer2025", "mer2026")

# Before the cache is moved: what `ovmer fetch wheels` has brought.
_FETCHED = wheel_root()


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither read nor fill the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def cases() -> dict[str, Any]:
    """Invented samples with the figures of the authors' code (tests/golden/scorer)."""
    found: dict[str, Any] = json.loads(CASES.read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="session")
def official() -> str:
    """The folder of the authors' word tables."""
    for folder in (SHARED / "emotion_wheel", _FETCHED):
        if (folder / "synonym.xlsx").is_file():
            return str(folder.resolve())
    pytest.skip("the authors' word tables are absent: get them with `ovmer fetch wheels`")


@pytest.fixture(scope="session")
def replay() -> dict[str, Any]:
    """The authors' released outputs, with true labels that belong to other data sets."""
    path = SHARED / "golden" / "scorer" / "replay.json"
    if not path.is_file():
        pytest.skip("replay.json is absent: it holds labels of others and is not shipped")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="session")
def mer2024_ov() -> Path:
    """MER2024's open-vocabulary example: predictions, truth, recorded groups."""
    folder = SHARED / "mer2024_ov"
    if not folder.is_dir():
        pytest.skip("MER2024's example is absent: it holds labels of others and is not shipped")
    return folder.resolve()


def read_openset(path: Path) -> dict[str, str]:
    """A csv of the authors by the standard library alone."""
    with path.open(encoding="utf-8", newline="") as file:
        return {row["name"]: row["openset"] for row in csv.DictReader(file)}
