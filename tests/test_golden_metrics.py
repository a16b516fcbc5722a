"""The figures of the benchmarks' own functions, to 1e-9 (what was rounded there: to the rounding).

    pytest tests/test_golden_metrics.py --golden-metrics-root DIR

Each file of the folder and those below it is checked by its form, whatever it is called; a file of
another form fails, and so does a folder without files.
"""

import json
from pathlib import Path

import pytest

from tests.golden_metric_checks import CHECKS, check_of

HERE = Path(__file__).parent


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden" in metafunc.fixturenames:
        root = Path(metafunc.config.getoption("--golden-metrics-root"))
        files = sorted(root.rglob("*.json"))
        # Without a file the test runs once, and fails.
        metafunc.parametrize("golden", files or [root], ids=lambda path: path.stem)


def test_golden(golden: Path) -> None:
    assert golden.is_file(), f"{golden} holds no *.json, so nothing was compared"
    content = json.loads(golden.read_text(encoding="utf-8"))
    check_of(content)(content)


def test_every_check_has_its_file() -> None:
    contents = [json.loads(path.read_text("utf-8")) for path in HERE.glob("golden_metrics/*.json")]
    assert sorted(check_of(each).__name__ for each in contents) == sorted(
        each.__name__ for each in CHECKS.values()
    )


def test_another_figure_fails() -> None:
    """Each check compares: no file passes with its numbers changed."""
    for path in HERE.glob("golden_metrics/*.json"):
        content = json.loads(path.read_text("utf-8"), parse_float=lambda text: float(text) + 0.125)
        with pytest.raises(AssertionError):
            check_of(content)(content)
