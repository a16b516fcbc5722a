"""Options of the test run."""

import os
from pathlib import Path

import pytest

# Miniatures gain nothing from a second thread, and test processes share the cores. Set before
# torch is imported, here and in the child processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-root",
        type=Path,
        default=Path(__file__).parent / "golden",
        help="folder with one folder of golden data per model (default: tests/golden)",
    )
