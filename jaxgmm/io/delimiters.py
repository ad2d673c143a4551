"""Find the delimiter of a text table, and decide whether its first row holds the names of the columns."""

from __future__ import annotations

import csv
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from .number_formats import is_missing, is_number

CANDIDATES = (",", ";", "\t", "|", " ")  # " " stands for any white space
NO_DELIMITER = "\x1f"  # stands for the delimiter of a table with one column; it does not occur in text
SAMPLE = 1000  # number of first rows that are read to find the delimiter and the header
# Number of rows such as "3,17". If at least this many rows have no zero directly after the comma, the comma is not taken as a
# decimal sign, because 44 random decimals contain no zero with a probability of only 0.9^44 = 1 %.
_ENOUGH_WITHOUT_ZERO = 44
_ENOUGH_NAMES = 10  # in a table of at least this many rows, 1, 2, 3, ... before the comma are row names
_YEARS = range(1800, 2201)  # these numbers are common names of columns


def split(lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    """Yield the fields of each row; a delimiter inside quotation marks does not split a field."""
    whole = (line.replace("\t", " ").strip() for line in lines) if delimiter == " " else lines
    for row in csv.reader((f"{line}\n" for line in whole), delimiter=delimiter, skipinitialspace=True):
        yield [field.strip() for field in row]


def find_delimiter(lines: Sequence[str], decimal: str | None) -> tuple[str, str | None]:
    r"""Return the delimiter that splits all lines into the same number of fields, and a remark if the text is ambiguous.

    If several delimiters do this, the function chooses the one with which the largest share of the fields are numbers.

    Args:
        lines: the lines of the table.
        decimal: the decimal sign, or None if it is not known.

    Example:
        >>> find_delimiter(["Length, cm;Width, cm", "1,5;2,5", "3,5;4,25"], None)
        (';', None)
        >>> find_delimiter(["-1,05", "2,16"], None) == (NO_DELIMITER, None)
        True
    """
    lines = lines[:SAMPLE]
    one, remark = _is_one_column(lines, decimal or ".,")
    remark = None if decimal else remark
    if one:
        return NO_DELIMITER, remark
    scores = {d: _score(list(split(lines, d))) for d in CANDIDATES if d != "," or decimal != "," or '"' in lines[-1]}
    # if several delimiters have the best score, max returns the first one
    best = max(scores, key=lambda delimiter: scores[delimiter])
    return (best, remark if best == "," else None) if scores[best][-1] > 1 else (NO_DELIMITER, None)


def _score(rows: list[list[str]]) -> tuple[bool, float, int]:
    """Return the score of a delimiter: whether all rows are equally long, the share of numbers, and the number of fields."""
    body = rows if len(rows) == 1 or any(map(is_number, rows[0])) else rows[1:]  # a first row without numbers can be a header
    width = Counter(map(len, body)).most_common(1)[0][0]
    even = sum(len(row) == width for row in rows) + (len(rows[0]) == width - 1)
    fields = [field for row in body if len(row) == width for field in row if not is_missing(field)]
    numbers = sum(map(is_number, fields)) / max(1, len(fields))
    if width < 2:
        return False, 0.0, width
    return even == len(rows) and numbers > 0, numbers * even / len(rows), width


def _is_one_column(lines: Sequence[str], decimals: str) -> tuple[bool, str | None]:
    """Return whether the lines are one column of numbers with commas inside, and a remark if this is uncertain."""
    fields = [line.strip().strip('"').strip() for line in lines]
    has_header = len(fields) > 1 and not is_number(fields[0], decimals)
    body = [field for field in fields[has_header:] if not is_missing(field)]
    with_comma = [field.partition(",") for field in body if "," in field]
    if not with_comma or not all(is_number(field, decimals) for field in body):
        return False, None
    left, right = [part[0] for part in with_comma], [part[2] for part in with_comma]
    if has_header:  # a header of one field means one column, unless 1, 2, 3, ... before the commas are row names of R
        is_counted = left == [str(i) for i in range(1, len(body) + 1)]
        if len(next(split([lines[0]], ","))) > 1 or (is_counted and len(body) >= _ENOUGH_NAMES):
            return False, None
        return True, _ONE if is_counted else None
    if "-0" in left or any(re.match(r"0.|.*\D", part) for part in right):  # the two fields are not two whole numbers
        return True, None
    long = [part for part in right if len(part) > 1]
    fixed = len(set(map(len, right))) == 1 and len(long) == len(right)
    if len(with_comma) < len(body):  # some lines have no comma, so they cannot have two columns
        return len(with_comma) > 2 or fixed, _ONE
    if len(long) >= _ENOUGH_WITHOUT_ZERO:
        return False, None
    if fixed or any(part[:1] in ("-", "+") for part in left):
        return True, _ONE
    return False, _TWO if len(body) > 1 else None


_ONE = (
    "is read as one column of numbers with decimal commas or commas between thousands; if its commas separate two columns, "
    "give delimiter=',' (--delimiter ,)"
)
_TWO = "is read as two columns of whole numbers; if its commas are decimal signs, give decimal=',' (--decimal ,)"


_NUMERIC_NAMES = (
    "has a first line with numbers, {}, that is taken as names of columns; if it is data, add a line of names above it"
)


def has_names(rows: Sequence[Sequence[str]]) -> tuple[bool, str | None]:
    """Return whether the first of several rows holds the names of the columns, and a remark if these names are numbers.

    Example:
        >>> has_names([["height", "2019"], ["1", "2"]])[0], has_names([["5.1", "setosa"], ["4.9", "virginica"]])[0]
        (True, False)
        >>> has_names([["2019", "2020"], ["1.5", "2.5"], ["3.5", "4.5"]])[0]
        True
    """
    first, body = rows[0], rows[1:]
    columns = [[row[i] for row in body if i < len(row) and not is_missing(row[i])] for i in range(len(first))]
    numeric = [_is_number_like(field, column) for field, column in zip(first, columns, strict=True)]
    if not any(numeric):
        return True, None
    mixed = [
        field for field, column, is_name in zip(first, columns, numeric, strict=True) if not is_name and _all_numbers(column)
    ]
    whole = [field for field, is_numeric in zip(first, numeric, strict=True) if is_numeric and field.isdecimal()]
    if len(whole) == sum(numeric) and any(field[:1].isalpha() and not is_missing(field) for field in mixed):
        return True, _NUMERIC_NAMES.format(", ".join(whole[:5]))
    return _has_numeric_names(first, columns)


def _all_numbers(column: list[str]) -> bool:
    """Return whether a column has at least one field and all its fields are numbers."""
    return bool(column) and all(map(is_number, column))


def _is_number_like(field: str, column: list[str]) -> bool:
    """Return whether the first field of a column is a number. A field with a comma needs similar fields below it."""
    if re.fullmatch(r"[-+.0-9eE]*", field):
        return is_number(field)
    return is_number(field) and (not column or any(re.search(r"[^-+.0-9eE]", other) for other in column))


def _has_numeric_names(first: Sequence[str], columns: list[list[str]]) -> tuple[bool, str | None]:
    """Return whether a first row of whole numbers holds names, such as years. Return also a remark for the user.

    The remark is None if the row clearly holds data.
    """
    pairs = [(field, column) for field, column in zip(first, columns, strict=True) if not is_missing(field)]
    if not all(re.fullmatch("[0-9]{1,9}", field) for field, _ in pairs) or len(pairs[0][1]) < 2:
        return False, None
    numbers = [int(field) for field, _ in pairs]
    shown = ", ".join(field for field, _ in pairs[:5]) + ", ..." * (len(pairs) > 5)
    steps = {b - a for a, b in itertools.pairwise(numbers)} or {0}
    are_years = min(steps) > 0 and all(number in _YEARS for number in numbers)
    # a first row of two whole numbers, such as '1, 2', holds names only if all numbers in the rows below have decimals
    distance = 1.0 if are_years or len(pairs) > 2 else math.inf
    if (are_years or steps == {1}) and all(_is_unlike(field, column, distance) for field, column in pairs):
        return True, _NUMERIC_NAMES.format(shown)
    is_default = len(pairs) > 1 and numbers == list(range(len(numbers)))  # pandas writes 0, 1, ... for columns without names
    if len(pairs[0][1]) > 2 and (is_default or all(_is_unlike(field, column, 1.0) for field, column in pairs)):
        return False, f"has a first line, {shown}, like names, which is read as data; if it holds names, change or delete it"
    return False, None


def _is_unlike(field: str, column: list[str], distance: float) -> bool:
    """Return whether a whole number differs in kind from the numbers below it.

    The number differs if all numbers below it have a decimal sign or an exponent, or if it lies far outside their range.

    Args:
        field: the whole number.
        column: the numbers below it.
        distance: a number is far outside the range if it is further away than `distance` times the width of the range.
    """
    if all(re.search("[.,eE]", other) for other in column):
        return True
    try:
        others = [float(other) for other in column]
    except ValueError:
        return False
    low, high = min(others), max(others)
    distance = distance if high > low else 0.0
    return not low - distance * (high - low) <= float(field) <= high + distance * (high - low)
