"""The wheel: one import name, beside other people's packages, complete, from any folder."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests import ROOT

FOLDERS = ("adapters", "baselines", "conf", "runners")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy, since setuptools leaves a folder `build` behind
    tracked = subprocess.run(
        ["git", "ls-files", "--", *FOLDERS, "ovmer", "setup.cfg", "pyproject.toml", "README.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in (*tracked.stdout.splitlines(), "LICENSE"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    build = "-m pip wheel --quiet --no-deps --no-build-isolation --no-index --wheel-dir".split()
    subprocess.run([sys.executable, *build, str(folder), str(source)], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own with the wheel, a package called `adapters` and our libraries."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = folder / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    install = "-m pip install --quiet --no-deps --no-index --target".split()
    subprocess.run([sys.executable, *install, str(site), str(wheel)], check=True)
    (site / "adapters.py").write_text("name = 'of others'\n", encoding="utf-8")
    # Libraries by path alone: the editable install of this environment is not taken along.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder / "bin" / "python"


def run(python: Path, folder: Path, *arguments: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(python), *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_every_file_of_the_packages_under_one_name(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"ovmer"}
    tracked = subprocess.run(
        ["git", "ls-files", "--", *FOLDERS], cwd=ROOT, capture_output=True, text=True, check=True
    )
    expected = {f"ovmer/{name}" for name in tracked.stdout.splitlines()}
    assert expected - names == set()
    assert "ovmer/py.typed" in names


IN_TURN = """
import shlex, sys
from ovmer.runners.commands import main

for command in sys.argv[1:]:
    sys.argv = ["ovmer", *shlex.split(command)]
    try:
        main()
    except SystemExit as end:
        assert not end.code, command
"""


def test_the_commands_run_from_another_folder(python: Path, tmp_path: Path) -> None:
    assert "sweep" in run(python, tmp_path, "-m", "ovmer", "--help")
    (tmp_path / "truth.csv").write_text("name,openset\nfarewell,sad\n", encoding="utf-8")
    expected = {
        "list": "video_llava",
        "sweep -m baseline=random,lexicon dataset=sample": "lexicon",
        "score predictions=outputs/sample/lexicon truth=truth.csv missing=skip": "M-avg",
        "report outputs": "runs: 2, leaderboards: 1",
        "tables outputs layout=ovmer formats=csv": "OV-MER",
        "describe baseline=lexicon 'subtitle=I am so sad.'": "\nsad\n",
    }
    said = run(python, tmp_path, "-c", IN_TURN, *expected)
    assert [words for words in expected.values() if words not in said] == []
    assert (tmp_path / "outputs" / "sample" / "report.html").is_file()


def test_other_packages_keep_their_names(python: Path, tmp_path: Path) -> None:
    code = (
        "import adapters, ovmer.adapters, importlib.util as u; "
        "print(adapters.name, ovmer.adapters.Adapter.__module__, "
        "[n for n in ('baselines', 'conf', 'runners') if u.find_spec(n)])"
    )
    assert run(python, tmp_path, "-c", code) == "of others ovmer.adapters.base []\n"


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_the_repository_is_no_package_by_itself(name: str) -> None:
    """Else `import adapters` from the repository's root would load every module a second time."""
    done = subprocess.run(
        [sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True
    )
    assert f"ImportError: this package is imported as ovmer.{name}" in done.stderr
