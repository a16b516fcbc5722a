"""The chain of questions: what is asked, what is read, and what is said of odd answers."""

from pathlib import Path

import pytest

from ovmer.baselines.decoding.answers import Generated
from ovmer.baselines.decoding.settings import GenerationSettings
from ovmer.baselines.errors import PrerequisiteError, Timeout
from ovmer.runners.extraction import ClipDescription, ExtractedLabels
from ovmer.runners.extraction.language_model import LanguageModelExtractor, QuestionChain
from tests.extraction.scripted import ScriptedEngine, scripted

SAMPLED = GenerationSettings(do_sample=True, temperature=0.7)


def last_input(prompt: str) -> str:
    """What stands in a prompt's last slot, roughly."""
    return prompt.rpartition("Input: ")[2]


def answer(prompt: str) -> str:
    """A model that does as it is told, in its own way."""
    if "translate" in prompt:
        return "Output: He is sad."
    if "merge all" in prompt:
        return f"Merged\n<{last_input(prompt)}>"
    if "subtitle content of the video" in prompt:
        return "Judged by the words alone."
    if "sentiment" in prompt:
        return "negative"
    return "[sad,\n worried]"


def extract(
    cache: Path, items: list[ClipDescription], chain: QuestionChain | None = None, answer=answer
) -> tuple[dict[str, ExtractedLabels], ScriptedEngine]:
    model, engine = scripted(cache, answer)
    extractor = LanguageModelExtractor("qwen25", model, chain or QuestionChain())
    found = list(extractor.extract(items))
    assert sorted(each.name for each in found) == sorted(item.name for item in items)
    return {each.name: each for each in found}, engine


def test_a_description_becomes_labels(tmp_path: Path):
    found, engine = extract(tmp_path, [ClipDescription("a", "He sighs.")])
    assert found["a"] == ExtractedLabels("a", ("sad", "worried"), "[sad,\n worried]")
    assert [last_input(each[0]) for each in engine.asked] == ["He sighs.; Output: "]


def test_the_same_words_are_asked_about_once_and_never_again(tmp_path: Path):
    items = [ClipDescription(name, text) for name, text in ("ax", "bx", "cy")]
    found, engine = extract(tmp_path, items)
    assert len(engine.asked) == 2
    again, idle = extract(tmp_path, items)
    assert not idle.asked
    assert again == found


def test_an_empty_description_is_asked_about_as_the_authors_do(tmp_path: Path):
    found, engine = extract(tmp_path, [ClipDescription("a", "")], answer=lambda prompt: "[]")
    assert found["a"] == ExtractedLabels("a", (), "[]")
    assert [last_input(each[0]) for each in engine.asked] == ["; Output: "]


def test_labels_are_taken_as_they_are(tmp_path: Path):
    found, engine = extract(tmp_path, [ClipDescription("a", "[happy, glad]", is_labels=True)])
    assert found["a"].labels == ("happy", "glad")
    assert not engine.asked


def test_labels_in_a_sentence_are_asked_for_as_the_authors_do(tmp_path: Path):
    sentence = "His emotional state is happy, glad."
    item = ClipDescription("a", sentence, is_labels=True, in_sentence=True)
    _, engine = extract(tmp_path, [item])
    assert [last_input(each[0]) for each in engine.asked] == [f"{sentence}; Output: "]


def test_subtitles_are_merged_before_labels_are_asked_for(tmp_path: Path):
    items = [
        ClipDescription("both", "He sighs.", "Why?"),
        ClipDescription("words alone", "", "Why?"),
        ClipDescription("clue alone", "He sighs.", ""),
        ClipDescription("neither", "", ""),
    ]
    found, engine = extract(tmp_path, items, QuestionChain(merge="merge"))
    merged = {name: each.trail["merge"] for name, each in found.items()}
    assert merged == {
        "both": "Merged<Clue: He sighs.；Subtitle: Why?    Output:>",
        "words alone": "Judged by the words alone.",
        "clue alone": "He sighs.",
        "neither": "Unable to judge the emotional state.",
    }
    asked = {last_input(each[0]).removesuffix("; Output: ") for each in engine.asked}
    assert set(merged.values()) < asked
    assert len(asked) == 2 + 4


def test_only_what_is_in_the_other_language_is_translated(tmp_path: Path):
    items = [ClipDescription("a", "他很难过。"), ClipDescription("b", "He sighs.")]
    found, engine = extract(tmp_path, items, QuestionChain(translate="english"))
    assert found["a"].trail == {"translate": "He is sad."}
    assert found["b"].trail == {}
    assert len(engine.asked) == 3


def test_sentiment_is_asked_of_the_labels_with_their_brackets(tmp_path: Path):
    found, engine = extract(
        tmp_path, [ClipDescription("a", "He sighs.")], QuestionChain(target="sentiment")
    )
    assert found["a"].labels == ("negative",)
    assert found["a"].raw == "negative"
    assert found["a"].trail == {"labels": "[sad,\n worried]"}
    assert last_input(engine.asked[-1][0]) == "[sad, worried]; Output: "


