"""`--golden-root` does not pass for want of something to compare."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def run(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "tests/test_golden.py", "--golden-root", str(root)]
    return subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True)


def test_a_model_without_cases_fails(tmp_path: Path) -> None:
    (tmp_path / "video_llava" / "checkpoint").mkdir(parents=True)
    result = run(tmp_path)
    assert result.returncode == pytest.ExitCode.TESTS_FAILED
    assert "holds no case*.npz, so nothing was compared" in result.stdout


def test_a_folder_without_models_fails(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.returncode == pytest.ExitCode.TESTS_FAILED
    assert "holds no model for which there is a check" in result.stdout
