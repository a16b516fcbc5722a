"""One experiment for each printed table: it runs what the table's layout shows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ovmer.runners.config import CONF, settings_from_overrides, shipped_baselines
from ovmer.runners.job import OWN_PRESET, Job, own_preset
from ovmer.runners.papers.layout import layout_names, read_layout
from tests.runners.jobs import job

NAMES = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
SHIPPED = shipped_baselines()
BENCHMARKS = (
    "dfew", "mafw", "ravdess", "emobench_m", "mmla", "intentbench", "mme_emotion", "meld_closed",
)  # fmt: skip


def composed(name: str) -> Any:
    return yaml.safe_load((CONF / "experiment" / f"{name}.yaml").read_text("utf-8"))


def params(name: str) -> dict[str, list[str]]:
    """What the sweep goes through, each parameter's values."""
    found = composed(name)["hydra"]["sweeper"]["params"]
    return {key: [each.strip() for each in text.split(",")] for key, text in found.items()}


def test_every_table_has_its_experiment() -> None:
    assert layout_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_it_follows_the_protocol_of_print(name: str) -> None:
    made, layout = job(f"experiment={name}").settings, read_layout(name)
    preset = own_preset(made.baseline) if layout.generation == OWN_PRESET else layout.generation
    assert (made.generation, made.dry_run) == (preset, False)
    if name in BENCHMARKS:
        return  # their protocols read the replies themselves
    assert made.extractor["name"] == "qwen25"
    assert made.extractor["sampling"] == "paper"
    assert layout.subtitle in (made.subtitle, None)


@pytest.mark.parametrize("name", [each for each in NAMES if each != "ovmer_clues"])
def test_it_runs_every_baseline_and_data_set_of_the_layout(name: str) -> None:
    swept, layout = params(name), read_layout(name)
    # `random` has no answer to the free text of EmoBench-M's smile.
    baselines = {row.baseline for row in layout.rows} - {None, "mer2024_example", "random"}
    assert set(swept["baseline"]) >= baselines
    data_sets = {column.dataset for column in layout.columns} - {None, "emer"}
    assert set(swept["dataset"]) == data_sets
    for data_set in data_sets:
        metrics = {c.metric for c in layout.columns if c.dataset == data_set} - {"grouping"}
        if metrics:  # groups are asked for afterwards
            made = job(f"experiment={name}", f"dataset={data_set}").settings
            assert metrics == {made.metric["name"]}
    # Composing each with Hydra takes a tenth of a second; the settings beside it are the same.
    settings = settings_from_overrides([f"experiment={name}"])
    for baseline in swept["baseline"]:
        fields = SHIPPED[baseline] | composed(name).get("baseline", {})
        assert Job(replace(settings, baseline=fields)).adapter


def test_combinations_join_the_runs_of_the_experiment_before() -> None:
    runs = composed("ovmer_clues")["hydra"]["sweeper"]["params"]["baseline.runs"]
    made = job("experiment=ovmer_clues", "outputs=o", f"baseline.runs=[{runs}]")
    joined = made.settings.baseline["runs"]
    assert len(joined) == 6
    for name in {Path(each).name.partition("-")[0] for pair in joined for each in pair}:
        single = job("experiment=ovmer", f"baseline={name}", "dataset=ovmerd", "outputs=o")
        assert any(str(single.folder) in pair for pair in joined)


def test_a_table_can_be_had_without_a_language_model() -> None:
    made = job("experiment=mer_unibench", "dataset=sample", "baseline=lexicon", "extractor=lexicon")
    assert made.extraction == "lexicon"


def test_each_baseline_is_run_as_its_rows_in_print_were() -> None:
    secap = job("experiment=mer_unibench", "baseline=secap", "dataset=meld")
    assert secap.settings.subtitle == "merge"
    assert secap.settings.extractor["translate"] == "english"
    assert secap.extraction == "qwen25-paper-merge", "as of the other baselines"
    other = job("experiment=mer_unibench", "baseline=otter", "dataset=meld")
    assert (other.settings.subtitle, other.settings.extractor["translate"]) == ("prompt", "none")
    affectgpt = job("experiment=mer_unibench", "baseline=affectgpt_paper", "dataset=meld")
    assert affectgpt.settings.dataset["visual"] == "face"
    assert affectgpt.settings.baseline["release"].startswith("emercoarse")
    for made in (secap, other, affectgpt):
        assert made.settings.baseline["bug_compat"] is True
        assert "bug_compat" in made.folder.name
    assert job("experiment=mer_unibench", "baseline=otter", "subtitle=none").settings.subtitle == (
        "none"
    ), "a setting of the command line comes first"


def test_a_dry_run_of_a_combination_joins_dry_runs(tmp_path: Path) -> None:
    for name in ("secap-dry-bug_compat", "mplug_owl-dry-apart-bug_compat"):
        (tmp_path / "ovmerd" / name).mkdir(parents=True)
    named = f"{tmp_path}/ovmerd/secap-bug_compat,{tmp_path}/ovmerd/mplug_owl-apart-bug_compat"
    made = job(
        "experiment=ovmer_clues", "dataset=ovmerd", "dry_run=true", f"outputs={tmp_path}",
        f"baseline.runs=[{named}]",
    )  # fmt: skip
    assert [path.name for path in made.adapter.sources()] == [
        "secap-dry-bug_compat",
        "mplug_owl-dry-apart-bug_compat",
    ]
