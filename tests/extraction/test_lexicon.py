import pytest

from ovmer.runners.extraction import ClipDescription
from ovmer.runners.extraction.lexicon import LexiconExtractor


def test_descriptions_are_searched_and_labels_are_parsed():
    extractor = LexiconExtractor(sentences=4)
    found = {
        result.name: result.labels
        for result in extractor.extract(
            [
                ClipDescription("told", "He smiles. He must be happy and not worried."),
                ClipDescription("listed", "['shy', 'quietly proud']", is_labels=True),
                ClipDescription("nothing", ""),
            ]
        )
    }
    assert found == {"told": ("happy",), "listed": ("shy", "quietly proud"), "nothing": ()}


@pytest.mark.parametrize(
    ("sentence", "labels"),
    [
        (
            "The character's emotional state is shy, quietly proud, happy.",
            "shy|quietly proud|happy",
        ),
        ("His emotional state is happy, sad, and angry", "happy|sad|angry"),
        ("Her emotional states are calm and\tshy! The band plays.", "calm|shy"),
        ("The character's emotional state is .", ""),
        ("He grins; he must be happy.", "happy"),
        ("", ""),
    ],
)
def test_labels_in_a_sentence_are_read_off_word_for_word(sentence, labels):
    item = ClipDescription("a", sentence, is_labels=True, in_sentence=True)
    (found,) = LexiconExtractor().extract([item])
    assert "|".join(found.labels) == labels
    assert found.raw == sentence
