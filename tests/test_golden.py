"""Our code against numbers that the models' own code produced: `--golden-root DIR` names others.

A folder of the root that holds a `checkpoint` is a model, and every `case*.npz` in it is run. A
model without cases fails; one for which there is no check yet is skipped by name.
"""

import importlib
import pkgutil
from pathlib import Path

import numpy as np
import pytest

import tests.golden_checks

SHIPPED = Path(__file__).parent / "golden"
CHECKS = {module.name for module in pkgutil.iter_modules(tests.golden_checks.__path__)}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" not in metafunc.fixturenames:
        return
    root = metafunc.config.getoption("golden_root")
    models = sorted(folder.parent for folder in root.glob("*/checkpoint"))
    pairs = [
        (model, case) for model in models for case in sorted(model.glob("case*.npz")) or [None]
    ]
    ids = [f"{model.name}-{case.stem if case else 'none'}" for model, case in pairs]
    metafunc.parametrize(("model", "case"), pairs, ids=ids)


def test_agrees_at_every_stage(model: Path, case: Path | None) -> None:
    if model.name not in CHECKS:
        pytest.skip(f"there is no check for {model.name} yet")
    assert case is not None, f"{model} holds no case*.npz, so nothing was compared"
    check = importlib.import_module(f"tests.golden_checks.{model.name}").check
    with np.load(case, allow_pickle=False) as arrays:
        check(model / "checkpoint", dict(arrays))


def test_root_holds_models(request: pytest.FixtureRequest) -> None:
    root = request.config.getoption("golden_root")
    found = {folder.parent.name for folder in root.glob("*/checkpoint")}
    assert found & CHECKS, f"{root} holds no model for which there is a check"


def test_every_check_has_its_golden_here() -> None:
    shipped = {folder.parent.name for folder in SHIPPED.glob("*/checkpoint")}
    assert not CHECKS - shipped
