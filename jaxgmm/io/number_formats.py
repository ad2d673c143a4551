"""Convert columns of text to numbers, with decimal signs, separators of thousands, percent signs and missing values.

Python's `float` does not decide what counts as a number, because it accepts "1_000" and the digits of other scripts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pandas

_WORDS = "na n/a #n/a #na nan null none nil #null! #div/0! #num! #ref! #value! #name? inf +inf -inf infinity -infinity"
MISSING = {"", "-", "?", ".", "<na>", *_WORDS.split()}


def _pattern(decimal: str, separators: str) -> re.Pattern[str]:
    """Return the pattern of numbers with a given decimal sign, and with optional separators of thousands."""
    grouped = rf"[1-9][0-9]{{0,2}}([{separators}])[0-9]{{3}}(?:\1[0-9]{{3}})*(?:{decimal}[0-9]*)?"
    plain = rf"(?:[0-9]+{decimal}?[0-9]*|{decimal}[0-9]+)(?:[eE][+-]?[0-9]+)?"
    return re.compile(rf"[+-]?(?:{grouped}|{plain})")


_SPACES = "'\u2019\u00a0\u202f"  # additional separators of thousands: two apostrophes and two kinds of spaces
_PATTERNS = {".": _pattern(r"\.", "," + _SPACES), ",": _pattern(",", "." + _SPACES)}


def is_missing(field: str) -> bool:
    """Return whether a field is empty, is a word for a missing value, or stands for infinity."""
    return field.strip().lower() in MISSING


def is_number(field: str, decimals: Sequence[str] = (".", ",")) -> bool:
    """Return whether a field is a number with one of the given decimal signs; a percent sign at its end is allowed.

    Example:
        >>> [is_number(field) for field in ("-1.5e3", "1.234,5", "12 %", "1_000", "1,2,3", "٣")]
        [True, True, True, False, False, False]
    """
    digits = field.strip().removesuffix("%").rstrip()
    return any(_PATTERNS[decimal].fullmatch(digits) for decimal in decimals)


class Numbers(NamedTuple):
    """The numbers of one column.

    Attributes:
        values: the numbers (N,); a field that is missing or is not a number becomes NaN.
        wrong: the positions of the fields that are neither numbers nor missing.
        percent: whether the fields end in a percent sign.
        is_ambiguous: whether another possible decimal sign would give other numbers.
    """

    values: np.ndarray
    wrong: np.ndarray
    percent: bool = False
    is_ambiguous: bool = False


def as_numbers(fields: Sequence[str], decimals: Sequence[str], *, knows_decimal: bool = False) -> Numbers:
    """Return the numbers in a column of text, read with the decimal sign with which the most fields can be read.

    Args:
        fields: the text.
        decimals: the possible decimal signs; the preferred sign comes first.
        knows_decimal: whether the decimal sign of the file is known. If so, a column that can be read with this sign is not
            ambiguous.
    """
    stripped = [field.strip() for field in fields]
    present = [field for field in stripped if not is_missing(field)]
    percent = bool(present) and all(field.endswith("%") for field in present)
    if percent:
        stripped = [field.removesuffix("%").rstrip() for field in stripped]
    found = [_under(stripped, decimals[0])]
    if len(found[0].wrong) or not knows_decimal:
        found += [_under(stripped, decimal) for decimal in decimals[1:]]
    best = min(found, key=lambda numbers: len(numbers.wrong))  # if several signs are equally good, min returns the first one
    others = [other for other in found if len(other.wrong) == len(best.wrong)]
    ambiguous = not all(np.array_equal(best.values, other.values, equal_nan=True) for other in others)
    return best._replace(percent=percent, is_ambiguous=ambiguous)


def _under(fields: list[str], decimal: str) -> Numbers:
    """Return the numbers in a column of text, read with the given decimal sign."""
    fullmatch, other = _PATTERNS[decimal].fullmatch, _SPACES + ("," if decimal == "." else ".")
    table = str.maketrans({decimal: "."} | dict.fromkeys(other))
    is_read = np.array([fullmatch(field) is not None for field in fields], bool)
    numbers = [float(field.translate(table)) if good else np.nan for field, good in zip(fields, is_read, strict=True)]
    wrong = [i for i in np.flatnonzero(~is_read) if not is_missing(fields[i])]
    return Numbers(np.array(numbers, float), np.array(wrong, int))


def find_decimal(columns: Sequence[Sequence[str]]) -> str | None:
    """Return the decimal sign of a table, or None if no column determines the sign.

    A column determines the sign if all its fields are numbers with one of the signs "." and ",", but
    some fields are not numbers with the other sign.

    Example:
        >>> find_decimal([["1,5", "2,25"], ["1.234", "5.678"]]), find_decimal([["1,234"]])
        (',', None)
    """
    votes = set()
    for fields in columns:
        wrong = {decimal: _under([field.strip().rstrip("% ") for field in fields], decimal).wrong for decimal in ".,"}
        votes |= {sign for sign, other in (".,", ",.") if not len(wrong[sign]) and len(wrong[other])}
    return votes.pop() if len(votes) == 1 else None


def as_text(values: pandas.Series) -> list[str]:
    """Return a column of a data frame as text, with "" for missing values."""
    missing = values.isna()
    return ["" if gap else str(value) for value, gap in zip(values, missing, strict=True)]
