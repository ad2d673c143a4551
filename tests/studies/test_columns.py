"""Columns: what a field's description says is what is shown, documented and exported."""

import math
from dataclasses import dataclass

import pytest

from jaxgmm.studies.columns import Column, Record, column, columns_of, documented, fixed, rounded_by_sd, rounded_by_value


@documented
@dataclass(frozen=True, kw_only=True)
class Example(Record):
    """Two numbers."""

    share: float = column("a share", short="share", decimals=1, percent=True)
    extra: float | None = column("a number", detail="None: not computed", default=None, unit="nats")


def test_columns_know_their_fields():
    columns = columns_of(Example)
    assert list(columns) == ["share", "extra"]
    assert columns["share"].name == columns["share"].short == "share"
    assert columns["extra"].description == "a number (nats); None: not computed"
    assert (
        Example.__doc__ == "Two numbers.\n\nAttributes:\n    share: a share.\n    extra: a number (nats); None: not computed."
    )


def test_what_was_not_computed_is_left_out():
    """NaN is a number that was computed and is not defined."""
    assert Example(share=0.5).to_dict() == {"share": 0.5}
    assert set(Example(share=math.nan, extra=math.nan).to_dict()) == {"share", "extra"}
    with pytest.raises(TypeError, match="share"):
        Example(extra=1.0)


def test_cells():
    assert columns_of(Example)["share"].cell(0.1234) == "12.3 %"
    plain = Column("x", "a number", decimals=2)
    assert [plain.cell(value) for value in (1.234, True, False, None, math.nan, math.inf)] == [
        "1.23",
        "yes",
        "NO",
        "-",
        "-",
        "-",
    ]
    assert Column("n", "a count").cell(12345) == "12345"
    assert fixed(-1e-9, 3) == "0.000"


def test_numbers_have_the_digits_that_their_sd_makes_worth_reading():
    assert rounded_by_sd([1234.5678, 1.3], 1.3) == ["1234.6", "1.3"]
    assert rounded_by_sd([0.5, 0.0], 0.0) == ["0.50000", "0.00000"]
    assert rounded_by_sd([-0.0001, 0.03], 0.03) == ["0.000", "0.030"]
    assert rounded_by_sd([float("nan"), 1.0], 1.0) == ["-", "1.0"]
    assert rounded_by_sd([None, 2.0], 0.5) == ["-", "2.00"]


def test_small_numbers_are_not_rounded_to_zero():
    assert rounded_by_value([-0.0001, 0.03, 0.0, None], 0.03) == ["-0.00010", "0.030", "0.000", "-"]
    assert rounded_by_value([1e-12, 12.3], 2.0) == ["1.000e-12", "12.3"]
    assert rounded_by_value([1234.5678, math.nan], math.nan)[0].startswith("1234.")