@pytest.mark.parametrize(
    ("reply", "labels", "note"),
    [
        ("", (), "labels: the answer is empty"),
        ("Output:", (), "labels: the answer is empty"),
        ("[高兴，难过]", ("高兴，难过",), "labels: the answer is in Chinese, which no wheel knows"),
        ("[happy] Since he smiles.", ("happy] Since he smiles.",), "labels: the answer is no list"),
        (
            "He seems to be rather happy today.",
            ("He seems to be rather happy today.",),
            "labels: the answer is no list of labels",
        ),
        (
            Generated("[happy, happy, hap", is_cut=True),
            ("happy", "happy", "hap"),
            "labels: the answer was cut",
        ),
    ],
)
def test_what_is_wrong_with_an_answer_is_noted_and_its_words_are_kept(
    tmp_path: Path, reply: str | Generated, labels: tuple[str, ...], note: str
):
    found, _ = extract(tmp_path, [ClipDescription("a", "He sighs.")], answer=lambda prompt: reply)
    assert found["a"].labels == labels
    assert found["a"].raw == (reply.text if isinstance(reply, Generated) else reply)
    assert len(found["a"].notes) == 1
    assert found["a"].notes[0].startswith(note)


def test_an_echo_of_the_prompt_does_not_give_the_labels_of_its_examples(tmp_path: Path):
    found, _ = extract(tmp_path, [ClipDescription("a", "He sighs.")], answer=lambda prompt: prompt)
    assert found["a"].labels == ()
    assert found["a"].notes == ("labels: the answer repeats the prompt, so it counts as none",)
    assert "He sighs." in found["a"].raw


def test_a_sentiment_that_is_none_is_noted(tmp_path: Path):
    found, _ = extract(
        tmp_path,
        [ClipDescription("a", "He sighs.")],
        QuestionChain(target="sentiment"),
        lambda prompt: "Negative!" if "sentiment" in prompt else "[sad]",
    )
    assert found["a"].labels == ()
    assert found["a"].notes == ("target: the answer is none of the words asked for",)


def test_a_question_that_fails_takes_no_other_with_it_and_is_asked_again(tmp_path: Path):
    items = [ClipDescription("a", "He sighs.", "Why?"), ClipDescription("b", "She smiles.", "Oh!")]

    def fails(prompt: str):
        return (
            Timeout("no answer within 9 s")
            if "merge all" in prompt and "Why?" in prompt
            else answer(prompt)
        )

    found, _ = extract(tmp_path, items, QuestionChain(merge="merge"), fails)
    assert found["a"].error == "merge: no answer within 9 s"
    assert found["b"].error is None
    found, engine = extract(tmp_path, items, QuestionChain(merge="merge"))
    assert found["a"].labels == ("sad", "worried")
    assert len(engine.asked) == 2  # the merging of `a`, and its labels


def test_what_was_answered_before_the_engine_gave_up_is_kept(tmp_path: Path):
    items = [ClipDescription(name, f"{name} sighs.") for name in "abcd"]

    def gives_up(prompt: str):
        if "b sighs" in prompt:
            raise PrerequisiteError("the server stopped answering")
        return answer(prompt)

    with pytest.raises(PrerequisiteError, match="stopped answering"):
        extract(tmp_path, items, answer=gives_up)
    _, engine = extract(tmp_path, items)
    assert ["b" in each[0][-30:] or "a sighs" in each[0] for each in engine.asked] == [True] * 2


def test_seeds_are_different_questions_and_greedy_has_none(tmp_path: Path):
    item = [ClipDescription("a", "He sighs.")]
    for sampling, expected in ((SAMPLED, 2), (GenerationSettings(), 1)):
        model, engine = scripted(tmp_path / str(expected), answer, sampling)
        for seed in (0, 1):
            list(LanguageModelExtractor("qwen25", model, QuestionChain(), seed).extract(item))
        assert len(engine.asked) == expected
        assert len({each[1] for each in engine.asked}) == expected
        assert all(0 <= each[1] < 2**31 for each in engine.asked)


def test_the_identity_holds_all_that_can_change_a_label(tmp_path: Path):
    model, _ = scripted(tmp_path, answer, SAMPLED)
    made = LanguageModelExtractor("qwen25", model, QuestionChain(), seed=3).identity
    for change in (
        LanguageModelExtractor("qwen25", model, QuestionChain(), seed=4),
        LanguageModelExtractor("qwen25", model, QuestionChain(parser="friendly"), seed=3),
        LanguageModelExtractor("qwen25", model, QuestionChain(merge="merge"), seed=3),
        LanguageModelExtractor("qwen25", scripted(tmp_path, answer)[0], QuestionChain(), seed=3),
    ):
        assert change.identity != made
    assert made["model"] == "script"
    assert made["temperature"] == 0.7
