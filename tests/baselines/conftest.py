"""What the tests of several ports share."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copied(published: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """A copy of the parts of the miniature that a module calls `published`, to be spoiled."""
    folder = next(iter(published.values())).parent
    shutil.copytree(folder, tmp_path / "copy")
    return {name: tmp_path / "copy" / path.name for name, path in published.items()}
