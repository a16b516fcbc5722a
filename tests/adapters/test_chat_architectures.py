"""The architectures in the table of docs/chat_models.md, each with a yaml as short as can be."""

import re
from pathlib import Path

import pytest

from ovmer.adapters.base import Answer, Machine
from ovmer.adapters.native import Native
from ovmer.baselines.checkpoint import CheckpointPart
from ovmer.baselines.errors import CheckpointError, PrerequisiteError
from tests import ROOT, SAMPLE

ROWS = re.findall(
    r"^\| `([A-Z]\w+)` \| (\w+) \| (runs|needs|no)\b",
    (ROOT / "docs" / "chat_models.md").read_text(encoding="utf-8"),
    flags=re.M,
)
OPTIONAL = {"GraniteSpeechForConditionalGeneration": "torchaudio"}
OPTIONAL |= {"PerceptionLMForConditionalGeneration": "timm"}
BESIDE = (
    ("Glm46VForConditionalGeneration", "video", "runs"),
    ("Qwen4ExpForConditionalGeneration", "video", "runs"),
    ("Llama4ForConditionalGeneration", "images", "runs"),
    ("VipLlavaForConditionalGeneration", "images", "runs"),
    ("MusicFlamingoForConditionalGeneration", "sound", "runs"),
)
"""Named below the table."""
IN_EVERY_RUN = ("LlavaForConditionalGeneration", "Mistral3ForConditionalGeneration")


def minimal(architecture: str, given: str) -> Native:
    """What is left out has its default."""
    return Native(
        architecture=architecture,
        checkpoint={"model": CheckpointPart(repo="some/model")},
        modalities="audio" if given == "sound" else "video",
        picture="images" if given == "images" else "video",
        frames=4,
    )


def answers(adapter: Native, folder: Path) -> list[Answer]:
    """Of two clips in one batch."""
    small = adapter.miniature(folder)
    small.load(Machine(device="cpu", dtype="float32"))
    hears = adapter.modalities & {"audio"}
    items = [
        small.prepare(
            None if hears else SAMPLE / "video" / f"{clip}.mp4",
            SAMPLE / "audio" / f"{clip}.wav" if hears else None,
            "No!",
        )
        for clip in ("good_news", "farewell")
    ]
    return list(small.generate(items))


@pytest.mark.filterwarnings("ignore:`hidden_state` is deprecated:FutureWarning")  # Mllama's own
@pytest.mark.parametrize(
    ("architecture", "given", "verdict"),
    [
        pytest.param(*row, marks=() if row[0] in IN_EVERY_RUN else pytest.mark.by_hand, id=row[0])
        for row in [*ROWS, *BESIDE]
    ],
)
def test_a_minimal_yaml_runs_or_says_why_not(tmp_path, architecture, given, verdict):
    adapter = minimal(architecture, given)
    if verdict == "no":
        with pytest.raises(PrerequisiteError, match=r"miniature .*run it without dry_run"):
            answers(adapter, tmp_path)
        return
    if verdict == "needs":
        try:
            __import__(OPTIONAL[architecture])
        except ImportError:
            with pytest.raises(PrerequisiteError, match=OPTIONAL[architecture]):
                answers(adapter, tmp_path)
            return
    said = answers(adapter, tmp_path)
    assert all(isinstance(each, Answer) and each.new_tokens > 0 for each in said)
    assert len({each.text for each in said}) > 1


def test_most_architectures_of_the_table_run():
    verdicts = [verdict for _, _, verdict in ROWS]
    assert len(verdicts) == 22
    assert verdicts.count("runs") >= 18


def test_sizes_that_do_not_fit_are_laid_to_the_miniature(tmp_path):
    adapter = minimal("LlavaForConditionalGeneration", "images")
    adapter.shrink = {"projector_hidden_act": "nothing"}
    with pytest.raises(PrerequisiteError, match=r"no miniature .*says nothing about the model"):
        answers(adapter, tmp_path)
    adapter.shrink = {"processor.patch_size": 7}
    with pytest.raises(PrerequisiteError, match=r"the random miniature .*baseline\.shrink"):
        answers(adapter, tmp_path)


def test_a_missing_chat_template_names_the_setting_that_helps(tmp_path):
    adapter = minimal("LlavaForConditionalGeneration", "images").miniature(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    machine = Machine(device="cpu", dtype="float32")
    with pytest.raises(CheckpointError, match=r"no chat template.*baseline\.template"):
        adapter.load(machine)
    own = tmp_path / "own.jinja"
    own.write_text("{% for part in messages[0].content %}{{ part.text or '<image>' }}{% endfor %}")
    adapter.template = {"chat_template": str(tmp_path / "absent.jinja")}
    with pytest.raises(PrerequisiteError, match=r"neither Jinja nor a file"):
        adapter.load(machine)
    adapter.template = {"chat_template": str(own)}
    adapter.load(machine)
    item = adapter.prepare(SAMPLE / "video" / "good_news.mp4", None, "No!")
    assert adapter.generate([item])[0].new_tokens > 0
