"""What makes a finished run unfinished: each thing that can change words, changed alone, and each
thing that cannot.

Five runs are made once; every row starts from a copy of one of them, changes one thing and asks
whether the same command would find it done.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ovmer.adapters.mllm import Mllm
from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.data import read_dataset
from ovmer.runners.job import Job
from ovmer.runners.sweeping.state import look
from ovmer.runners.sweeping.work import work
from tests import SAMPLE
from tests.extraction.fake_server import MODEL, serving
from tests.runners.conftest import write_tables
from tests.runners.jobs import job

REPO, COMMIT, LATER = "me/tower", "a" * 40, "b" * 40
WORKER = """
import json, sys
from spoken import words

print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    print(json.dumps({"id": json.loads(line)["id"], "text": words()}), flush=True)
"""
PLUGIN = """
from dataclasses import dataclass
from ovmer.adapters import Adapter
from spoken import words

@dataclass
class Mood(Adapter):
    tone: str = "glad"
    modalities = frozenset({"subtitle"})

    def describe(self, video, audio, subtitle):
        return words() + self.tone
"""
SPOKEN = "def words():\n    return 'She is sad.'\n"


@dataclass
class Run:
    """A finished run in a folder of its own, and the command that made it."""

    root: Path
    overrides: tuple[str, ...]
    hub: pytest.MonkeyPatch

    def job(self, *more: str) -> Job:
        made = job(*(each.replace("ROOT", str(self.root)) for each in (*self.overrides, *more)))
        if made.settings.baseline["name"] == "mood":
            fields = {k: v for k, v in made.settings.baseline.items() if k in ("name", "tone")}
            plugin = fields | {"adapter": "mood_plugin:Mood"}
            made = replace(made, settings=replace(made.settings, baseline=plugin))
        return made

    def is_done(self, *more: str) -> bool:
        made = self.job(*more)
        try:
            return look(made, read_dataset(made.settings.dataset)).is_done
        except PrerequisiteError:  # a folder that was made with other settings
            return False


def write_clips(root: Path, names: str, media: Path | None = None) -> None:
    write_tables(root / "data", names)
    for kind, ending in (("video", "mp4"), ("audio", "wav")):
        (root / "data" / kind).mkdir()
        for name in names:
            file = root / "data" / kind / f"{name}.{ending}"
            if media is None:
                file.write_bytes(name.encode() * 9)
            else:
                shutil.copyfile(media / kind / f"farewell.{ending}", file)
    (root / "data" / "openface_face").mkdir()


ON = ("dataset=ovmerd", "dataset.root=ROOT/data", "outputs=ROOT/out")


def make_fake(root: Path) -> tuple[str, ...]:
    write_clips(root, "abc")
    return "baseline=scripted", *ON


def make_model(root: Path) -> tuple[str, ...]:
    """A miniature of Video-LLaVA that is used as a checkpoint of the user's own: the language model
    in a folder, the tower in the hub's cache, at a branch."""
    write_clips(root, "ab", SAMPLE)
    adapter = job("baseline=video_llava", *ON).adapter
    assert isinstance(adapter, Mllm)
    parts = adapter.miniature(root / "made").checkpoint
    shutil.move(str(parts["llm"].path), root / "llm")
    put_in_hub(root, COMMIT, Path(str(parts["tower"].path)))
    return (
        "baseline=video_llava", "generation=greedy", "baseline.generation.greedy.max_new_tokens=4",
        "baseline.checkpoint.llm.path=ROOT/llm", f"baseline.checkpoint.tower.repo={REPO}",
        "baseline.checkpoint.tower.revision=main", *ON,
    )  # fmt: skip


def put_in_hub(root: Path, commit: str, folder: Path) -> None:
    """The files of a folder as a commit of REPO in the hub's cache, to which `main` points."""
    cache = root / "hub" / f"models--{REPO.replace('/', '--')}"
    shutil.copytree(folder, cache / "snapshots" / commit)
    (cache / "refs").mkdir(exist_ok=True)
    (cache / "refs" / "main").write_text(commit)


def make_asked(root: Path) -> tuple[str, ...]:
    write_clips(root, "ab")
    return (
        "baseline=scripted", "extractor=qwen25", "engine@extractor.engine=server",
        f"extractor.model={MODEL}@1", *ON,
    )  # fmt: skip


def make_worker(root: Path) -> tuple[str, ...]:
    write_clips(root, "ab")
    (root / "worker.py").write_text(WORKER)
    (root / "spoken.py").write_text(SPOKEN)
    python = f"baseline.python={sys.executable}"
    return "baseline=external", "baseline.worker=ROOT/worker.py", python, *ON


