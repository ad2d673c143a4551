"""Choose the columns of a table by names, numbers and ranges, and recognise columns that count or identify the rows."""

from __future__ import annotations

import csv
import difflib
import os
import re
from collections.abc import Sequence

import numpy as np

# matches names of columns that count or identify the rows, such as "id", "row", "PassengerId" or "sample_id"
_IDENTIFIER = re.compile(
    r"(?i:(.*[\W_])?(id|ids|idx|index|row|rows|uid|uuid|guid|rowid|rownum|rownames|row[\W_]?(id|names?|numbers?)))"
    r"|(?i:unnamed: \d+)|.*[a-z](Id|ID)"
)
_LEAST_IN_ORDER = 3  # smallest number of rows at which consecutive numbers in a named column are taken as row numbers
_LEAST_SHUFFLED = 10  # smallest number of rows at which numbers that are consecutive after sorting are taken as row numbers


def choose_columns(
    columns: Sequence[str | int] | str | None,
    names: list[str],
    path: str | os.PathLike[str],
    *,
    drop: Sequence[str | int] | str | None = None,
) -> tuple[list[int], list[str]]:
    """Return the positions and names of the requested columns.

    A request is a name, a number from 0, or a range of names or numbers that includes both ends.

    Args:
        columns: the requests, as a list or as one text with commas; None requests all columns.
        names: the names of all columns.
        path: the path of the table, for error messages.
        drop: the requests for columns to leave out, in the same form as `columns`.

    Example:
        >>> choose_columns(["2", "height"], ["height", "weight", "age"], "points.csv")
        ([2, 0], ['age', 'height'])
        >>> choose_columns("height-age", ["height", "weight", "age"], "points.csv", drop="1")
        ([0, 2], ['height', 'age'])
    """
    keep = list(range(len(names))) if columns is None else _positions(columns, names, path)
    if not keep:
        raise ValueError("columns is empty; at least one column was expected.")
    if len(set(keep)) < len(keep):
        raise ValueError("a column is named twice; distinct columns were expected.")
    dropped = set() if drop is None else set(_positions(drop, names, path))
    keep = [i for i in keep if i not in dropped]
    if not keep:
        raise ValueError(f"drop leaves no column of '{path}'; at least one column was expected.")
    return keep, [names[i] for i in keep]


def _positions(requests: Sequence[str | int] | str, names: list[str], path: str | os.PathLike[str]) -> list[int]:
    """Return the positions of the requested columns, in the order of the requests."""
    if isinstance(requests, str):
        requests = [requests] if requests in names else next(csv.reader([requests], skipinitialspace=True), [])
    return [i for request in requests for i in _find(str(request).strip(), names, path)]


def _find(request: str, names: list[str], path: str | os.PathLike[str]) -> list[int]:
    """Return the positions of the columns that one request names, or raise ValueError."""
    one = _position(request, names)
    if one is not None:
        return [one]
    for cut in re.finditer("[-:]", request):
        ends = [_position(end.strip(), names) for end in (request[: cut.start()], request[cut.end() :])]
        if ends[0] is not None and ends[1] is not None and ends[0] <= ends[1]:
            return list(range(ends[0], ends[1] + 1))
    raise ValueError(
        f"'{path}' has no column '{request}'{similar_name(request, names)}; its columns, by name, by number from 0, or as a "
        f"range such as 0-{len(names) - 1}, are: {listed(names)}."
    )


def similar_name(request: str, names: Sequence[str]) -> str:
    """Return a question that suggests the most similar name, or "" if no name is similar.

    Example:
        >>> similar_name("Higth", ["height", "weight"])
        " (did you mean 'height'?)"
    """
    folded = {name.casefold(): name for name in names}
    close = difflib.get_close_matches(request.casefold(), folded, 1)
    return f" (did you mean '{folded[close[0]]}'?)" if close else ""


def listed(names: Sequence[str]) -> str:
    """Return a text that lists the names of columns, separated by commas. Of more than 30 names, it lists the first ones.

    Example:
        >>> listed(["height", "weight"])
        'height, weight'
    """
    return ", ".join(names if len(names) <= 30 else [*names[:29], f"... ({len(names)} columns)"])


def _position(request: str, names: list[str]) -> int | None:
    """Return the position of the column whose name or number is `request`, or None. A name takes precedence over a number."""
    if request in names:
        return names.index(request)
    is_number = request.isascii() and request.isdecimal() and len(request) < 10
    return int(request) if is_number and int(request) < len(names) else None


def identifies_rows(values: np.ndarray, name: str, has_name: bool, in_digits: bool) -> bool:
    """Return whether a column of numbers counts or identifies rows, judged by its name and by whether values are consecutive.

    Args:
        values: the numbers (N,).
        name: the name of the column.
        has_name: whether the name is from the file. Without a name, a column of two rows can count the rows.
        in_digits: whether the numbers were written without a decimal sign.

    Example:
        >>> identifies_rows(np.array([7.0, 3.0]), "PassengerId", True, True), identifies_rows(np.arange(9.0), "age", True, True)
        (True, True)
        >>> identifies_rows(np.array([7.0, 3.0]), "age", True, True), identifies_rows(np.array([1.5, 2.5]), "id", True, False)
        (False, False)
    """
    present = values[np.isfinite(values)]
    if has_name and _IDENTIFIER.fullmatch(name.strip()) and (present == np.round(present)).all():
        return True
    if not in_digits or len(present) < len(values):
        return False
    if len(values) >= (_LEAST_IN_ORDER if has_name else 2) and (np.diff(values) == 1).all():
        return True
    return len(values) >= _LEAST_SHUFFLED and np.ptp(values) == len(values) - 1 == len(np.unique(values)) - 1
