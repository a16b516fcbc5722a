"""The commands of the README and of its first pages run as printed, and so does the package."""

import ast
import json
import re
import shlex
import subprocess
import sys
from functools import partial
from itertools import takewhile
from pathlib import Path

import pytest

from ovmer.baselines.decoding.engine_settings import EngineSettings, engine_settings
from ovmer.baselines.errors import PrerequisiteError
from tests import ROOT, SAMPLE, processes
from tests.adapters.small_mllms import configured
from tests.data.layouts import write_dataset
from tests.runners.folders import write_run

PAGES = ("README.md", "docs/adding_models.md", "docs/machines.md", "docs/papers.md")
TEXT = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, flags=re.M | re.S)


def commands() -> list[str]:
    """Every `ovmer ...` line of the pages, continuation lines joined."""
    text = "\n".join(body for language, body in BLOCKS if language == "bash")
    lines = text.replace("\\\n", " ").splitlines()
    found = [line.split("  #")[0].strip() for line in lines if line.startswith("ovmer ")]
    return list(dict.fromkeys(found))


def run(command: str, folder: Path, *paths: Path) -> subprocess.CompletedProcess[str]:
    words = shlex.split(command.replace("/data/mer2025-dataset", str(SAMPLE)))
    words = [each for word in words for each in expanded(word, folder)]
    if "hydra/launcher=submitit_slurm" in words:  # no cluster here
        words = [each for each in words if not each.startswith("hydra")]
        words.append("hydra/launcher=submitit_local")
    if words[1] in ("sweep", "describe", "extract", "group"):
        words.append("dry_run=true")  # no checkpoints here
    if "data_root=/data" in words:  # data sets in their layouts, and of a whole table one cell
        words[words.index("data_root=/data")] = f"data_root={folder}"
        for name in ("mer2023", "meld", "cmumosi"):
            write_dataset(folder, name)
        if words[1] == "sweep":
            words += ["dataset=meld", "baseline=video_llava", "limit=2"]
    elif words[1] == "sweep" and "clips=my_videos" not in words:
        words.append("dataset.clips=[good_news]")
    return processes.run(words[1:], folder, paths)


def expanded(word: str, folder: Path) -> list[str]:
    """A word with a star as the shell expands it; where nothing answers to it, as it is."""
    found = sorted(folder.glob(word)) if "*" in word else []
    return [str(path.relative_to(folder)) for path in found] or [word]


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """The README's package, installed with pip into a folder of its own."""
    source = tmp_path_factory.mktemp("my-models")
    target = tmp_path_factory.mktemp("site")
    (toml,) = [body for language, body in BLOCKS if language == "toml"]
    module = adapters()["Loudness"]
    (source / "pyproject.toml").write_text(toml, encoding="utf-8")
    (source / "my_models.py").write_text(module, encoding="utf-8")
    assert len(module.splitlines()) <= 25
    install = "pip install --quiet --no-deps --no-build-isolation --no-index --target"
    words = [sys.executable, "-m", *install.split(), str(target), str(source)]
    subprocess.run(words, check=True, capture_output=True, timeout=120)
    return target


def adapters() -> dict[str, str]:
    """The blocks that define an adapter, by the names of the classes."""
    blocks = [body for language, body in BLOCKS if language == "python"]
    return {name: body for body in blocks for name in re.findall(r"class (\w+)\(Adapter", body)}


def test_the_class_with_prepare_and_generate_describes_a_clip(tmp_path):
    clip = SAMPLE / "video" / "farewell.mp4"
    asks = f"from pathlib import Path\nprint(Motion().describe(Path({str(clip)!r}), None, None))"
    program = partial(exec, f"{adapters()['Motion']}\n{asks}", {})
    done = processes.run([], tmp_path, program=program)
    assert re.fullmatch(r"The person is (excited|calm)\.\n", done.stdout), done.stderr


@pytest.fixture
def tables(tmp_path) -> Path:
    """A folder with the files that the pages speak of."""
    (worker,) = [body for language, body in BLOCKS if "sys.stdin" in body]
    (settings,) = [body for language, body in BLOCKS if "adapter: external" in body]
    (tmp_path / "worker.py").write_text(worker, encoding="utf-8")
    (tmp_path / "my-conf" / "baseline").mkdir(parents=True)
    (tmp_path / "my-conf" / "baseline" / "mood.yaml").write_text(settings, encoding="utf-8")
    (native,) = [body for language, body in BLOCKS if "adapter: native" in body]
    assert len(native.splitlines()) <= 25
    (tmp_path / "my-conf" / "baseline" / "qwen2_vl.yaml").write_text(native, encoding="utf-8")
    (tmp_path / "old-env" / "bin").mkdir(parents=True)
    (tmp_path / "old-env" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "my_videos").mkdir()
    video = (SAMPLE / "video" / "good_news.mp4").read_bytes()
    (tmp_path / "my_videos" / "anna.mp4").write_bytes(video)
    (tmp_path / "truth.csv").write_text("name,openset\na,happy\nb,sad\n", encoding="utf-8")
    (tmp_path / "mine.csv").write_text("name,openset\na,joyful\nb,sad\n", encoding="utf-8")
    (tmp_path / "yours.csv").write_text("name,openset\na,angry\nb,sad\n", encoding="utf-8")
    return tmp_path