def make_plugin(root: Path) -> tuple[str, ...]:
    write_clips(root, "ab")
    (root / "mood_plugin.py").write_text(PLUGIN)
    (root / "spoken.py").write_text(SPOKEN)
    sys.path.insert(0, str(root))
    return "baseline=scripted", "baseline.name=mood", "+baseline.tone=glad", *ON


MAKERS = {
    "fake": make_fake,
    "model": make_model,
    "asked": make_asked,
    "worker": make_worker,
    "plugin": make_plugin,
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving(lambda n, request: "[happy]") as running:
        yield running.url


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, server: str) -> Iterator[Callable[[str], Run]]:
    made: dict[str, Run] = {}
    with pytest.MonkeyPatch.context() as patch:

        def of_kind(kind: str) -> Run:
            root = tmp_path_factory.getbasetemp() / f"mutations_{kind}"
            patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(root / "hub"))
            if kind not in made:
                root.mkdir()
                overrides = MAKERS[kind](root)
                if kind == "asked":
                    overrides += (f"extractor.engine.base_url={server}",)
                made[kind] = Run(root, overrides, patch)
                work(made[kind].job())
                shutil.copytree(root, f"{root}_kept")
            else:  # as it was finished, with the dates of then
                shutil.rmtree(root)
                shutil.copytree(f"{root}_kept", root)
            return made[kind]

        yield of_kind
        sys.path[:] = [each for each in sys.path if "mutations_plugin" not in each]


def rewrite(name: str, old: bytes, new: bytes) -> Callable[[Run], None]:
    def change(run: Run) -> None:
        file = run.root / name
        content = file.read_bytes()
        assert old in content
        file.write_bytes(content.replace(old, new))

    return change


def touch(*patterns: str) -> Callable[[Run], None]:
    def change(run: Run) -> None:
        files = [file for pattern in patterns for file in run.root.glob(pattern)]
        assert files
        for file in files:
            os.utime(file, ns=(1, 1))
        if files[0].suffix in (".mp4", ".wav"):
            work(run.job())  # which notes the new dates, and says so

    return change


def scale_weights(run: Run) -> None:
    import torch

    for file in (run.root / "llm").glob("*.bin"):
        tensors = torch.load(file, weights_only=True)
        torch.save({name: tensor * 1.5 for name, tensor in tensors.items()}, file)


def move_main(changed: bool) -> Callable[[Run], None]:
    def change(run: Run) -> None:
        cache = run.root / "hub" / f"models--{REPO.replace('/', '--')}"
        put_in_hub(run.root, LATER, cache / "snapshots" / COMMIT)
        if changed:
            config = cache / "snapshots" / LATER / "config.json"
            config.write_text(json.dumps(json.loads(config.read_text()) | {"note": 1}))

    return change


def below_weights(name: str) -> Callable[[Run], None]:
    """The tower in a folder as `weights=` wants it."""

    def change(run: Run) -> None:
        cache = run.root / "hub" / f"models--{REPO.replace('/', '--')}"
        shutil.copytree(cache / "snapshots" / COMMIT, run.root / "weights" / REPO)
        if name:
            (run.root / "weights" / REPO / name).write_bytes(b"other")

    return change


def nothing(run: Run) -> None:
    pass


Change = Callable[[Run], None] | str

