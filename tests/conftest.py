"""Options of the test run."""

import os
import sys
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
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest go first, so that no process is left alone with one."""
    place = {TESTS / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(LONGEST)))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-root",
        type=Path,
        default=TESTS / "golden",
        help="folder with one folder of golden data per model (default: tests/golden)",
    )


VLLM = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}
"""Environment of vLLM's engines and servers on two shared cores."""


@pytest.fixture
def vllm_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines of vLLM start here in 3 s; in processes of their own, its default, in 28 s."""
    for name, value in {**VLLM, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}.items():
        monkeypatch.setenv(name, value)
    # vLLM 0.32 asks every value of every module for its __dict__, and the library object of
    # llvmlite (which librosa loads) has an answer that is no dictionary.
    monkeypatch.delitem(sys.modules, "llvmlite.binding.ffi", raising=False)
