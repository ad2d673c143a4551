"""Data frames of results; pandas is imported only when one is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas


def as_dataframe(records: Sequence[Mapping[str, Any]]) -> pandas.DataFrame:
    """Return a data frame with one row for each record and one column for each key.

    Example:
        >>> as_dataframe([{"k": 1, "bic": 2.5}, {"k": 2, "bic": 2.0}]).shape
        (2, 2)
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError("to_dataframe needs pandas, which is not installed; install it with: pip install pandas") from error
    return pandas.DataFrame.from_records(list(records))
