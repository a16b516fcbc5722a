"""Our code against numbers that the models' own code produced: `--golden-root DIR` names others.

Each folder of the root is a model (but for `scorer`, which tests/scoring reads): its `checkpoint`,
and as many `case*.npz` as there are. One that lacks either fails, as does one for which there is no
check. With `-rP` each case says which of its stages came nearest to what is allowed.
"""

import importlib
import pkgutil
from pathlib import Path

import numpy as np
import pytest

import tests.golden_checks
from tests.golden_checks import COMPARED, Case

SHIPPED = Path(__file__).parent / "golden"
CHECKS = {module.name for module in pkgutil.iter_modules(tests.golden_checks.__path__)}


def models(root: Path) -> list[Path]:
    folders = [entry for entry in root.iterdir() if entry.is_dir()] if root.is_dir() else []
    return sorted(f for f in folders if f.name != "scorer" and not f.name.startswith("."))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" not in metafunc.fixturenames:
        return
    pairs = [
        (model, case)
        for model in models(metafunc.config.getoption("golden_root"))
        for case in sorted(model.glob("case*.npz")) or [None]
    ]
    ids = [f"{model.name}-{case.stem if case else 'none'}" for model, case in pairs]
    metafunc.parametrize(("model", "case"), pairs, ids=ids)


def test_agrees_at_every_stage(model: Path, case: Path | None) -> None:
    assert case is not None, f"{model} holds no case*.npz, so nothing was compared"
    assert (model / "checkpoint").is_dir(), f"{model} holds no checkpoint, so nothing was compared"
    assert model.name in CHECKS, f"there is no tests/golden_checks/{model.name}.py"
    module = importlib.import_module(f"tests.golden_checks.{model.name}")
    with np.load(case, allow_pickle=False) as file:
        arrays = Case(file)
    COMPARED.clear()
    module.check(model / "checkpoint", arrays)
    nearest = max(COMPARED, key=lambda each: each.error / each.tolerance)
    print(f"{model.name} {case.stem}: {nearest}")
    arrays.assert_read(getattr(module, "LEFT_ASIDE", {}))


def test_root_holds_models(request: pytest.FixtureRequest) -> None:
    root = request.config.getoption("golden_root")
    assert models(root), f"{root} holds no model"


def test_every_check_has_its_golden_here() -> None:
    assert {folder.name for folder in models(SHIPPED)} == CHECKS
