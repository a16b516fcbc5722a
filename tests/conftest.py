"""Options of the test run, and what all tests may use."""

import gc
import os
from pathlib import Path
from typing import Any

import pytest

# Miniatures gain nothing from a second thread, and test processes share the cores. Set before
# torch is imported, here and in the child processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

TESTS = Path(__file__).parent
VLLM = ("extraction/test_vllm.py", "baselines/test_vllm.py", "adapters/test_native_vllm.py")
FORKS = (
    "test_readme.py",
    "runners/test_sweep.py",
    "runners/test_submit.py",
    "training/test_command.py",
    "test_small_model.py",
    "faults/test_faults.py",
    "runners/test_own_clips.py",
    "runners/test_describe.py",
    "runners/test_surroundings.py",
    "runners/test_costs.py",
    "runners/test_queue.py",
    "report/test_runs.py",
    "report/test_tests.py",
    "scoring/test_commands.py",
    "baselines/test_weights.py",
    "test_docs.py",
    "test_public.py",
)
LONG = (
    "test_golden.py",
    "adapters/test_native.py",
    "test_golden_training.py",
    "adapters/test_native_as_documented.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest goes first, so that no process is left alone with it."""
    place = {TESTS / name: number for number, name in enumerate((*VLLM, *FORKS, *LONG))}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadfile` the files that use vLLM share a process, which imports it once, and so
    do those that start `ovmer` in forks (tests/processes.py).

    Marks of `--dist loadgroup` would be its public way: xdist 3.8 writes them into ids where pytest
    9.2 no longer reads them."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    shared = {f"tests/{name}": group for group in (VLLM, FORKS) for name in group}

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return shared[file][0] if file in shared else file

    return Scheduling(config, log)


def pytest_collection_finish() -> None:
    """What was imported lives to the end: the collector need not walk over it again and again."""
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _freeze() -> None:
    """Nor over what the files before this one have imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a key nor an address of the user's, and pauses are short."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.05)
    monkeypatch.setattr("ovmer.baselines.decoding.server._PAUSE_SECONDS", 0.01)


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
