"""Functions of other packages that are called when a run has ended."""

import re
from pathlib import Path

import pytest

from ovmer.runners.sweeping.work import work
from tests.runners.jobs import job

PAGE = Path(__file__).parents[2] / "docs" / "runs.md"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a module with a function `log`, as pip leaves it."""

    def made(code: str) -> None:
        site = tmp_path / "site"
        info = site / "my_logging-1.0.dist-info"
        info.mkdir(parents=True)
        (site / "my_logging.py").write_text(code, "utf-8")
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my_logging\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[ovmer.on_run_end]\nmine = my_logging:log\n")
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.delitem(__import__("sys").modules, "my_logging", raising=False)

    return made


def test_the_example_of_the_documentation_logs_the_figures(tmp_path, install, monkeypatch):
    (code,) = re.findall(r"```python\n(def log\(.*?)```", PAGE.read_text("utf-8"), re.S)
    install(code)
    monkeypatch.chdir(tmp_path)
    work(job("baseline=lexicon", f"outputs={tmp_path / 'outputs'}"))
    (file,) = (tmp_path / "logs" / "lexicon").glob("events.out.tfevents.*")
    assert b"M-avg" in file.read_bytes()


def test_a_hook_that_fails_is_said_and_the_run_stands(tmp_path, install, capsys):
    install("def log(folder):\n    raise RuntimeError('no account')\n")
    state = work(job("baseline=lexicon", f"outputs={tmp_path}"))
    assert state.is_fine
    said = capsys.readouterr().err
    assert "the hook mine (my_logging:log) failed: RuntimeError: no account" in said
