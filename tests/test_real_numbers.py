"""Conversion to NumPy arrays of real numbers: data frames column by column, and Python objects one by one."""

import datetime

import numpy as np
import pytest

import jaxgmm
from jaxgmm.real_numbers import as_numpy


class Series:
    """A column as polars has them."""

    def __init__(self, values):
        self.values = values

    def to_numpy(self):
        return np.asarray(self.values, object if isinstance(self.values[0], list) else None)


class Frame:
    """A data frame as those of polars, or, without `get_columns`, as any other."""

    def __init__(self, **columns):
        self.columns, self.values = list(columns), list(columns.values())

    def to_numpy(self):
        return np.column_stack([np.asarray(column, object) for column in self.values])


class PolarsFrame(Frame):
    """Polars has columns, and refuses to make one array of booleans and dates."""

    def __len__(self):
        return len(self.values[0])

    def to_numpy(self):
        raise TypeError("The DType BoolDType could not be promoted by DateTime64DType.")

    def get_columns(self):
        return [Series(column) for column in self.values]


def pandas_frame(**columns):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(columns)


FRAMES = [Frame, PolarsFrame, pandas_frame]
DATE = datetime.date(2020, 1, 1)


@pytest.mark.parametrize("frame", FRAMES)
def test_boolean_columns_are_numbers(frame):
    """They become 0 and 1, beside numbers or alone; missing values become NaN."""
    np.testing.assert_array_equal(as_numpy(frame(a=[True, False], b=[1.5, 2.0]), "x"), [[1, 1.5], [0, 2]])
    np.testing.assert_array_equal(as_numpy(frame(a=[True, False], b=[False, False]), "x"), [[1, 0], [0, 0]])
    np.testing.assert_array_equal(as_numpy(frame(a=[True, None], b=[1, 2]), "x"), [[1, 1], [np.nan, 2]])


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize(
    ("column", "words"),
    [
        (["u", "v"], "strings"),
        ([None, "v"], "strings"),
        ([b"u", b"v"], "byte strings"),
        ([DATE, DATE], "dates"),
        ([datetime.datetime(2020, 1, 1)] * 2, "dates"),
        (np.array(["2020-01-01"] * 2, "datetime64[s]"), "dates"),
        ([datetime.timedelta(1)] * 2, "time differences"),
        ([1j, 2], "complex numbers"),
        ([[1], [2, 3]], "Python objects"),
    ],
)
def test_columns_are_named(frame, column, words):
    """A column that holds no real numbers is named, by every function that takes data."""
    data = frame(height=[1.0, 2.0], other=column, married=[True, False])
    sentence = rf"column 'other' of x holds {words}; real numbers were expected: .*leave the column out\."
    with pytest.raises(TypeError, match=sentence):
        as_numpy(data, "x")
    with pytest.raises(TypeError, match=sentence):
        jaxgmm.default_prior(data, num_components=1)


def test_columns_of_pandas():
    """Nullable, categorical and zoned columns, and two columns of one name."""
    pandas = pytest.importorskip("pandas")
    nullable = pandas.DataFrame({"a": pandas.array([True, None], dtype="boolean"), "b": pandas.array([1, 2], dtype="Int64")})
    np.testing.assert_array_equal(as_numpy(nullable, "x"), [[1, 1], [np.nan, 2]])
    twice = pandas.DataFrame([[1.0, True], [2.0, False]], columns=["a", "a"])
    np.testing.assert_array_equal(as_numpy(twice, "x"), [[1, 1], [2, 0]])
    zoned = pandas.date_range("2020", periods=2, tz="UTC")
    for column, words in [(pandas.Categorical(["u", "v"]), "strings"), (zoned, "dates")]:
        with pytest.raises(TypeError, match=f"column 'b' of x holds {words}"):
            as_numpy(pandas.DataFrame({"a": [1, 2], "b": column}), "x")


@pytest.mark.parametrize("frame", [PolarsFrame, pandas_frame])
def test_float_types_of_frames_are_kept(frame):
    """float32 columns beside booleans stay float32."""
    single = np.array([1.5, 2.5], np.float32)
    assert as_numpy(frame(a=single, b=[True, False]), "x").dtype == np.float32
    assert as_numpy(frame(a=single, b=single), "x").dtype == np.float32
    assert as_numpy(frame(a=single.astype(float), b=[True, False]), "x").dtype == np.float64


def test_objects():
    """Python numbers and missing values are taken from arrays of objects; anything else is named by its kind."""
    np.testing.assert_array_equal(as_numpy(np.array([[1, None], [2.5, 3]], object), "x"), [[1, np.nan], [2.5, 3]])
    for value, words in [("u", "strings"), (DATE, "dates"), (True, "booleans"), (object(), "Python objects")]:
        with pytest.raises(TypeError, match=f"x holds {words}"):
            as_numpy(np.array([[1.0, value]], object), "x")
