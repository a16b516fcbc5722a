"""Reply of a language model -> list of labels, by the authors' rule and by a more tolerant one.

`string_to_list` and `listlist_to_list` keep the names and, on every odd case, the behaviour of the
functions in MERTools (MER2025_Track23/toolkit/utils/functions.py), because the published figures
depend on what is lost there: a Chinese comma separates nothing, `[happy, sad].` ends in the unknown
word `sad].`, and `don't` falls into two. Where theirs throws, ours gives a defined result: the text
`[` is no labels. `friendly_list` reads what was meant.
"""

import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

Labels = str | Sequence[str] | float | None
"""A clip's stored labels: the text as the model wrote it, a list of labels, or nothing (None,
or the NaN that pandas puts for an empty cell)."""

Parser = Callable[[Any], list[str]]

# What pandas.read_csv takes for a missing value (`na_values` in its documentation), exactly. It
# holds for cells of labels; a clip may be called NA.
# fmt: off
MISSING = frozenset({
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
})
# fmt: on

_ZERO_WIDTH = re.compile("[\\u200b-\\u200d\\u2060\\ufeff]")
"""Zero-width spaces and joiners and the byte-order mark: no part of any label."""

_BRACKETS = re.compile(r"[\[\]]")
_QUOTES = re.compile(r"['\"]")
# An apostrophe separates unless it is inside a word, as in "don't".
_SEPARATORS = re.compile(r"[,，、;；\n\r\t|\"“”「」《》]|(?<!\w)['‘’`]|['‘’`](?!\w)")
_BULLET = re.compile(r"\s*(?:[-–—*•·●○▪]+|\(?\d{1,3}[.)、:](?=\D))\s*")
_AROUND = " \t\r\n\v\f.。．!！?？:：…[]()（）{}【】〔〕<>*_#`"
_JSON_START = ("[", "{", '"')


def string_to_list(value: Any) -> list[str]:
    """The labels in one stored value, exactly as the authors read them (metrics of all tables).

    A list is returned as it is; "", None and NaN are no labels; of a text one leading `[` and one
    trailing `]` are dropped, the rest is split at every `'`, `"` and `,`, and each piece stripped.

    Raises TypeError for a value that is neither text nor a list of texts.
    """
    if isinstance(value, str):
        if value[:1] == "[":
            value = value[1:]
        if value[-1:] == "]":
            value = value[:-1]
        pieces = value.replace("'", ",").replace('"', ",").split(",")
        return list(filter(None, map(str.strip, pieces)))
    return _no_text(value, string_to_list)


def friendly_list(value: Any) -> list[str]:
    """The labels that were meant: also understands JSON, bullets, Chinese commas and full stops.

    Separators are `, ， 、 ; ；`, tabs, line breaks, bars and quotation marks, but no apostrophe
    inside a word; brackets, bullets, numbering and full stops around a label are dropped.

    Raises TypeError for a value that is neither text nor a list of texts.
    """
    if isinstance(value, str):
        text = _unfence(value.strip())
        texts = _json_texts(text)
        return _clean([text] if texts is None else texts)
    return _clean(_no_text(value, friendly_list))


def visible(value: Any) -> Any:
    """A cell or list of labels without zero-width characters; the value itself if it has none."""
    if isinstance(value, str):
        return value if value.isascii() else _ZERO_WIDTH.sub("", value)
    if isinstance(value, list | tuple) and not all(map(str.isascii, filter(_is_text, value))):
        return [label for each in value if (label := visible(each)) != "" or each == ""]
    return value


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


PARSERS: dict[str, Parser] = {"strict": string_to_list, "friendly": friendly_list}


def listlist_to_list(reply: str) -> list[list[str]]:
    """The synonym groups in the reply of the grouping model (metrics of MER2024 and OV-MER).

    The text is split at every bracket; pieces that are blank or a lone comma go; each remaining
    piece is split at every quotation mark, and what is left is not stripped.
    """
    groups = []
    for piece in _split(_BRACKETS, reply):
        members = _split(_QUOTES, piece)
        if members:
            groups.append(members)
    return groups


def _split(separator: re.Pattern[str], text: str) -> list[str]:
    return [piece for piece in separator.split(text) if piece.strip() not in ("", ",")]


def _no_text(value: Any, parse: Parser) -> list[str]:
    """The labels of a value that is no string: a list, a numpy array, or a missing value."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return []
    if hasattr(value, "tolist"):  # a numpy array or scalar: a 0-d array becomes its string
        value = value.tolist()
        return parse(value)
    if isinstance(value, list | tuple):
        for label in value:
            if not isinstance(label, str):
                raise TypeError(f"a list that holds {_kind(label)}, which is no text")
        return list(value)
    raise TypeError(f"{_kind(value)}, neither text nor a list of texts")


def _kind(value: object) -> str:
    text = repr(value)
    return f"{text if len(text) <= 40 else text[:37] + '...'} ({type(value).__name__})"


def _unfence(text: str) -> str:
    """The inside of a Markdown code block."""
    if len(text) < 6 or not (text.startswith("```") and text.endswith("```")):
        return text
    language, _, rest = text[3:-3].partition("\n")
    return rest.strip() if language.strip().isalpha() else text[3:-3].strip()


def _json_texts(text: str) -> list[str] | None:
    """Every text in a JSON value, in its order (of an object, its values'); None for no JSON."""
    if not text.startswith(_JSON_START):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # no JSON, or brackets nested by the thousand
        return None
    found: list[str] = []
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, list):
            pending.extend(reversed(item))
        elif isinstance(item, dict):
            pending.extend(reversed(item.values()))
    return found


def _clean(texts: Iterable[str]) -> list[str]:
    labels = []
    for piece in (piece for text in texts for piece in _SEPARATORS.split(text)):
        piece = piece.strip(_AROUND)
        if bullet := _BULLET.match(piece):
            piece = piece[bullet.end() :]
        piece = piece.strip(_AROUND)
        if piece:
            labels.append(piece)
    return labels


@lru_cache(4096)
def shared(labels: tuple[str, ...]) -> tuple[str, ...]:
    """The same labels, equal ones as one object: of many clips few are distinct."""
    return tuple(map(sys.intern, labels))
