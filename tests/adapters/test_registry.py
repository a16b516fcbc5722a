"""Names, near names, and plug-ins that live outside the tree."""

import importlib
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import pytest

from ovmer.adapters import Adapter, registry
from ovmer.adapters.base import Prepared
from ovmer.baselines import errors
from ovmer.baselines.errors import MissingModality, PrerequisiteError
from ovmer.runners.config import Settings, settings_from_overrides
from ovmer.runners.job import Job


@pytest.fixture
def plugins(monkeypatch):
    """Make entry points known as if packages had been installed."""

    def install(**values: str) -> None:
        points = [EntryPoint(name, value, registry.GROUP) for name, value in values.items()]
        monkeypatch.setattr(registry, "_plugins", lambda: points)

    return install


def test_listing_imports_neither_adapters_nor_torch():
    code = (
        "import sys; from ovmer.adapters.registry import names; names(); "
        "print(sorted({'torch', 'transformers', 'ovmer.adapters.heuristic'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_every_built_in_name_leads_to_an_adapter():
    for name in registry.BUILT_IN:
        assert issubclass(registry.get(name), Adapter)


def test_unknown_name_offers_the_near_ones():
    with pytest.raises(PrerequisiteError, match=r"'lexikon'; did you mean lexicon\?"):
        registry.get("lexikon")


def test_plugin_is_found_and_listed(plugins):
    plugins(my_model="ovmer.adapters.heuristic:Empty")
    assert registry.get("my_model").__name__ == "Empty"
    assert registry.RegistryEntry("my_model", "ovmer.adapters.heuristic:Empty") in registry.names()


def test_dotted_path_needs_no_installation():
    assert registry.get("ovmer.adapters.heuristic:Lexicon").__name__ == "Lexicon"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_package:Model", r"cannot be imported: ModuleNotFoundError: .*no_such_package"),
        ("ovmer.adapters.heuristic:Nothing", r"cannot be imported: AttributeError"),
        ("pathlib:Path", r"is no subclass of ovmer.adapters.Adapter"),
    ],
)
def test_broken_plugin_is_named_and_the_rest_works(plugins, value, message):
    plugins(broken=value)
    with pytest.raises(PrerequisiteError, match=message):
        registry.get("broken")
    assert registry.get("empty")


def test_a_name_registers_once_and_must_be_listed():
    with pytest.raises(ValueError, match="missing from BUILT_IN"):
        registry.register("unheard_of")(Adapter)
    registry.get("empty")
    with pytest.raises(ValueError, match="registered twice"):
        registry.register("empty")(Adapter)


def test_one_method_is_enough_for_a_plugin():
    class Echo(Adapter):
        def describe(self, video, audio, subtitle):
            if not subtitle:
                raise MissingModality("nothing is said")
            return f"said {subtitle}"

    echo = Echo()
    heard, silent = echo.generate([echo.prepare(None, None, "hi"), echo.prepare(None, None, "")])
    assert heard == "said hi"
    assert isinstance(silent, MissingModality)


def test_two_methods_give_describe_for_free():
    class Fast(Adapter):
        def prepare(self, video, audio, subtitle):
            return Prepared(subtitle)

        def generate(self, batch):
            return [MissingModality("no") if not item.inputs else item.inputs for item in batch]

    assert Fast().describe(None, None, "hi") == "hi"
    with pytest.raises(MissingModality):
        Fast().describe(None, None, "")


def test_an_adapter_with_neither_says_so():
    with pytest.raises(TypeError, match="defines neither describe"):
        Adapter().describe(None, None, "hi")


# -- names that two give -------------------------------------------------------------------------


def test_a_plugin_with_the_name_of_one_of_ours_is_an_error_that_names_both(plugins):
    plugins(video_llava="their_package:Model")
    with pytest.raises(PrerequisiteError, match=r"ovmer itself .* and by their_package:Model"):
        registry.get("video_llava")


def test_two_packages_with_one_name_are_an_error_that_names_both(monkeypatch):
    points = [EntryPoint("mine", f"{each}:Model", registry.GROUP) for each in ("one", "two")]
    monkeypatch.setattr(registry, "_plugins", lambda: points)
    with pytest.raises(PrerequisiteError, match=r"'mine' is given by one:Model and by two:Model"):
        registry.get("mine")


