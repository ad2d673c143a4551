"""Turn columns of text into numbers: decimal points or commas, thousands, percent signs, and words for missing values.

Python's `float` is not used to decide what a number is: it takes "1_000" and the digits of other scripts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

_WORDS = "na n/a #n/a #na nan null none nil #null! #div/0! #num! #ref! #value! #name? inf +inf -inf infinity -infinity"
MISSING = {"", "-", "?", ".", "<na>", *_WORDS.split()}


def _pattern(decimal: str, separators: str) -> re.Pattern[str]:
    """Return the pattern of numbers with a decimal sign and, in groups of three digits, a separator of thousands."""
    grouped = rf"[1-9][0-9]{{0,2}}([{separators}])[0-9]{{3}}(?:\1[0-9]{{3}})*(?:{decimal}[0-9]*)?"
    plain = rf"(?:[0-9]+{decimal}?[0-9]*|{decimal}[0-9]+)(?:[eE][+-]?[0-9]+)?"
    return re.compile(rf"[+-]?(?:{grouped}|{plain})")


_SPACES = "'\u2019\u00a0\u202f"  # further separators of thousands: two kinds of apostrophes and two of spaces
_PATTERNS = {".": _pattern(r"\.", "," + _SPACES), ",": _pattern(",", "." + _SPACES)}


def is_missing(field: str) -> bool:
    """Return whether a field is empty, a word for a missing value, or infinite."""
    return field.strip().lower() in MISSING


def is_number(field: str, decimals: Sequence[str] = (".", ",")) -> bool:
    """Return whether a field holds a number, perhaps with a percent sign, under one of the decimal signs.

    Example:
        >>> [is_number(field) for field in ("-1.5e3", "1.234,5", "12 %", "1_000", "1,2,3", "٣")]
        [True, True, True, False, False, False]
    """
    digits = field.strip().removesuffix("%").rstrip()
    return any(_PATTERNS[decimal].fullmatch(digits) for decimal in decimals)


class Numbers(NamedTuple):
    """The numbers of one column.

    Attributes:
        values: the numbers (N,), NaN where a value is missing or is no number.
        wrong: the positions of the fields that are neither numbers nor missing.
        percent: whether the fields end in a percent sign.
        is_ambiguous: whether the fields are other numbers under another of the possible decimal signs.
    """

    values: np.ndarray
    wrong: np.ndarray
    percent: bool = False
    is_ambiguous: bool = False


def as_numbers(fields: Sequence[str], decimals: Sequence[str], *, knows_decimal: bool = False) -> Numbers:
    """Return the numbers in a column of text; use the decimal sign with which the most fields can be read as numbers.

    Args:
        fields: the text.
        decimals: the decimal signs that are possible, the preferred one first.
        knows_decimal: whether the decimal sign of the file is known. A column that can be read with it is then not ambiguous.
    """
    stripped = [field.strip() for field in fields]
    present = [field for field in stripped if not is_missing(field)]
    percent = bool(present) and all(field.endswith("%") for field in present)
    if percent:
        stripped = [field.removesuffix("%").rstrip() for field in stripped]
    found = [_under(stripped, decimals[0])]
    if len(found[0].wrong) or not knows_decimal:
        found += [_under(stripped, decimal) for decimal in decimals[1:]]
    best = min(found, key=lambda numbers: len(numbers.wrong))  # the first of equals
    others = [other for other in found if len(other.wrong) == len(best.wrong)]
    ambiguous = not all(np.array_equal(best.values, other.values, equal_nan=True) for other in others)
    return best._replace(percent=percent, is_ambiguous=ambiguous)


def _under(fields: list[str], decimal: str) -> Numbers:
    """Return the numbers in a column of text under one decimal sign."""
    fullmatch, other = _PATTERNS[decimal].fullmatch, _SPACES + ("," if decimal == "." else ".")
    table = str.maketrans({decimal: "."} | dict.fromkeys(other))
    is_read = np.array([fullmatch(field) is not None for field in fields], bool)
    numbers = [float(field.translate(table)) if good else np.nan for field, good in zip(fields, is_read, strict=True)]
    wrong = [i for i in np.flatnonzero(~is_read) if not is_missing(fields[i])]
    return Numbers(np.array(numbers, float), np.array(wrong, int))


def find_decimal(columns: Sequence[Sequence[str]]) -> str | None:
    """Return the decimal sign that the columns of a table share, or None if no field tells it.

    A column tells it if it is a column of numbers under one of the two signs only.

    Example:
        >>> find_decimal([["1,5", "2,25"], ["1.234", "5.678"]]), find_decimal([["1,234"]])
        (',', None)
    """
    votes = set()
    for fields in columns:
        wrong = {decimal: _under([field.strip().rstrip("% ") for field in fields], decimal).wrong for decimal in ".,"}
        votes |= {sign for sign, other in (".,", ",.") if not len(wrong[sign]) and len(wrong[other])}
    return votes.pop() if len(votes) == 1 else None


def as_text(values: Any) -> list[str]:
    """Return a column of a data frame as text, with "" for missing values."""
    missing = values.isna()
    return ["" if gap else str(value) for value, gap in zip(values, missing, strict=True)]