CHANGES_WORDS: list[tuple[str, str, Change]] = [
    ("seed", "fake", "seed=3"),
    ("answer's settings", "fake", "baseline.default=He is sad."),
    ("subtitle left out", "fake", "subtitle=none"),
    ("language of the subtitles", "fake", "dataset.language=chinese"),
    ("faces for frames", "fake", "dataset.visual=face"),
    ("reader of frames", "fake", "media.reader=pyav"),
    ("bytes of a video", "fake", rewrite("data/video/a.mp4", b"aaa", b"bab")),
    ("bytes of a sound", "fake", rewrite("data/audio/b.wav", b"bbb", b"bab")),
    ("words of a subtitle", "fake", rewrite("data/subtitle_chieng.csv", b"I am", b"He is")),
    ("truth", "fake", rewrite("data/track2_train_ovmerd.csv", b"[happy", b"[proud")),
    ("extractor", "fake", "extractor.sentences=1"),
    ("metric", "fake", "metric=unibench_ov"),
    ("weights of a folder", "model", scale_weights),
    ("configuration of a folder", "model", rewrite("llm/config.json", b'"rms_norm', b'"rms')),
    ("tokenizer of a folder", "model", rewrite("llm/tokenizer.model", b"<unk>", b"<unq>")),
    ("commit of a branch", "model", move_main(changed=True)),
    ("revision", "model", "baseline.checkpoint.tower.revision=v2"),
    ("repository", "model", "baseline.checkpoint.tower.repo=me/x"),
    ("content below weights=", "model", below_weights("config.json")),
    ("tensors left aside", "model", "+baseline.checkpoint.llm.ignore=[model.*]"),
    ("prompt", "model", "baseline.prompt.with_subtitle='{subtitle} Why?'"),
    ("decoding preset", "model", "generation=paper"),
    ("decoding value", "model", "baseline.generation.greedy.max_new_tokens=9"),
    ("data type", "model", "machine.dtype=bfloat16"),
    ("data type by the yaml, on a GPU", "model", "machine.device=cuda"),
    ("engine", "model", "engine=vllm"),
    ("quantization", "model", "engine.quantization=4bit"),
    ("attention", "model", "engine.attention=eager"),
    ("miniature", "model", "dry_run=true"),
    ("sampling of labels", "asked", "extractor.sampling=paper"),
    ("prompt for labels", "asked", "extractor.labels=labels_mer2024"),
    ("parser of labels", "asked", "extractor.parser=friendly"),
    ("translation", "asked", "extractor.translate=english"),
    ("model of the labels", "asked", "extractor.model=other@1"),
    ("revision of that model", "asked", f"extractor.model={MODEL}@2"),
    ("worker", "worker", rewrite("worker.py", b"words()}", b"words() + '!'}")),
    ("module that the worker imports", "worker", rewrite("spoken.py", b"sad", b"glad")),
    ("arguments of the worker", "worker", "baseline.arguments=[--x]"),
    ("class of a plug-in", "plugin", rewrite("mood_plugin.py", b"self.tone", b"''")),
    ("module that the plug-in imports", "plugin", rewrite("spoken.py", b"sad", b"glad")),
    ("setting of a plug-in", "plugin", "baseline.tone=low"),
]  # fmt: skip

CHANGES_NONE: list[tuple[str, str, Change]] = [
    ("nothing", "fake", nothing),
    ("dates of media", "fake", touch("data/video/*", "data/audio/*")),
    ("batch size", "fake", "batch_size=1"),
    ("tokens in a batch", "fake", "batch_tokens=100"),
    ("threads", "fake", "workers=3"),
    ("policy on errors", "fake", "on_error=raise"),
    ("limit on reading", "fake", "media.seconds=9"),
    ("title", "fake", "baseline.title=Mine"),
    ("what a cluster is asked for", "fake", "baseline.needs.gpus=2"),
    ("launcher", "fake", "launcher=ray"),
    ("path of the weights", "model", "baseline.checkpoint.llm.path=ROOT/elsewhere"),
    ("dates of the weights", "model", touch("llm/*")),
    ("batch size in float32", "model", "batch_size=1"),
    ("device", "model", "machine.device=cpu"),
    ("commit with the same files", "model", move_main(changed=False)),
    ("weights=, the same files", "model", below_weights("")),
    ("the folder of the outputs", "fake", "outputs=ROOT/moved"),
    ("server of the labels", "asked", "extractor.engine.base_url=http://localhost:1/v1"),
    ("dates of a worker", "worker", touch("worker.py", "spoken.py")),
    ("path of the worker", "worker", "baseline.worker=ROOT/elsewhere/worker.py"),
    ("time for the worker", "worker", "baseline.timeout=9"),
    ("interpreter's path", "worker", "baseline.python=ROOT/python"),
]


def changed(run: Run, change: Change) -> tuple[str, ...]:
    """Make the change; returns what it adds to the command."""
    if callable(change):
        change(run)
        return ("weights=ROOT/weights",) if (run.root / "weights").exists() else ()
    for key, folder in (("llm.path", "llm"), ("worker=", ""), ("outputs=", "out")):
        if key in change:
            target = run.root / ("moved" if folder == "out" else "elsewhere")
            source = run.root / folder
            if folder:
                shutil.copytree(source, target)
            else:
                target.mkdir()
                for file in source.glob("*.py"):
                    shutil.copyfile(file, target / file.name)
    return (change,)


@pytest.mark.parametrize(
    ("kind", "change"),
    [pytest.param(kind, change, id=name) for name, kind, change in CHANGES_WORDS],
)
def test_what_can_change_words_is_asked_anew(
    kind: str, change: Change, runs: Callable[[str], Run]
) -> None:
    run = runs(kind)
    assert run.is_done(), "before"
    assert not run.is_done(*changed(run, change))


@pytest.mark.parametrize(
    ("kind", "change"),
    [pytest.param(kind, change, id=name) for name, kind, change in CHANGES_NONE],
)
def test_what_cannot_change_words_leaves_a_run_done(
    kind: str, change: Change, runs: Callable[[str], Run]
) -> None:
    run = runs(kind)
    assert run.is_done(*changed(run, change))
