"""Finds the emotion words of a text by rule: no model, no download, English only.

The `lexicon` baseline reads a clip's subtitle with it, the `lexicon` extractor a description. The
words (`words/emotions.csv`: a label and its other forms) are our own list of everyday English;
labels keep to forms that the emotion wheels' vocabulary knows where there is one.
"""

import csv
import re
from functools import cache
from importlib.resources import files
from itertools import pairwise

_TOKEN = re.compile(r"[a-z]+(?:[-'][a-z]+)*|[.,;:!?\n]")
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s*")
_QUOTED = re.compile(r'["“][^"“”]*["”]')
_NEGATORS = frozenset(
    "no not never without neither nor hardly barely cannot lack lacks lacking absence".split()
)
_NEGATING_PAIRS = frozenset(
    {("rather", "than"), ("instead", "of"), ("free", "of"), ("free", "from")}
)
_TURNS = frozenset("but however although though while yet because".split())
_SCOPE = 6
"""How many words a negation reaches: `without any obvious signs of nervousness`."""


@cache
def emotion_words() -> dict[str, str]:
    """Every form of the list -> its label, all lower-case."""
    words: dict[str, str] = {}
    with files("ovmer.baselines.words").joinpath("emotions.csv").open(encoding="utf-8") as table:
        for row in csv.DictReader(table):
            for form in (row["label"], *row["forms"].split()):
                words[form] = row["label"]
    return words


def conclusion(text: str, sentences: int) -> str:
    """The last `sentences` sentences of a description, without what it quotes.

    Descriptions list clues first and infer last, and the words of a quoted subtitle are not
    the describer's own.
    """
    parts = [part for part in _SENTENCE_END.split(_QUOTED.sub(" ", text)) if part.strip()]
    return " ".join(parts[-sentences:])


def find_emotions(text: str) -> list[str]:
    """The labels of the emotion words in `text`, each once, in order of appearance.

    A word within six words after a negation is left out, unless a comma, a full stop or a turn
    of the sentence (`but`, `however`) comes between; `or` and `and` carry a negation on, and
    `not only` is none.
    """
    words = emotion_words()
    found: dict[str, None] = {}
    reach = 0
    tokens = _TOKEN.findall(text.lower().replace("’", "'"))
    for token, following in pairwise([*tokens, ""]):
        if token in _NEGATORS or token.endswith("n't") or (token, following) in _NEGATING_PAIRS:
            reach = 0 if following == "only" else _SCOPE
            continue
        if not token[0].isalpha() or token in _TURNS:
            reach = 0
            continue
        if token in words and not reach:
            found[words[token]] = None
        if token in ("or", "and") and reach:
            reach += 2
        reach = max(reach - 1, 0)
    return list(found)
