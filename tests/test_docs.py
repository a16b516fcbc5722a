"""The commands of all pages name settings that exist; those of the README's pages run, too."""

import json
import re
import shlex
from functools import partial

import pytest

from ovmer.baselines.errors import Status
from ovmer.runners.config import settings_from_overrides
from ovmer.runners.sweeping.of_one import taken_out
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
                    rf"((accelerate|torchrun) .*)?ovmer ({'|'.join(names)}) ",
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
    of_one, of_all = taken_out(own)
    assert settings_from_overrides(of_all).baseline
    for name, overrides in of_one.items():
        assert settings_from_overrides([f"baseline={name}", *overrides]).baseline["name"] == name


@pytest.mark.parametrize("command", commands("train"))
def test_a_training_composes(command):
    assert compose_train(settings(command, "train")).train


def test_every_status_is_explained():
    page = (ROOT / "docs" / "runs.md").read_text("utf-8")
    table = page.split("| status |")[1].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.M)) == set(Status)


def test_a_data_set_of_ones_own_is_checked_and_swept(tmp_path):
    page = (ROOT / "docs" / "own_clips.md").read_text("utf-8")
    (settings,) = re.findall(r"^```yaml\n(# @package.*?)^```", page, re.M | re.S)
    (tmp_path / "my-conf" / "dataset").mkdir(parents=True)
    (tmp_path / "my-conf" / "dataset" / "therapy.yaml").write_text(settings, encoding="utf-8")
    (tmp_path / "therapy" / "video").mkdir(parents=True)
    clip = (ROOT / "runners" / "data" / "sample" / "video" / "good_news.mp4").read_bytes()
    for name in ("s1_a", "s2_a"):
        (tmp_path / "therapy" / "video" / f"{name}.mp4").write_bytes(clip)
    rows = 'name,words,emotions\ns1_a,I am so happy!,"happy,proud"\ns2_a,No.,[angry]\n'
    (tmp_path / "therapy" / "labels.csv").write_text(rows, encoding="utf-8")
    check, sweep = re.findall(r"^ovmer (.*dataset=therapy.*)$", page, re.M)
    for command, said in ((check, "therapy"), (sweep, "M-avg")):
        words = shlex.split(command.replace("/data", str(tmp_path)))
        done = processes.run(words, tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert said in done.stdout


def test_the_notebook_runs(tmp_path):
    cells = json.loads((ROOT / "docs" / "first_hour.ipynb").read_text("utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    program = partial(exec, "\n".join(sources), {})
    done = processes.run([], tmp_path, environment={"MPLBACKEND": "Agg"}, program=program)
    assert done.returncode == 0, done.stderr
    assert "M-avg" in done.stdout
    assert list(tmp_path.glob("outputs/sample/lexicon/scores.json"))
