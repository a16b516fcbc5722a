"""What is mistyped on the command line is one sentence; the real parser of Hydra is at work."""

from dataclasses import replace
from pathlib import Path

import pytest
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.commands.list import STATUS
from ovmer.runners.config import CONF, settings_from_overrides
from ovmer.runners.explain import explain
from ovmer.runners.job import Job
from ovmer.runners.sweeping.sweep import compose
from tests.runners.jobs import job

GOLDEN = Path(__file__).parents[1] / "golden"


def sentence(*overrides):
    with pytest.raises((HydraException, OmegaConfBaseException, PrerequisiteError)) as caught:
        job(*overrides)
    error = caught.value
    return str(error) if isinstance(error, PrerequisiteError) else explain(error)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("baseline=lexicn", "there is no baseline=lexicn; did you mean lexicon"),
        ("baseline=VideoLLaVA", "there is no baseline=VideoLLaVA; did you mean video_llava?"),
        ("dataset=ovmer", "there is no dataset=ovmer; did you mean ovmerd"),
        ("engine=x", "there is no engine=x; choose one of server, "),
        ("bseline=random", "there is no key bseline; did you mean baseline"),
        ("baseline.nme=x", "there is no key baseline.nme; did you mean name"),
        ("machine.dvice=cpu", "there is no key machine.dvice; did you mean device"),
        ("+sed=1", "there is no key sed; did you mean seed"),
        (
            "generation.max_new_tokens=8",
            "generation: this is one value, no group of settings; say "
            "generation=VALUE; a preset's are baseline.generation.PRESET.KEY",
        ),
        ("limit.x=3", "limit: this is one value, no group of settings; say limit=VALUE"),
        ("machine=cpu", "machine: cpu is one value for a group of settings; say machine.KEY=cpu"),
        ("seed=abc", "seed: Value 'abc' of type 'str' could not be converted to Integer"),
        ("dry_run=maybe", "dry_run: Value 'maybe' is not a valid bool"),
        ("subtitle=promt", "subtitle is 'promt'; did you mean prompt"),
        ("on_error=stop", "on_error is 'stop'; choose one of raise, record"),
        ("batch_size=0", "batch_size is 0; give at least 1"),
        ("workers=-1", "workers is -1; give at least 0"),
        ("+experiment=mer_unibnch", "there is no experiment=mer_unibnch"),
        ("baseline=empty,random", "baseline=empty,random is no single value; add -m to sweep"),
        ("variant=a(b", "'variant=a(b' cannot be read as key=value"),
        ("variant", "'variant' cannot be read as key=value"),
        ("/", "/ is a path without its setting; write clips=/ for clips to describe"),
    ],
)
def test_a_mistake_is_one_sentence(override, said):
    found = sentence(override)
    assert found.startswith(said)
    assert "\n" not in found


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("baseline.checkpoint=/x", "say baseline.checkpoint.PART.path=/x"),
        ("baseline.checkpoint.model=/x", "say baseline.checkpoint.model.path=/x"),
        ("baseline.prompt=Hello", "baseline: Hello is one value for a group of settings; "),
        ("baseline.generation=greedy", "to choose one, say generation=greedy"),
        ("baseline.generation.greedy=8", "say baseline.generation.greedy.KEY=VALUE"),
    ],
)
def test_a_single_value_for_a_group_of_settings(override, said):
    with pytest.raises(PrerequisiteError) as caught:
        assert job("baseline=otter", override).adapter
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("variant=1e5", "1e5"),
        ("variant=1.10", "1.10"),
        ("variant='1e5'", "1e5"),
        ("variant=v1e5", "v1e5"),
        ("dataset.clips=[1e5]", ["1e5"]),
        ("dataset.clips=[001, 1_0,.5,good*]", ["001", "1_0", ".5", "good*"]),
        ("clips=007", "007"),
        ("columns.labels=1.0", "1.0"),
        ("choices=[1.50,2]", ["1.50", "2"]),
        ("redo=1e5", "1e5"),
        ("redo=true", True),
        ("limit=3", 3),
        ("media.seconds=1e2", 100.0),
    ],
)
def test_text_stays_as_it_is_typed(override: str, value: object) -> None:
    found: object = settings_from_overrides([override])
    for key in override.partition("=")[0].split("."):
        found = found[key] if isinstance(found, dict) else getattr(found, key)
    assert found == value


