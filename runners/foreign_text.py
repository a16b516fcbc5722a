"""Text of models, servers and workers, made safe to print and to open in a spreadsheet."""

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters but tab and line feed, and those that turn the direction of writing."""
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def visible(text: str) -> str:
    """`text` with control characters spelt out: a terminal obeys escape sequences.

    >>> visible("fine\x1b[2J")
    'fine\\x1b[2J'
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def guarded(text: str) -> str:
    """A cell of a csv file that no spreadsheet takes for a formula; `unguarded` gives it back.

    An apostrophe goes before a text that begins with = + - @, a tab or a carriage return, which may
    have apostrophes before it already (OWASP, "CSV Injection").
    """
    return f"'{text}" if _FORMULA.match(text) else text


def unguarded(cell: str) -> str:
    """The text that `guarded` made the cell of."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
