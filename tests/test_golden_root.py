"""`--golden-root` does not pass for want of something to compare."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import test_golden
from tests.golden_checks import Case

HERE = Path(__file__).parent


def test_a_model_is_compared_or_fails(tmp_path: Path) -> None:
    lacks = {name: tmp_path / name for name in ("video_llava", "salmonn", "unheard_of")}
    for folder in lacks.values():
        (folder / "checkpoint").mkdir(parents=True)
    for name in ("salmonn", "unheard_of"):
        np.savez(lacks[name] / "case.npz", logits=np.ones(3))
    (lacks["salmonn"] / "checkpoint").rmdir()
    command = [sys.executable, "-m", "pytest", "tests/test_golden.py", f"--golden-root={tmp_path}"]
    result = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True)
    assert result.returncode == pytest.ExitCode.TESTS_FAILED
    said = result.stdout
    assert "video_llava holds no case*.npz, so nothing was compared" in said
    assert "salmonn holds no checkpoint, so nothing was compared" in said
    assert "there is no tests/golden_checks/unheard_of.py" in said
    assert "3 failed, 2 passed" in said


def test_a_folder_without_models_fails(tmp_path: Path, monkeypatch, request) -> None:
    (tmp_path / "scorer").mkdir()
    monkeypatch.setattr(request.config.option, "golden_root", tmp_path)
    with pytest.raises(AssertionError, match="holds no model"):
        test_golden.test_root_holds_models(request)


def test_an_array_that_nothing_is_compared_with_fails() -> None:
    case = Case({"pixels": np.ones(3), "logits": np.ones(3), "ids_llama": np.ones(3)})
    assert case["pixels"].sum() == 3
    with pytest.raises(AssertionError, match="no check reads ids_llama, logits"):
        case.assert_read({})
    with pytest.raises(AssertionError, match="reads pixels, which it says it leaves aside"):
        case.assert_read(dict.fromkeys(("ids_llama", "logits", "pixels"), "a reason"))
    case.assert_read({"ids_llama": "a reason", "logits": "a reason", "of_other_cases": "another"})
