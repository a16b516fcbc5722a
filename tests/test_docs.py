"""The commands of all pages name settings that exist; those of the README's pages run, too."""

import json
import re
import shlex
from functools import partial

import pytest

from ovmer.runners.config import settings_from_overrides
from ovmer.runners.training.settings import compose_train
from tests import ROOT, processes

PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted(ROOT.glob("docs/*.md"))]
ELSEWHERE = ("my-conf", "outputs/train", "baseline=loudness", "baseline=mood")
"""In commands whose yaml the page before them makes."""
OF_ONE_CLIP = ("video", "audio", "subtitle", "frames")


def commands(*names: str) -> list[str]:
    found = []
    for page in PAGES:
        for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text("utf-8"), re.M | re.S):
            for line in block.replace("\\\n", " ").splitlines():
                if re.match(
                    rf"(accelerate .*)?ovmer ({'|'.join(names)}) ",
                    line.replace("$(which ovmer)", "ovmer"),
                ):
                    found.append(line.split("  #")[0].strip())
    return [each for each in dict.fromkeys(found) if not any(word in each for word in ELSEWHERE)]


def settings(command: str, name: str) -> list[str]:
    """The settings of a command; of several values the first."""
    words = shlex.split(command.replace("$(which ovmer)", "ovmer"))
    given = [each for each in words[words.index(name) + 1 :] if "=" in each]
    given = [each for each in given if not each.startswith(("hydra", "clips=", "columns."))]
    return [re.sub(r"=(\w+),\S*$", r"=\1", each) for each in given]


@pytest.mark.parametrize("command", commands("sweep", "describe", "extract"))
def test_the_settings_of_a_command_exist(command):
    given = settings(command, command.split()[1])
    own = [each for each in given if each.split("=")[0] not in OF_ONE_CLIP]
    assert settings_from_overrides(own).baseline


@pytest.mark.parametrize("command", commands("train"))
def test_a_training_composes(command):
    assert compose_train(settings(command, "train")).train


def test_the_notebook_runs(tmp_path):
    cells = json.loads((ROOT / "docs" / "first_hour.ipynb").read_text("utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    program = partial(exec, "\n".join(sources), {})
    done = processes.run([], tmp_path, environment={"MPLBACKEND": "Agg"}, program=program)
    assert done.returncode == 0, done.stderr
    assert "M-avg" in done.stdout
    assert list(tmp_path.glob("outputs/sample/lexicon/scores.json"))
