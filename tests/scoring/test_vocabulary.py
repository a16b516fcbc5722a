"""Tables: pinned, compiled once, and what the shipped ones can do."""

import shutil
from pathlib import Path

import pytest

from ovmer.baselines.cache import VOCABULARIES, cache_folder
from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.scoring import make_metric, score
from ovmer.runners.scoring.vocabulary import (
    MAPPINGS,
    SHIPPED,
    _compile,
    _vocabulary,
    load_vocabulary,
)
from ovmer.runners.scoring.word_tables import TABLES, WordRelations, wheel_root
from tests.scoring.conftest import EDITIONS


def tiny() -> WordRelations:
    """Two base words that share a form, and wheels on which one word stands twice."""
    forms = {"glad": {"happy", "amused"}, "happy": {"happy"}, "amused": {"amused"}}
    synonyms = {"happy": {"joy", "zest"}, "amused": {"fun"}}
    wheel = (
        ("good", "warm", "joy"),
        ("bad", "loud", "zest"),
        ("bad", "cold", "joy"),
        ("good", "soft", "calm"),
    )
    return WordRelations(forms, synonyms, (wheel,) * 4 + ((("none", "none", "none"),),))


def test_rules_on_a_tiny_vocabulary() -> None:
    vocabulary = _vocabulary("tiny", _compile(tiny()))
    # The alphabetically first base, then *its* first synonym; a wheel looks at all of them.
    assert vocabulary.group("glad", "M1") == "amused"
    assert vocabulary.group("glad", "M2") == "fun"
    assert vocabulary.group("glad", "M3-W1-L1") == "bad"  # fun stands on no wheel; joy: last wins
    assert vocabulary.group("glad", "M3-W1-L2") == "cold"
    assert vocabulary.group("amused", "M3-W1-L1") == ""
    assert vocabulary.group("happy", "M3-W5-L1") == ""
    assert vocabulary.group("Glad", "M1") == ""


def test_a_level1_word_goes_to_its_first_level2_word() -> None:
    words = WordRelations({"bad": {"bad"}}, {"bad": {"bad"}}, tiny().wheels)
    vocabulary = _vocabulary("tiny", _compile(words))
    assert vocabulary.group("bad", "M3-W1-L2") == "cold"


def test_shipped_words() -> None:
    vocabulary = load_vocabulary(SHIPPED)
    assert not vocabulary.comparable
    for label, base in {
        "happy": "happy",
        "happiness": "happy",
        "sadly": "sad",
        "worries": "worried",
        "frustration": "frustrated",
        "let down": "let down",
        "neutral": "",
        "开心": "",
        "x" * 1_000_000: "",
    }.items():
        assert vocabulary.group(label, "M1") == base
    assert [vocabulary.group("sad", f"M3-W{k}-L1") for k in range(1, 6)] == ["sad"] * 5


def test_auto_is_shipped_until_the_tables_are_fetched(official: str) -> None:
    assert load_vocabulary("auto").name == SHIPPED
    wheel_root().parent.mkdir(parents=True, exist_ok=True)
    wheel_root().symlink_to(official)
    try:
        assert load_vocabulary("auto").name == "mer2025"
        assert load_vocabulary("auto", "mer2026").name == "mer2026"
    finally:
        wheel_root().unlink()


def test_the_authors_own_folder_of_2026_is_read(official: str, tmp_path: Path) -> None:
    """There the edition's format.csv lies beside the others."""
    for table in TABLES:
        if "/" not in table.path:
            shutil.copyfile(Path(official, table.path), tmp_path / table.path)
    shutil.copyfile(Path(official, "mer2026", "format.csv"), tmp_path / "format.csv")
    assert len(load_vocabulary(tmp_path, "mer2026").rows) == 7356
    with pytest.raises(PrerequisiteError, match="is not the published file"):
        load_vocabulary(tmp_path, "mer2025")


@pytest.mark.parametrize("edition", EDITIONS)
def test_the_compiled_vocabulary_is_the_same_and_a_damaged_one_is_made_anew(
    official: str, edition: str
) -> None:
    first = load_vocabulary(official, edition)
    (path,) = cache_folder(VOCABULARIES).glob(f"{edition}-*.json")
    for damage in (path.read_text(encoding="utf-8"), "{", "[]", "{}"):
        path.write_text(damage, encoding="utf-8")
        again = load_vocabulary(official, edition)
        assert again.rows == first.rows
        assert again.groups == first.groups
        assert (again.codes == first.codes).all()


def test_a_changed_table_is_refused(official: str, tmp_path: Path) -> None:
    root = tmp_path / "wheels"
    shutil.copytree(official, root, copy_function=shutil.copyfile)
    (root / "wheel3.xlsx").write_bytes(b"other")
    with pytest.raises(PrerequisiteError, match=r"wheel3\.xlsx is not the published file"):
        load_vocabulary(root)
    (root / "wheel3.xlsx").unlink()
    with pytest.raises(PrerequisiteError, match=r"wheel3\.xlsx cannot be read.*ovmer fetch"):
        load_vocabulary(root)
    with pytest.raises(PrerequisiteError, match="there is no folder"):
        load_vocabulary(tmp_path / "absent")


def test_an_unwritable_cache_costs_time_alone(
    official: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(load_vocabulary(official).rows) == 7386


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "weel"}, "no metric 'weel'; did you mean wheel"),
        ({"name": "wheel", "editon": "mer2025"}, "no key 'editon'; did you mean edition"),
        ({"name": "wheel", "edition": "mer2024"}, "choose one of mer2025, mer2026"),
        ({"name": "wheel", "no_overlap": "none"}, "choose one of undefined, zero"),
        ({"name": "wheel", "parser": "kind"}, "did you mean friendly"),
        ({"name": "wheel", "primary": "M-av"}, "did you mean M-avg"),
        ({"name": "wheel", "parser": 3}, "metric.parser is 3"),
        ({"name": "hit_rate", "index_words": "mosi"}, "choose one of iemocap, meld, none"),
        ({"name": "grouping"}, "metric.replies is missing"),
        ({"name": "single_label", "outside": "ignore"}, "choose one of error, wrong"),
        ({"name": "single_label", "labels": "happy"}, "metric.labels is 'happy'; give a list"),
    ],
)
def test_mistyped_settings(settings: dict[str, object], words: str) -> None:
    if settings["name"] in ("wheel", "hit_rate"):
        settings = {"wheel_root": SHIPPED, **settings}
    with pytest.raises(PrerequisiteError, match=words.replace(".", r"\.")):
        make_metric(settings)


def test_every_mapping_has_its_groups(official: str) -> None:
    for root in (SHIPPED, official):
        vocabulary = load_vocabulary(root)
        assert vocabulary.codes.shape[1] == len(vocabulary.groups) == len(MAPPINGS) == 12
        assert all(list(words) == sorted(words) for words in vocabulary.groups)


def test_shipped_scores_say_so() -> None:
    scores = score({"a": "[happy]"}, {"a": ["joyful"]}, wheel_root=SHIPPED)
    assert not scores.comparable
    assert scores.as_json()["comparable_with_papers"] is False
    assert any("not comparable with papers" in note for note in scores.notes)
