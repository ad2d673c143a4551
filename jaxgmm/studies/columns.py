"""Columns: descriptions of the fields of results.

Printed pages, reports, exports and pictures all use the same description of a field. The rows and scores of results are frozen
dataclasses, and each of their fields carries a `Column`.

    @documented
    @dataclass(frozen=True, kw_only=True)
    class Row(Record):
        z: float = column("(EM - mean) / sd", short="z", decimals=2)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, Literal, TypeVar


@dataclass(frozen=True)
class Column:
    """The description of one field of the rows or scores of a result.

    Headings are format strings, which the code that shows them fills in.

    Attributes:
        name: name of the field.
        explanation: a phrase that says what the field is.
        detail: a further phrase that says how to interpret the field; used in documentation and reports.
        short: heading on the printed page; "" means that the field is not printed.
        long: heading in the report; "" means that the field is not in the report.
        group: printed heading that neighbouring columns share.
        unit: unit of the stored number.
        decimals: number of decimals shown; None: the posterior standard deviation determines the number, as in `rounded_by_sd`.
        percent: whether a share is shown in percent.
        per_point: whether the number is divided by the number of points before it is shown, because it is a sum over the data.
        error: name of the field with the standard error that is shown beside the number.
        section: section of the printed page to which the column belongs.
        where: the tables that show the column: "always" (all tables), "parameters" (only tables of parameters), or "elsewhere"
            (on the printed page, only tables without parameters).
    """

    name: str
    explanation: str
    detail: str = ""
    short: str = ""
    long: str = ""
    group: str = ""
    unit: str = ""
    decimals: int | None = 0
    percent: bool = False
    per_point: bool = False
    error: str = ""
    section: str = ""
    where: Literal["always", "parameters", "elsewhere"] = "always"

    @property
    def description(self) -> str:
        """The explanation, followed by the unit and the detail."""
        return f"{self.explanation}{f' ({self.unit})' if self.unit else ''}{f'; {self.detail}' if self.detail else ''}"

    def cell(self, value: float | None) -> str:
        """Return a value as text: "-" for an unknown value, "NO" for False.

        Example:
            >>> Column("share", "a share", decimals=1, percent=True).cell(0.25), Column("n", "a count").cell(None)
            ('25.0 %', '-')
        """
        if isinstance(value, bool):
            return "yes" if value else "NO"
        if value is None or not math.isfinite(value):
            return "-"
        return fixed(100 * value if self.percent else value, self.decimals or 0) + " %" * self.percent


def column(explanation: str, *, default: object = MISSING, **description: Any) -> Any:
    """Return a dataclass field that carries a `Column`.

    If `default` is None, the field is optional: it is not exported if its value is None.
    """
    return field(default=default, metadata={"column": Column("", explanation, **description)})


@dataclass(frozen=True, kw_only=True)
class Record:
    """Base class of rows and scores, which are frozen dataclasses whose fields are columns."""

    def to_dict(self) -> dict[str, Any]:
        """Return the values of the columns by name. Optional columns that were not computed are left out."""
        values = [(f, getattr(self, f.name)) for f in fields(self)]
        return {f.name: value for f, value in values if not (value is None and f.default is None)}


RecordType = TypeVar("RecordType", bound=Record)


def columns_of(record: type[Record]) -> dict[str, Column]:
    """Return the columns of a class of rows or scores, by name."""
    return {f.name: replace(f.metadata["column"], name=f.name) for f in fields(record)}


def documented(cls: type[RecordType]) -> type[RecordType]:
    """Add the explanations of the columns to the docstring of a class, in its section Attributes."""
    lines = [f"    {column.name}: {column.description}." for column in columns_of(cls).values()]
    cls.__doc__ = "\n".join([cls.__doc__ or "", "", "Attributes:", *lines])
    return cls


def fixed(value: float, decimals: int) -> str:
    """Return a number as text with a fixed number of decimals; "-" if the number is not finite.

    Example:
        >>> fixed(-0.001, 2), fixed(float("inf"), 2)
        ('0.00', '-')
    """
    # The term 0.0 is added, because it turns -0.0 into 0.0.
    return f"{round(value, decimals) + 0.0:.{decimals}f}" if math.isfinite(value) else "-"


def rounded_by_sd(values: Sequence[float | None], sd: float) -> list[str]:
    """Return numbers as text, with as many decimals as are needed to show two digits of `sd`, a posterior standard deviation.

    Example:
        >>> rounded_by_sd([4.28966, 0.0391], 0.0391)
        ['4.290', '0.039']
        >>> rounded_by_sd([123456789.0, 2e6], 2e6)
        ['123456789', '2000000']
        >>> rounded_by_sd([123456789000.0, 2e9], 2e9)
        ['1.235e11', '2.000e9']
    """
    known = [math.nan if value is None else value for value in values]
    size = abs(sd) if sd and math.isfinite(sd) else max([abs(v) for v in known if math.isfinite(v)] or [0.0]) * 1e-3
    decimals = max(0, 1 - math.floor(math.log10(size))) if size > 0 and math.isfinite(size) else 3
    plain = [fixed(value, decimals) for value in known]
    return plain if max(map(len, plain)) <= 10 else [_scientific(value) for value in known]


def rounded_by_value(values: Sequence[float | None], sd: float) -> list[str]:
    """Return numbers as text, as `rounded_by_sd` does, but with two significant digits if a number is smaller than the sd.

    A number that is not 0 is therefore never shown as 0.0.

    Example:
        >>> rounded_by_value([0.0123, 4.28966, 3.0, 0.0], 3.0)
        ['0.012', '4.3', '3.0', '0.0']
    """
    common = rounded_by_sd(values, sd)
    small = [value is not None and 0 < abs(value) < sd for value in values]
    return [rounded_by_sd([v], abs(v))[0] if v and own else text for v, own, text in zip(values, small, common, strict=True)]


def _scientific(value: float) -> str:
    """Return a number as text with mantissa and exponent; "-" if the number is not finite."""
    if not math.isfinite(value):
        return "-"
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{mantissa}e{int(exponent)}"