def test_a_sweep_over_numbers_names_its_folders_as_typed() -> None:
    composed = compose(["-m", "baseline=random", "dataset=sample", "variant=1e5,2.50"])
    assert [made.folder.name for made in composed.jobs] == ["random-1e5", "random-2.50"]
    composed = compose(["-m", "baseline=random,lexicon", "dataset.clips=[001,1e5]"])
    assert [made.settings.dataset["clips"] for made in composed.jobs] == [["001", "1e5"]] * 2


def test_options_may_stand_among_the_settings() -> None:
    composed = compose(["dataset=sample", "-m", "baseline=random,lexicon"])
    assert [made.folder.name for made in composed.jobs] == ["random", "lexicon"]
    with pytest.raises(PrerequisiteError, match="leave out -m"):
        compose(["dataset=sample", "-m", "--cfg", "job"])
    with pytest.raises(PrerequisiteError, match="--run: give -m to sweep"):
        compose(["dataset=sample", "--run"])
    with pytest.raises(PrerequisiteError, match=r"--dry-run: .* say dry_run=true"):
        compose(["dataset=sample", "--dry-run", "-m"])
    with pytest.raises(PrerequisiteError, match=r"--limit: .* say limit=VALUE"):
        compose(["dataset=sample", "--limit=3"])


def test_a_long_sweep_names_missing_data_sets_while_it_is_composed(tmp_path, capsys) -> None:
    seeds = f"seed={','.join(map(str, range(11)))}"
    compose(["-m", seeds, "baseline=random", "dataset=sample,meld", f"data_root={tmp_path}"])
    assert capsys.readouterr().err.splitlines() == [
        "  composing 22 jobs",
        f"  meld is missing: there is no folder {tmp_path}/meld-process",
    ]


def test_a_path_with_a_comma_wants_quotes(tmp_path):
    folder = tmp_path / "x,y"
    folder.mkdir()
    assert sentence(f"clips={folder}") == (
        f"the path {folder} holds a comma; put quotes within quotes: \"clips='{folder}'\""
    )


@pytest.mark.parametrize("flag", ["--config-dir {}", "--config-dir={}", "-cd {}"])
def test_a_yaml_in_another_encoding_is_named(flag, tmp_path):
    file = tmp_path / "baseline" / "mine.yaml"
    file.parent.mkdir()
    file.write_text("title: 你好\n", encoding="gb18030")
    arguments = [*flag.format(tmp_path).split(), "baseline=mine"]
    with pytest.raises(PrerequisiteError, match=rf"{file} is not UTF-8 .* probably gb18030"):
        compose(arguments)
    with pytest.raises(PrerequisiteError, match="there is no folder no=where"):
        compose(["--config-dir", "no=where"])


def test_the_help_of_a_sweep_says_what_each_setting_means(capsys):
    with pytest.raises(SystemExit):
        compose(["--help"])
    said = capsys.readouterr().out
    assert "By default: engine=transformers baseline=lexicon" in said
    assert "seed: 0" in said
    assert "limit: null         # the first n clips of each" in said
    assert "batch_size: ${engine.batch_size}" in said


@pytest.mark.parametrize("path", sorted((CONF / "baseline").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_baseline_fits_its_adapter(path: Path):
    """Its name is the file's, and its keys and values are taken by the adapter's class."""
    made = job(f"baseline={path.stem}")
    assert made.settings.baseline["name"] == path.stem
    assert made.settings.baseline["title"]
    # The port of a published model agrees with its golden data, and says so.
    golden = (GOLDEN / str(made.settings.baseline["adapter"])).is_dir()
    status = made.settings.baseline.get("status")
    assert status is None or status in STATUS
    assert (status == "golden") == golden
    assert made.adapter is made.adapter
    for preset in made.settings.baseline.get("generation") or ():
        assert Job(replace(made.settings, generation=preset)).adapter


@pytest.mark.parametrize("group", ["dataset", "extractor", "metric", "engine"])
def test_every_shipped_choice_composes_under_its_own_name(group):
    for path in sorted((CONF / group).glob("*.yaml")):
        made = job(f"{group}={path.stem}")
        # qwen25_paper is qwen25 with other settings.
        assert getattr(made.settings, group)["name"] == path.stem.removesuffix("_paper")
