"""Reply -> grade, number or set of labels, where it is not one class (parsers.py).

None of them raises: digits without an end, as a model that repeats itself writes, are no number.
"""

import re
from collections.abc import Callable, Sequence

from ovmer.runners.tasks.parsers import answer_or_reply

_SCORE = re.compile(r"<score>(.*?)</score>")  # without DOTALL, as the authors'
_SINGLE = re.compile(r": (\d)/1")
_FRACTION = re.compile(r":\s*(\d{1,9})/(\d{1,9})(?!\d)")


def steps(reply: str | None, fractions: bool) -> list[float] | None:
    """The judge's rating of each step; None where its reply holds no <score> (MME-Emotion).

    `fractions` reads C/K, as in the tasks with several labels; otherwise one digit before `/1`.
    Source: FunAudioLLM/MME-Emotion 0c265d8, cal_metrics. Nothing caps a value at 1.
    """
    found = _SCORE.search(reply) if reply else None
    if found is None:
        return None
    if not fractions:
        return [float(digit) for digit in _SINGLE.findall(found[1])]
    return [int(a) / int(b) if int(b) else 0.0 for a, b in _FRACTION.findall(found[1])]


def dimension_score(dimension: str) -> Callable[[str | None], int | None]:
    """The score after `DIMENSION:` in a judge's reply; None where there is none.

    Source: Emo-gml/EmoBench-M 8916147, LaughterReason_LLMScoring.py.
    """
    search = re.compile(rf"{re.escape(dimension)}:\s*(\d{{1,9}})(?!\d)", re.IGNORECASE).search

    def score(reply: str | None) -> int | None:
        found = search(reply) if reply else None
        return int(found[1]) if found else None

    return score


LOGICAL = dimension_score("Logical Judgment Dimension")
MULTIMODAL = dimension_score("Multimodal Content Association Dimension")

_LARGEST = 1e9
_NUMBER = re.compile(r"[-+−]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def number(reply: str) -> float | None:
    """The first number in the reply's answer. Our own rule: none is published."""
    found = _NUMBER.search(answer_or_reply(reply))
    value = float(found[0].replace("−", "-")) if found else None
    return value if value is not None and abs(value) < _LARGEST else None


def several(labels: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """All labels that the reply's answer names, in its order."""
    named = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, labels))})(?!\w)", re.IGNORECASE)
    spelt = {label.lower(): label for label in labels}

    def parse(reply: str) -> tuple[str, ...]:
        hits = named.findall(answer_or_reply(reply))
        return tuple(dict.fromkeys(spelt[hit.lower()] for hit in hits))

    return parse


def reward(kind: str, reply: str, truth: str) -> float:
    """The reward of an answer to a question of IntentBench, from 0 to 1.

    Multiple choice: equal texts. judge: both hold `yes`, or else both hold `no`. emer_ov_mc: F1
    of the sets split at commas, blanks kept. Any other kind earns 0.
    Source: HumanMLLM/HumanOmniV2 9bf0e6f, `reward_fn`.
    """
    if kind == "multiple choice":
        return float(reply.strip() == truth.strip())
    if kind == "judge":
        ours, theirs = reply.lower(), truth.lower()
        return float(any(word in ours and word in theirs for word in ("yes", "no")))
    if kind != "emer_ov_mc":
        return 0.0
    given, right = reply.split(","), truth.split(",")
    hits = len(set(given) & set(right))
    if not hits:
        return 0.0
    first, second = hits / len(right), hits / len(given)
    return 2 * first * second / (first + second)
