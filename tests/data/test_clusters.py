"""Which clips belong together, and what that does to intervals."""

from pathlib import Path

import pytest

from ovmer.baselines.errors import PrerequisiteError
from ovmer.runners.config import CONF
from ovmer.runners.data import in_clusters, read_dataset
from ovmer.runners.data.clusters import name_rule, named_clips
from ovmer.runners.scoring import score
from ovmer.runners.scoring.vocabulary import SHIPPED
from tests.runners.conftest import write_tables


@pytest.mark.parametrize(
    ("dataset", "name", "cluster"),
    [
        ("meld", "test_dia0_utt12", "test_dia0"),
        ("cmumosi", "c5xsKMxpXnc_4", "c5xsKMxpXnc"),
        ("cmumosei", "-mqbVkbCndg_0", "-mqbVkbCndg"),
        ("sims", "video_0003_0006", "video_0003"),
        ("simsv2", "aqgy3_0001_00007", "aqgy3_0001"),
        ("iemocap", "Ses05F_impro01_M003", "Ses05/M"),
        ("iemocap", "Ses05M_script02_1_F010", "Ses05/F"),
        ("ravdess", "01-01-03-02-01-02-24", "24"),
    ],
)
def test_the_shipped_rules_name_the_cluster(dataset: str, name: str, cluster: str) -> None:
    import yaml

    told = yaml.safe_load((CONF / "dataset" / f"{dataset}.yaml").read_text("utf-8"))
    (clip,) = named_clips([name], told["dataset"]["cluster"])
    assert clip.cluster == cluster


def test_a_name_that_does_not_fit_is_by_itself() -> None:
    rule = name_rule(r"^(.+)_\d+$")
    assert (rule("a_1"), rule("b")) == ("a", "")
    assert name_rule(r"^\w\d")("s1_003") == "s1", "without groups, what fits"
    with pytest.raises(PrerequisiteError, match="is no regular expression"):
        name_rule("(")


def settings(root: Path, **cluster: str | None) -> dict[str, object]:
    return {
        "name": "mine",
        "root": str(root),
        "check_files": False,
        "subtitle": {"file": "subtitle_chieng.csv", "columns": {"english": "english"}},
        "labels": {"file": "track2_train_ovmerd.csv"},
        "cluster": cluster,
    }


def test_a_column_of_the_label_table_names_it_too(tmp_path: Path) -> None:
    root = write_tables(tmp_path / "data", ["a", "b", "c"])
    table = root / "track2_train_ovmerd.csv"
    header, *rows = table.read_text("utf-8").splitlines()
    films = ["one", "two", "one"]
    lines = [f"{header},film", *(f"{row},{film}" for row, film in zip(rows, films, strict=True))]
    table.write_text("\n".join(lines) + "\n", "utf-8")
    clips = read_dataset(settings(root, what="film", column="film"))
    assert [clip.cluster for clip in clips] == films
    with pytest.raises(PrerequisiteError, match="has no column 'movie'"):
        read_dataset(settings(root, what="film", column="movie"))


def test_scores_say_what_is_known() -> None:
    said = {f"v{i % 5}_{i}": "happy" if i % 3 else "sad" for i in range(60)}
    scores = score(said, dict.fromkeys(said, "happy"), wheel_root=SHIPPED, bootstrap=0)
    rule = {"what": "video", "pattern": r"^(.+)_\d+$"}
    known = in_clusters(scores, named_clips(list(said), rule), rule)
    assert known.contributions.n_units == 5
    assert any("over 5 of them, by t" in note for note in known.with_intervals(200).notes)
    unknown = in_clusters(scores, named_clips(list(said), {"what": "film"}), {"what": "film"})
    assert unknown.contributions.n_units == 60
    assert "which clips share a film is not known" in unknown.notes[-1]
    assert in_clusters(scores, [], None) is scores
