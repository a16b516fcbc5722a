"""What a job is called and what makes it another one; the settings are composed as in a sweep."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ovmer.adapters.base import Adapter
from ovmer.adapters.heuristic import Random
from ovmer.baselines.errors import PrerequisiteError
from ovmer.baselines.gpu import OWN
from ovmer.runners.config import settings_as_json
from ovmer.runners.job import preset_of
from tests.runners.jobs import job


@dataclass
class Decoding:
    temperature: float = 1.0
    max_new_tokens: int = 8


@dataclass
class Model(Adapter):
    """An adapter with weights, a miniature and decoding presets, as the MLLMs have."""

    frames: int = 8
    generation: Decoding = field(default_factory=Decoding)

    def describe(self, video, audio, subtitle):
        return ""

    def load(self, machine):
        pass

    def miniature(self, folder, seed=0):
        return replace(self)


MODEL = (
    "baseline=random",
    "~baseline.labels",
    "~baseline.source",
    f"baseline.adapter={__name__}:Model",
    "baseline.name=model",
    "+baseline.frames=8",
    "+baseline.generation={paper: {temperature: 0.2}, greedy: {temperature: 0.0}}",
)


def model(*overrides):
    made = job(*MODEL, *overrides)
    return replace(made, overrides=overrides)  # those that make the model are no switches


@pytest.mark.parametrize(
    ("overrides", "folder"),
    [
        ((), "model"),
        (("dry_run=true",), "model-dry"),
        (("generation=greedy",), "model-greedy"),
        (("subtitle=none",), "model-apart"),
        (("dataset.visual=face",), "model-face"),
        (("dataset.language=chinese",), "model-chinese"),
        (("machine.dtype=bfloat16",), "model-bfloat16"),
        (("engine=vllm",), "model-vllm"),
        (("engine=vllm", "engine.memory=0.5"), "model-vllm"),
        (("engine=vllm", "+engine.options.quantization=fp8"), "model-vllm-quantization_fp8"),
        (("engine=vllm", "+engine.options.kv_cache_dtype=fp8"), "model-vllm-kv_cache_dtype_fp8"),
        (("engine.quantization=8bit",), "model-quantization_8bit"),
        (("engine.compile=true",), "model-compile_true"),
        (("seed=3",), "model-seed3"),
        (("variant=my try",), "model-my_try"),
        (("baseline.frames=16",), "model-frames_16"),
        (("+baseline.generation.beam.top={k: 5}",), "model-generation.beam.top_k_5"),
        (("generation=greedy", "dry_run=true", "variant=x"), "model-dry-greedy-x"),
    ],
)
def test_the_folder_tells_what_is_unusual(overrides, folder):
    assert model(*overrides).folder == Path("outputs/sample", folder)


@pytest.mark.parametrize(
    "override",
    [
        "batch_size=1",
        "workers=3",
        "machine.device=cpu",
        "dataset.limit=2",
        "dataset.clips=[a]",
        "on_error=raise",
        "extractor.sentences=1",
    ],
)
def test_what_changes_no_word_changes_neither_folder_nor_identity(override):
    other = model(override)
    assert (other.folder, other.identity) == (model().folder, model().identity)


@pytest.mark.parametrize(
    "override",
    [
        "dry_run=true",
        "generation=greedy",
        "subtitle=none",
        "dataset.visual=face",
        "dataset.language=chinese",
        "machine.dtype=bfloat16",
        "seed=3",
        "baseline.frames=16",
    ],
)
def test_what_changes_words_changes_both(override):
    other = model(override)
    assert other.identity != model().identity
    assert other.folder != model().folder


def test_the_extractors_data_type_is_resolved_for_its_machine():
    """So that labels of a CPU are not kept as those of a GPU."""
    made = job("baseline=random", "extractor=qwen25")
    assert made.settings.extractor["dtype"] == "auto"
    assert replace(made, on_gpu=False).extractor["dtype"] == "float32"
    assert replace(made, on_gpu=True).extractor["dtype"] == OWN, "the checkpoint's"


def test_the_data_type_of_the_authors_has_one_folder_named_or_not():
    """So that the combinations of an experiment find the runs that they join."""
    named, usual = (
        replace(job("baseline=video_llava", *more), on_gpu=True)
        for more in (("machine.dtype=float16",), ())
    )
    assert (named.folder, named.identity) == (usual.folder, usual.identity)


@pytest.mark.parametrize(
    "override", ["dry_run=true", "generation=greedy", "subtitle=none", "dataset.visual=face"]
)
def test_switches_that_a_baseline_has_no_use_for_are_none_of_its_business(override):
    plain, switched = job("baseline=random"), job("baseline=random", override)
    assert (plain.folder, plain.identity) == (switched.folder, switched.identity)


def test_defaults_of_the_class_are_part_of_the_identity():
    assert model().identity["baseline.generation"] == {"temperature": 0.2, "max_new_tokens": 8}


def test_another_root_is_another_folder(tmp_path):
    one = job("dataset=ovmerd", f"dataset.root={tmp_path / 'one'}")
    two = job("dataset=ovmerd", f"dataset.root={tmp_path / 'two'}")
    again = job("dataset=ovmerd", f"dataset.root={tmp_path / 'two' / '..' / 'one'}")
    assert one.folder.parent.name.startswith("ovmerd-")
    assert one.folder != two.folder
    assert one.folder == again.folder
    assert one.identity == two.identity


@pytest.mark.parametrize("name", ["../../etc", "a/b", "", "..", "x" * 300])
def test_no_name_leads_out_of_the_outputs(name):
    folder = job("baseline=random", f"baseline.name='{name}'", f"variant='{name}'").folder
    assert len(folder.parts) == 3
    assert ".." not in folder.parts
    assert len(folder.name) < 100


def test_the_adapter_gets_its_fields_and_the_chosen_preset():
    assert model("generation=greedy", "baseline.frames=4").adapter == Model(4, Decoding(0.0))
    assert job("baseline=random", "baseline.labels=2").adapter == Random(labels=2)


@pytest.mark.parametrize(
    ("baseline", "preset"),
    [
        ("video_llava", "paper"),
        ("qwen3_5", "card"),
        ("emocaliber", "card"),
        ("qwen2_5_vl", "greedy"),
    ],
)
def test_a_baseline_decodes_as_its_own_authors_do(baseline, preset):
    made = job(f"baseline={baseline}")
    assert made.settings.generation == preset
    assert made.folder.name == baseline
    assert job(f"baseline={baseline}", f"generation={preset}").folder == made.folder
    assert preset_of(made.settings) == preset


@pytest.mark.parametrize("baseline", ["lexicon", "random", "ground_truth", "empty"])
def test_what_decodes_nothing_has_no_preset(baseline):
    assert preset_of(job(f"baseline={baseline}").settings) == "-"


def test_a_yaml_without_presets_decodes_greedily_and_says_so():
    bare = ("baseline=qwen2_5_vl", "baseline.generation=null")
    assert job(*bare).settings.generation == "greedy"
    short = job(*bare, "+task.generation.max_new_tokens=7").adapter
    assert short.generation.max_new_tokens == 7
    with pytest.raises(PrerequisiteError, match=r"has no generation=paper"):
        _ = job(*bare, "generation=paper").adapter


def test_what_float16_does_to_a_bfloat16_checkpoint_is_said():
    assert (
        "overflow in float16" in job("baseline=qwen2_5_vl", "machine.dtype=float16").dtype_warning
    )
    for overrides in (("machine.dtype=bfloat16",), ("machine.device=cuda",), ()):
        assert job("baseline=qwen2_5_vl", *overrides).dtype_warning == ""
    assert job("baseline=video_llava", "machine.dtype=float16").dtype_warning == ""


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ("baseline=qwen3_5", "generation=paper"),
            "no generation=paper; choose one of card, greedy",
        ),
        (("baseline=random", "+baseline.lables=3"), "no key baseline.lables; did you mean labels"),
        (("baseline=random", "baseline.labels=three"), "baseline.labels: Value 'three'"),
        (("baseline=random", "baseline.source=x"), "baseline.source is 'x'; choose"),
        (("baseline=empty", "+baseline.frames=3"), "'empty' has no settings, yet baseline.frames"),
        (("baseline=empty", "baseline.adapter=emty"), "no adapter is called 'emty'; did you mean"),
        (("baseline=empty", "baseline.adapter=null"), "baseline.adapter must name an adapter"),
        (("baseline=empty", "generation=gredy"), "no generation=gredy; did you mean greedy"),
        ((*MODEL, "generation=beam"), "no generation=beam; choose one of greedy, paper"),
        ((*MODEL, "+baseline.generation.paper.top=1"), "no key baseline.generation.top; choose"),
    ],
)
def test_a_wrong_setting_of_a_baseline_is_one_sentence(overrides, sentence):
    with pytest.raises(PrerequisiteError) as caught:
        job(*overrides).adapter  # noqa: B018
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_of_many_words_is_cut_to_what_file_systems_take():
    many = [f"+baseline.answers.clip{n}=said{n}" for n in range(30)]
    names = [job("baseline=scripted", *many, *more).folder.name for more in ([], ["variant=x"])]
    assert all(len(name) == 199 for name in names)
    assert names[0] != names[1]


def test_what_cannot_change_a_word_makes_no_other_run():
    plain = job("baseline=external")
    hasty = job("baseline=external", "baseline.timeout=9", "baseline.python=/usr/bin/python3")
    other = job("baseline=external", "baseline.worker=other.py")
    assert hasty.identity == plain.identity
    assert hasty.folder == plain.folder
    assert other.identity != plain.identity


def test_a_combination_is_identified_by_its_parts_in_any_folder(tmp_path, monkeypatch):
    (tmp_path / "o" / "d" / "secap").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    parts = [f"baseline.runs=[{o}/d/secap,{o}/d/otter-nosub]" for o in ("o", tmp_path)]
    here, elsewhere = (job("baseline=combined", each) for each in parts)
    assert here.folder == elsewhere.folder
    assert here.folder.name == "combined-secap+otter_nosub"
    assert here.identity == elsewhere.identity
    assert here.identity["sources"] == ["d/secap", "d/otter-nosub"]
    told = settings_as_json(here.settings)["baseline"]["runs"]
    assert told == [str(tmp_path / "o" / "d" / "secap"), "o/d/otter-nosub"], "what is there"


def test_the_location_of_weights_is_no_part_of_a_run(tmp_path):
    llm = ("baseline=video_llava", "generation=greedy", "dataset=sample")
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.bin").write_bytes(content * 100)
    here, there, other = (
        job(*llm, f"baseline.checkpoint.llm.path={tmp_path / name}") for name in "abc"
    )
    assert here.folder == there.folder
    assert here.folder.name == "video_llava-greedy"
    assert here.identity == there.identity != other.identity
    below = job(*llm, f"weights={tmp_path}")
    assert below.identity == job(*llm).identity
    assert below.folder == job(*llm).folder


def test_the_setting_that_an_error_of_loading_names_composes(tmp_path):
    told = job("baseline=salmonn", "+baseline.checkpoint.llm.ignore=[ln_video.*]")
    assert told.adapter.checkpoint["llm"].ignore == ["ln_video.*"]


@pytest.mark.parametrize(
    ("overrides", "word"),
    [
        ((), "qwen25"),
        (("extractor.sampling=paper",), "qwen25-paper"),
        (("extractor.parser=friendly",), "qwen25-friendly"),
        (("extractor.parser=friendly", "subtitle=merge"), "qwen25-friendly-merge"),
        (("extractor.translate=english",), "qwen25-translate_english"),
        (("extractor.labels=labels_chinese",), "qwen25-labels_chinese"),
        (("extractor.model=me/Other@1",), "qwen25-me_Other_1"),
        (("extractor=lexicon", "extractor.sentences=1"), "lexicon-sentences_1"),
        (("extractor=smollm2",), "smollm2"),  # which is made from qwen25
    ],
)
def test_labels_of_different_making_are_kept_under_different_words(overrides, word):
    assert job("baseline=scripted", "extractor=qwen25", *overrides).extraction == word
