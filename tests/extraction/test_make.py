"""`conf/extractor/*.yaml`: every file that ships fits, and mistakes are told in one sentence."""

import json
from pathlib import Path

import pytest

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.config import CONF
from ovmer.runners.extraction import make_extractors, make_language_model
from tests.runners.jobs import job

SHARED = Path(__file__).parents[2] / ".." / "shared"
SHIPPED = sorted(path.stem for path in (CONF / "extractor").glob("*.yaml"))
SHIPPED.remove("judge")  # wants a task: tests/tasks


def settings(*overrides: str) -> dict:
    return job("extractor=qwen25", *overrides).settings.extractor


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_extractor_can_be_made(name: str):
    made = make_extractors(job(f"extractor={name}").settings.extractor)
    # qwen25_paper is qwen25 under other settings, so that it keeps what that one has labelled.
    assert [each.identity["name"] for each in made] == [name.removesuffix("_paper")]


def test_the_papers_preset_is_the_authors_setting():
    source = SHARED / "prompts.json"
    if not source.exists():
        pytest.skip("the authors' settings are not beside the checkout")
    theirs = json.loads(source.read_text(encoding="utf-8"))["qwen2.5_7b"]["sampling"]
    ours = make_language_model(settings("extractor.sampling=paper")).generation.as_sampling()
    assert ours.pop("top_k") == 0  # off in vLLM, where the authors leave it out
    assert ours == {key: theirs[key] for key in ours}


def test_one_extractor_is_made_for_each_seed():
    made = make_extractors(settings("extractor.sampling=paper", "extractor.seeds=[3,5]"))
    assert [each.identity["seed"] for each in made] == [3, 5]


def test_a_dry_run_takes_a_miniature_and_writes_little(tmp_path: Path):
    dry = make_language_model(settings("dry_run=true", f"outputs={tmp_path}"))
    assert dry.engine.identity["model"] == "miniature"
    assert dry.generation.max_new_tokens == 32
    assert not list(tmp_path.iterdir())  # it is written when it is first asked


def test_a_dry_run_uses_the_folder_that_is_named(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    dry = make_language_model(settings("dry_run=true", f"extractor.model={tmp_path}"))
    assert dry.engine.identity["model"] == tmp_path.name
    assert dry.generation.max_new_tokens == 512


@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        ("extractor.engine=vllm", "to choose one, say engine@extractor.engine=vllm"),
        ("extractor.engine.name=vlm", "extractor.engine.name is 'vlm'; did you mean vllm?"),
        ("extractor.sampling=papr", "extractor.sampling is 'papr'; did you mean paper?"),
        ("extractor.translate=german", "extractor.translate is 'german'; choose one of"),
        ("extractor.target=emotion", "extractor.target is 'emotion'; did you mean basic_emotion"),
        ("extractor.labels=label", "extractor.labels is 'label'; did you mean labels"),
        ("extractor.merge=merg", "extractor.merge is 'merg'; did you mean merge"),
        ("extractor.parser=kind", "extractor.parser is 'kind'; did you mean friendly"),
        ("extractor.engine.batch_size=0", "extractor.engine.batch_size is 0; give at least 1"),
        ("extractor.seeds=[]", "extractor.seeds is []; give each seed once"),
        ("extractor.seeds=[1,1]", "extractor.seeds is [1, 1]; give each seed once"),
        ("extractor.kind=llm", "extractor.kind is 'llm'; it is lexicon, language_model or judge"),
        ("+extractor.modell=x", "there is no key extractor.modell; did you mean model"),
        ("extractor.engine.batch_size=many", "extractor.engine.batch_size: Value 'many'"),
        (
            "+extractor.engine.retries=1",
            "the engine transformers has no key extractor.engine.retries",
        ),
        (
            "+extractor.presets.greedy.top_p=2",
            "top_p of the generation preset is 2.0 but must be above 0",
        ),
        ("extractor.model=./nowhere", "extractor.model=./nowhere is neither a folder nor"),
    ],
)
def test_a_mistake_is_reported_in_one_sentence(mistake: str, sentence: str):
    with pytest.raises(PrerequisiteError) as raised:
        make_extractors(settings(mistake))
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)
