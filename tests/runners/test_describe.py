import pytest

from ovmer import load
from ovmer.baselines.errors import ClipError, PrerequisiteError


@pytest.fixture
def clip(data):
    return f"video={data / 'video' / 'a.mp4'}"


def test_it_prints_the_description_and_nothing_else(command, clip):
    done = command("describe", "baseline=scripted", clip)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "The person smiles; he is happy and a little surprised.\n"


def test_the_words_of_the_subtitle_are_taken_as_they_stand(command):
    odd = 'subtitle=I\'m {happy}, (really) = "so" ${sad}: [x]'
    done = command("describe", "baseline=lexicon", odd)
    assert (done.returncode, done.stdout) == (0, "happy, sad\n")


def test_an_empty_answer_and_a_dry_run_say_so(command, clip):
    done = command("describe", "baseline=lexicon", clip, "dry_run=true")
    assert (done.returncode, done.stdout) == (0, "\n")
    assert "a random miniature answers" in done.stderr
    assert "the answer is empty; this baseline uses subtitle" in done.stderr


def test_a_table_is_read_by_the_columns_that_are_named(command, tmp_path):
    (tmp_path / "clips.csv").write_text("name,words\na,I am so sad.\nb,We are happy.\n", "utf-8")
    done = command("describe", "baseline=lexicon", "clips.csv", "columns.subtitle=words")
    assert (done.returncode, done.stdout) == (0, "a: sad\nb: happy\n")


def test_it_says_what_a_sweep_says(command, clip, on_data, tmp_path):
    command("sweep", "baseline=random", *on_data)
    table = next(tmp_path.glob("outputs/*/random/predictions.csv")).read_text("utf-8")
    said = command("describe", "baseline=random", clip).stdout.strip()
    assert f"a,ok,['{said}'],{said},\n" in table.replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["baseline=scripted", "+baseline.prepare_fails={a: unreadable}"], 1, "a: a: scripted"),
        (["baseline=scripted", "video=nowhere.mp4"], 2, "video: there is no file nowhere.mp4"),
        (["baseline=ground_truth", "subtitle=hi"], 2, "ground_truth repeats the true labels"),
        (["subtitle=hi", "seed=1"], 2, "say which model is asked by baseline=NAME"),
        (["baseline=lexicon"], 2, "nothing to describe; name a file"),
        (["baseline=lexicon", "subtitle=hi", "inputs=video"], 2, "inputs=video leaves it nothing"),
        (
            ["baseline=lexicon", "subtitle=hi", "task=question", "question=Why?"],
            2,
            "baseline=lexicon puts no question, so task=question cannot be asked",
        ),
        (["baseline=scripted", "vidio=x"], 2, "there is no key vidio"),
    ],
)
def test_what_goes_wrong_is_one_sentence(command, clip, arguments, status, said):
    given = [clip] if "prepare_fails" in arguments[-1] or "vidio" in arguments[-1] else []
    done = command("describe", *arguments, *given)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1


def test_a_yaml_of_ones_own_is_found(command, clip, tmp_path):
    (tmp_path / "mine" / "baseline").mkdir(parents=True)
    yaml = "name: glad\ntitle: Glad\nadapter: scripted\ndefault: Glad.\n"
    (tmp_path / "mine" / "baseline" / "glad.yaml").write_text(yaml, encoding="utf-8")
    done = command("describe", "--config-dir", "mine", "baseline=glad", clip)
    assert (done.returncode, done.stdout) == (0, "Glad.\n")
    variant = "defaults: [video_llava, _self_]\ntitle: Our Video-LLaVA\nname: ours\n"
    (tmp_path / "mine" / "baseline" / "ours.yaml").write_text(variant, encoding="utf-8")
    listed = command("list", "--config-dir", "mine").stdout.splitlines()
    rows = {line.split()[0]: line for line in listed if line}
    assert "Glad" in rows["glad"]
    assert "scripted" in rows["glad"]
    assert "Our Video-LLaVA" in rows["ours"]
    assert rows["ours"].split()[-2:] == rows["video_llava"].split()[-2:], "of the same size"
    (tmp_path / "mine" / "baseline" / "bare.yaml").write_text("name: bare\n", encoding="utf-8")
    bare = command("list", "--config-dir", "mine")
    assert bare.returncode == 2
    assert bare.stderr.startswith("mine/baseline/bare.yaml names no adapter; add adapter: NAME")
    missing = command("describe", "--config-dir", "yours", "baseline=glad", clip)
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr == "--config-dir: there is no folder yours\n"


def test_a_loaded_baseline_is_asked_from_python_as_often_as_one_likes(data):
    video = data / "video" / "a.mp4"
    with load("random", "seed=5") as model:
        said = [model.describe(video=video) for _ in range(2)]
        assert said[0] == said[1] == model.describe(str(video), subtitle="Oh.")
        with pytest.raises(PrerequisiteError, match="audio: there is no file nowhere"):
            model.describe(audio="nowhere.wav")
    with load("lexicon") as model:
        assert model.describe(subtitle="I am so sad.") == "sad"
    with load("lexicon", "inputs=no_subtitle") as model:
        assert model.describe(subtitle="I am so sad.") == ""


def test_errors_of_a_loaded_baseline_are_sentences(data):
    with pytest.raises(PrerequisiteError, match="there is no baseline=video_lava; did you mean"):
        load("video_lava")
    with (
        load("scripted", "+baseline.prepare_fails={a: unreadable}") as model,
        pytest.raises(ClipError, match="scripted unreadable"),
    ):
        model.describe(video=data / "video" / "a.mp4")
