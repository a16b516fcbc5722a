"""Names, near names, and plug-ins that live outside the tree."""

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from ovmer.adapters import Adapter, registry
from ovmer.adapters.base import Prepared
from ovmer.baselines.errors import MissingModality, PrerequisiteError


@pytest.fixture
def plugins(monkeypatch):
    """Make entry points known as if packages had been installed."""

    def install(**values: str) -> None:
        points = {name: EntryPoint(name, value, registry.GROUP) for name, value in values.items()}
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
    assert registry.Listing("my_model", "ovmer.adapters.heuristic:Empty") in registry.names()


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
