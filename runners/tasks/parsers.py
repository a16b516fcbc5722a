"""Reply -> class, by the rules of the benchmarks' authors, and by a careful one of our own.

A parser is made once for a list of labels and then called with each reply. It returns the label,
None where the reply names none of them, or another string: MULTI where it names several, or the
word itself where the authors' rule keeps words that are no labels. It never raises. A rule that
looks like a mistake is the authors'; the published figures follow from it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from ovmer.baselines.errors import PrerequisiteError, near

MULTI = "multi"
"""The reply names several labels where one was asked for."""

Parse = Callable[[str], str | None]

ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL)
_CLOSED_ANSWER = re.compile(r"<answer>\s*(.*?)\s*</answer>", re.DOTALL)


def regex_first(labels: Sequence[str]) -> Parse:
    """The label that comes first in the reply as a whole word, in any case (EmoBench-M).

    Source: Emo-gml/EmoBench-M, MER-eva.py at 44527cb.
    """
    words = [label.lower() for label in labels]
    found = re.compile(rf"\b({'|'.join(map(re.escape, words))})\b").search

    def parse(reply: str) -> str | None:
        hit = found(reply.lower())
        return hit[1] if hit else None

    return parse


def substring_in_order(labels: Sequence[str]) -> Parse:
    """The first label of the list that occurs anywhere, so that `unhappy` is happy (MC-EIU).

    Source: Emo-gml/EmoBench-M, MC-EIU.py at 6247d0d.
    """
    words = [label.lower() for label in labels]

    def parse(reply: str) -> str | None:
        text = reply.lower()
        return next((word for word in words if word in text), None)

    return parse


def exactly_one(labels: Sequence[str]) -> Parse:
    """The one label in the reply, several being wrong (MMLA).

    Source: thuiar/MMLA 48efd63, eval.py, `clean`.
    """
    patterns = {label: re.compile(rf"(?<!\w){re.escape(label)}(?!\w)").search for label in labels}

    def parse(reply: str) -> str | None:
        text = reply.lower()
        hits = [label for label, search in patterns.items() if search(text)]
        if len(hits) > 1:
            return MULTI
        return hits[0] if hits else None

    return parse


def exact(labels: Sequence[str]) -> Parse:
    """The whole reply without leading blanks; anything else is a class of its own (HumanOmni).

    Source: HumanMLLM/HumanOmni 26fa491 and R1-Omni 17cafca. Case, a final line break and tags
    make a reply wrong.
    """
    return str.lstrip


def erv_dfew(labels: Sequence[str]) -> Parse:
    """The answer in its tags or else before the first `|`, with DFEW's aliases (ERV).

    Source: Rhatanii/ERV 19cb9a7, utils_main. `sad<|im_end|>` is lost, as there.
    """
    return _erv(labels, "|", {"sadness": "sad"}, {"happiness": "happy", "anger": "angry"})


def erv_mafw(labels: Sequence[str]) -> Parse:
    """The answer in its tags or else before `<|im_end|>`, with MAFW's aliases (ERV).

    Source: Rhatanii/ERV 19cb9a7, utils_main.
    """
    return _erv(
        labels,
        "<|im_end|>",
        {
            "angry": "anger",
            "sad": "sadness",
            "anxious": "anxiety",
            "helpless": "helplessness",
            "disappointed": "disappointment",
        },
        {"happy": "happiness", "contemptuous": "contempt"},
    )


def _erv(
    labels: Sequence[str], end: str, alias: Mapping[str, str], holding: Mapping[str, str]
) -> Parse:
    known = set(labels)

    def parse(reply: str) -> str | None:
        tagged = ANSWER.search(reply)
        text = (tagged[1] if tagged else reply.split(end)[0]).strip().lower()
        text = alias.get(text, text)
        text = next((label for part, label in holding.items() if part in text), text)
        return text if text in known else None

    return parse


def last_word(labels: Sequence[str]) -> Parse:
    """The reply's last word, or else the first label, neutral (Emotion-LLaMA).

    Source: ZebangCheng/Emotion-LLaMA 4ee28d2, eval_emotion.py.
    """
    known = set(labels)
    default = "neutral" if "neutral" in known else labels[0]

    def parse(reply: str) -> str | None:
        word = reply.split(" ")[-1]
        return word if word in known else default

    return parse


def answer_tag(labels: Sequence[str]) -> Parse:
    """The text between the first <answer> tags, or the whole reply where there are none.

    Source: HumanMLLM/HumanOmniV2 9bf0e6f. The authors' code takes the last reply of the process
    where the tags are missing, which no other run can repeat.
    """
    return answer_or_reply


def answer_or_reply(reply: str) -> str:
    """See `answer_tag`."""
    tagged = _CLOSED_ANSWER.search(reply)
    return tagged[1] if tagged else reply


def has_answer_tag(reply: str) -> bool:
    """Whether the reply holds a whole <answer>."""
    return _CLOSED_ANSWER.search(reply) is not None


def plain(labels: Sequence[str]) -> Parse:
    """The whole reply in lower case, without blanks around it; None for an empty one.

    What EmoBench-M's released scorer does with values that were parsed before.
    """
    return lambda reply: reply.strip().lower() or None


# Other forms of an emotion word, for the careful parser alone.
_FORMS = [
    "happy happiness happily joy joyful 高兴 高興 快乐 快樂 开心 開心 喜悦 喜悅",
    "sad sadness sadly sorrow 悲伤 悲傷 难过 難過 伤心 傷心",
    "calm calmness 冷静 冷靜 平静 平靜",  # where calm is no label, the next line has the last two
    "neutral neutrality 中性 平静 平靜",
    "angry anger angrily 愤怒 憤怒 生气 生氣",
    "surprise surprised 惊讶 驚訝 吃惊 吃驚",
    "disgust disgusted 厌恶 厭惡",
    "fear fearful afraid scared 恐惧 恐懼 害怕",
    "contempt contemptuous 蔑视 蔑視 轻蔑 輕蔑",
    "anxiety anxious 焦虑 焦慮",
    "helplessness helpless 无助 無助",
    "disappointment disappointed 失望",
    "worried worry 担心 擔心 担忧 擔憂",
    "frustrated frustration 沮丧 沮喪",
    "excited excitement 兴奋 興奮",
    "positive 积极 積極 正面",
    "negative 消极 消極 负面 負面",
    "yes true 是 是的",
    "no false 否 不是",
]
_NEGATION = re.compile(
    r"\b(?:not|no|never|neither|nor|cannot|\w+n['’]t|without|rather than)\b[\w\s]{0,16}$"
    r"|(?:不|没|沒|并非|並非)[是会會太很怎么麼那特别別有感到觉覺得]{0,6}$"
)


def careful(labels: Sequence[str]) -> Parse:
    """The one label that the reply settles on, several being wrong (our own rule).

    Reads the last <answer> where there is one, else the text after the last `answer is` or `:` if
    a label is there, else the whole. Whole words in any case, other forms of the same word
    (`happiness` for happy) and Chinese words count; a word that is negated does not, nor does a
    Chinese word of one character inside a sentence.
    """
    forms = _forms(labels)
    latin = sorted((word for word in forms if word.isascii()), key=len, reverse=True)
    other = sorted((word for word in forms if not word.isascii()), key=len, reverse=True)
    parts = [rf"(?<!\w)(?:{'|'.join(map(re.escape, latin))})(?!\w)"] if latin else []
    named = re.compile("|".join(parts + [_chinese(word) for word in other])).finditer

    def labels_in(text: str) -> list[str]:
        hits = [hit for hit in named(text) if not _NEGATION.search(text[: hit.start()])]
        return list(dict.fromkeys(forms[hit[0]] for hit in hits))

    def parse(reply: str) -> str | None:
        text = reply.lower().replace("_", " ")
        hits = list[str]()
        for part in _conclusions(text):
            hits = labels_in(part)
            if hits:
                break
        if len(hits) > 1:
            return MULTI
        return hits[0] if hits else None

    return parse


def _chinese(word: str) -> str:
    """The pattern of a word; texts have no blanks between words, so one character may be a part."""
    escaped = re.escape(word)
    return escaped if len(word) > 1 else rf"(?<!\w){escaped}(?!\w)"


def texts_of_parts(reply: str, parts: Sequence[str]) -> list[str]:
    """What a reply says of each part: the text after `PART:`, `PART label:` or `PART is`, up to the
    next part. Where it does not name every part so, the whole reply for each (our own rule)."""
    hits = [
        list(re.finditer(rf"\b{re.escape(part)}(?: label)?\W*(?::|=|\bis\b)", reply, re.IGNORECASE))
        for part in parts
    ]
    if not all(hits):
        return [reply] * len(parts)
    last = [found[-1] for found in hits]
    ends = [min([o.start() for o in last if o.start() > hit.start()], default=None) for hit in last]
    return [reply[hit.end() : end] for hit, end in zip(last, ends, strict=True)]


_LETTER = re.compile(r"(?<!\w)[A-H](?=\W*(?:[.,):]|$|\band\b))")


@cache
def careful_choice(kind: str) -> Callable[[str], str | None]:
    """The letters of the options that a reply settles on, joined by commas, or yes or no where
    `kind` is `judge`; None for none (our own rule, beside `answer_tag` for IntentBench).

    A letter counts before `.`, `)`, `:`, a comma or `and`, or at the end: `A person` names no A.
    """
    if kind == "judge":
        return careful(("yes", "no"))

    def parse(reply: str) -> str | None:
        letters = (dict.fromkeys(_LETTER.findall(part)) for part in _conclusions(reply))
        return ",".join(next(filter(None, letters), ())) or None

    return parse


def _conclusions(text: str) -> list[str]:
    tagged: list[str] = ANSWER.findall(text)
    thought = text.rpartition("</think>")[2]
    after = [thought.rpartition(mark)[2] for mark in ("answer is", ":") if mark in thought]
    return [*tagged[-1:], *after, thought, text]


def _forms(labels: Sequence[str]) -> dict[str, str]:
    """Word -> label: each label itself, and its other forms unless they are labels themselves."""
    own = {label.lower().replace("_", " "): label for label in labels}
    forms = dict(own)
    for line in _FORMS:
        words = line.split()
        here = [own[word] for word in words if word in own]
        if len(here) == 1:
            forms = dict.fromkeys(words, here[0]) | forms
    return forms


PARSERS: Mapping[str, Callable[[Sequence[str]], Parse]] = {
    "regex_first": regex_first,
    "substring_in_order": substring_in_order,
    "exactly_one": exactly_one,
    "exact": exact,
    "plain": plain,
    "erv_dfew": erv_dfew,
    "erv_mafw": erv_mafw,
    "last_word": last_word,
    "answer_tag": answer_tag,
    "careful": careful,
}
"""By the name that conf/task/*.yaml uses."""

WORD_IN_REPLY = "word_in_reply"
"""The rule that needs the truth: right if the true word is anywhere in the reply (Emotion-Qwen)."""


def make_parser(name: str, labels: Sequence[str]) -> Parse:
    """The parser of that name for these labels; PrerequisiteError for an unknown name."""
    if name not in PARSERS:
        known = [*PARSERS, WORD_IN_REPLY]
        raise PrerequisiteError(f"there is no parser {name!r}; {near(name, known)}")
    return PARSERS[name](labels)


def word_in_reply(reply: str, truth: str) -> str:
    """The true word if it occurs anywhere in the reply, else `none`.

    Source: 24DavidHuang/Emotion-Qwen 8c52bf3, `evaluate_model`. A reply that lists every word is
    right for every clip.
    """
    return truth if truth.lower() in reply.lower() else "none"