def test_register_serves_code_outside_the_tree_but_not_with_our_names():
    code = (
        "from ovmer.adapters import Adapter, Mllm, register, registry\n"
        "@register('echo')\n"
        "class Echo(Adapter):\n"
        "    def describe(self, video, audio, subtitle):\n"
        "        return subtitle\n"
        "assert registry.get('echo') is Echo and Mllm\n"
        "try:\n    register('empty')(Echo)\nexcept ValueError as error:\n    print(error)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "cannot be called 'empty', a baseline of ovmer (ovmer.adapters.heuristic)" in out.stdout


def test_names_are_near_without_case_underscores_and_hyphens():
    with pytest.raises(PrerequisiteError, match=r"did you mean video_llava"):
        registry.get("Video-LLaVA")


def test_a_package_brings_its_own_settings(tmp_path, monkeypatch, plugins):
    folder = tmp_path / "their_package" / "conf" / "baseline"
    folder.mkdir(parents=True)
    (tmp_path / "their_package" / "__init__.py").write_text(
        "from ovmer.adapters import Adapter\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Theirs(Adapter):\n    frames: int = 1\n"
        "    def describe(self, video, audio, subtitle):\n        return str(self.frames)\n"
    )
    (folder / "theirs.yaml").write_text("title: Their model\nframes: 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    plugins(theirs="their_package:Theirs")
    job = Job(settings_from_overrides(["baseline=theirs", "dataset=sample"]))
    assert job.settings.baseline["title"] == "Their model"
    assert job.adapter.describe(None, None, None) == "7"


def test_an_error_in_an_installed_plug_in_is_not_that_of_a_library(tmp_path, monkeypatch):
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "loud.py").write_text("def measure(sound):\n    return sound.volume\n")
    monkeypatch.syspath_prepend(folder)
    with pytest.raises(AttributeError) as caught:
        importlib.import_module("loud").measure(1)
    assert errors.where(caught.value).startswith(" (test_registry.py")
    point = EntryPoint("loudness", "loud:Loudness", registry.GROUP)
    monkeypatch.setattr(errors, "entry_points", lambda group: [point])
    assert errors.where(caught.value) == " (loud.py, line 2)"


# -- mistakes in a plug-in -----------------------------------------------------------------------


class Misspelt(Adapter):
    def descibe(self, video, audio, subtitle):
        return ""


class OddModality(Adapter):
    modalities = frozenset({"vidoe"})

    def describe(self, video, audio, subtitle):
        return ""


class WrongSignature(Adapter):
    def describe(self, video):
        return ""


class Idle(Adapter):
    def prepare(self, video, audio, subtitle):
        return Prepared(None)


@dataclass
class Fails(Adapter):
    frames: int = 0

    def __post_init__(self):
        raise ValueError("frames are none")

    def describe(self, video, audio, subtitle):
        return ""


@dataclass
class Needs(Adapter):
    weights: str

    def describe(self, video, audio, subtitle):
        return ""


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Misspelt, "has a method descibe, which nothing calls; did you mean describe?"),
        (OddModality, "uses 'vidoe'; did you mean video?"),
        (WrongSignature, "WrongSignature.describe of the adapter 'bad' must take (video, audio,"),
        (Idle, "defines neither describe() nor prepare() and generate()"),
        (Fails, "cannot be built: ValueError: frames are none (test_registry.py, line "),
        (Needs, "baseline.weights has no value; give baseline.weights="),
    ],
)
def test_a_mistake_in_a_plugin_is_one_sentence_before_the_run(plugins, cls, message):
    plugins(bad=f"{__name__}:{cls.__name__}")
    job = Job(Settings(baseline={"name": "bad", "adapter": "bad"}))
    with pytest.raises(PrerequisiteError, match=re.escape(message)):
        _ = job.adapter


def test_a_run_folder_cannot_name_a_module_to_import(tmp_path):
    settings = Settings(baseline={"name": "x", "adapter": "antigravity:Model"})
    with pytest.raises(PrerequisiteError, match="may not have imported"):
        _ = Job(settings, at=tmp_path).adapter
    assert "antigravity" not in sys.modules


def test_describe_gets_the_seed_of_the_clip_where_it_asks_for_it():
    class Seeded(Adapter):
        def describe(self, video, audio, subtitle, seed=0):
            return str(seed)

    assert Seeded().generate([Prepared((None, None, ""), seed=7)]) == ["7"]
    assert Seeded().describe(None, None, "") == "0"


def test_modalities_are_those_of_the_built_adapter():
    base = ["baseline=external", "baseline.worker=w.py", f"baseline.python={sys.executable}"]
    base.append("dataset=sample")
    sees = Job(settings_from_overrides([*base, "baseline.modalities=[video]"]))
    hears = Job(settings_from_overrides([*base, "baseline.modalities=[audio,subtitle]"]))
    assert not sees.uses_subtitle
    assert "dataset.visual" in sees.identity
    assert hears.uses_subtitle
    assert "dataset.visual" not in hears.identity