SLOW = ("launcher=ray", "launcher=submitit", "checkpoint.adapter", "ovmer extract")
"""Commands of half a minute and more, whose parts have tests of their own."""
ELSEWHERE = (
    "ovmer fetch",
    "ovmer weights",
    "weights=/models",  # needs what the two before it bring
    "baseline=qwen2_vl",
    "baseline=smollm2",
    "experiment=ovmer",  # runs before ovmer extract
    "ovmer train",  # tests/training runs it, test_docs.py composes these
)
"""Commands that have tests of their own."""


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(each, marks=[pytest.mark.by_hand] * any(word in each for word in SLOW))
        for each in commands()
        if not any(word in each for word in ELSEWHERE)
    ],
)
def test_command_runs(command, package, tables):
    if "ovmer extract" in command:  # of finished runs, which the command before it makes
        assert run(commands()[commands().index(command) - 1], tables, package).returncode == 0
    if "ovmer group" in command:
        sweep = ["baseline=random", "dataset=ovmerd", f"dataset.root={SAMPLE}"]
        assert processes.run(["sweep", *sweep], tables).returncode == 0
        (made,) = tables.glob("outputs/*/random")
        folder = tables / "outputs" / "ovmerd" / "salmonn-apart-bug_compat"
        folder.parent.mkdir()
        made.rename(folder)
    if "ovmer report" in command:
        sweep = "ovmer sweep baseline=lexicon dataset=sample"
        assert run(sweep, tables, package).returncode == 0
    if "ovmer tables" in command:
        write_run(tables / "outputs", "otter", "ovmerd", {"M-avg": 0.4})
    done = run(command, tables, package)
    # The data sets made here are not whole, which ovmer check says with 1.
    assert done.returncode == ("ovmer check" in command), done.stdout + done.stderr
    assert done.stdout.strip()


def test_the_example_takes_part_in_a_sweep(package, tmp_path):
    done = run("ovmer sweep -m baseline=loudness,random dataset=sample", tmp_path, package)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert any(row[:1] == ["loudness"] for row in rows), done.stdout + done.stderr
    names = {path.parent.name for path in tmp_path.glob("outputs/*/*/predictions.jsonl")}
    assert names == {"loudness", "random"}


def test_the_worker_takes_part_in_a_sweep_and_is_python_3_8(tables):
    (command,) = [each for each in commands() if "baseline=mood" in each]
    done = run(command, tables)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = tables.glob("outputs/*/mood/predictions.jsonl")
    assert "The person is" in file.read_text(encoding="utf-8")
    worker = (tables / "worker.py").read_text(encoding="utf-8")
    assert len(worker.splitlines()) <= 20
    ast.parse(worker, feature_version=(3, 8))


def test_a_model_that_is_not_shipped_takes_part_by_its_yaml_alone(tables):
    (command,) = [each for each in commands() if "baseline=qwen2_vl" in each]
    done = run(command, tables)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = tables.glob("outputs/*/qwen2_vl-dry/predictions.jsonl")
    record = json.loads(file.read_text(encoding="utf-8"))
    assert (record["name"], record["status"]) == ("good_news", "ok")
    assert record["new_tokens"] > 0


def decodes(engine: EngineSettings, name: str, preset: str) -> bool:
    adapter = configured(name, preset)
    try:
        engine.check(adapter.generation, adapter.transformers_only)
    except PrerequisiteError:
        return False
    return True


def test_the_table_says_which_baselines_vllm_decodes():
    engine = engine_settings({"name": "vllm"})
    page = (ROOT / "docs" / "baselines.md").read_text(encoding="utf-8")
    lines = page.split("`engine=vllm` decodes it |")[1].splitlines()[2:]
    rows = [
        line.strip("| ").split(" | ") for line in takewhile(lambda line: line[:1] == "|", lines)
    ]
    assert len(rows) >= 15
    for name, *_, said in rows:
        paper, greedy = (decodes(engine, name.strip("`"), each) for each in ("paper", "greedy"))
        with_greedy = "with `generation=greedy`"
        expected = "yes" if paper else with_greedy if greedy else "no"
        assert re.split("[,:]", said)[0] == expected, name


def test_the_python_lines_ask_a_model_and_score(monkeypatch, capsys):
    (code,) = [body for language, body in BLOCKS if language == "python" and "ovmer.load(" in body]
    monkeypatch.chdir(ROOT)
    said: list[str] = []
    exec(re.sub(r"^(model\.describe\(.*\))$", r"say(\1)", code, flags=re.M), {"say": said.append})
    assert len(said) == 1
    assert said[0].strip()
    assert "M-avg" in capsys.readouterr().out
