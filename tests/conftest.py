"""Options of the test run."""

import gc
import os
from pathlib import Path

import pytest

# Miniatures gain nothing from a second thread, and test processes share the cores. Set before
# torch is imported, here and in the child processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

TESTS = Path(__file__).parent
LONGEST = (
    "extraction/test_vllm.py",
    "baselines/test_vllm.py",
    "test_golden.py",
    "test_readme.py",
    "runners/test_sweep.py",
    "adapters/test_native.py",
    "test_golden_training.py",
    "adapters/test_native_as_documented.py",
    "runners/test_submit.py",
    "training/test_command.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest go first, so that no process is left alone with one."""
    place = {TESTS / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(LONGEST)))


def pytest_collection_finish() -> None:
    """What was imported lives to the end: the collector need not walk over it again and again."""
    gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-root",
        type=Path,
        default=TESTS / "golden",
        help="folder with one folder of golden data per model (default: tests/golden)",
    )
    for option, content in (
        ("--golden-tokens-root", "ids of prompts by the authors' code"),
        ("--tokenizers-root", "the published tokenizers"),
    ):
        parser.addoption(
            option, type=Path, default=None, help=f"folder with {content} (default: none; skipped)"
        )
    parser.addoption(
        "--golden-training-root",
        type=Path,
        default=TESTS / "golden_training",
        help="folder of golden training data, or of such folders (default: tests/golden_training)",
    )
    parser.addoption(
        "--golden-metrics-root",
        type=Path,
        default=TESTS / "golden_metrics",
        help="folder with the golden files of the benchmarks' metrics (default: "
        "tests/golden_metrics)",
    )
