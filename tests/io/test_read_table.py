"""Test how tables of numbers are read from text and array files, and what is refused."""

import csv
import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgmm.io.read_table import choose_columns, read_table

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
# one line of printable text that is not a number, and not only blanks
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1).filter(
    lambda name: not is_number(name)
)


def is_number(text):
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


# printable text without blanks that is not a number
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1).filter(lambda s: not is_number(s))


@st.composite
def tables(draw):
    """Rows of numbers with names of the columns."""
    width = draw(st.integers(1, 4))
    names = draw(st.lists(NAMES, min_size=width, max_size=width, unique=True))
    return names, draw(st.lists(st.lists(NUMBERS, min_size=width, max_size=width), min_size=1, max_size=5))


@pytest.fixture(scope="module")
def table_file(tmp_path_factory):
    """A path that each example of a test overwrites."""
    return tmp_path_factory.mktemp("tables") / "table.csv"


def write(path, rows, delimiter, quoting=csv.QUOTE_ALL):
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, quoting=quoting, lineterminator="\n").writerows(rows)
    path.write_bytes(stream.getvalue().encode())


@given(tables(), st.sampled_from(",;\t"), st.booleans())
def test_what_is_written_is_read(table_file, table, delimiter, has_header):
    """Every delimiter, names with delimiters and quotes in them, and numbers to the last bit."""
    names, rows = table
    if len(names) == 1:  # a single quoted column shows no delimiter, and is split at blanks
        names = ["column"]
    quoting = csv.QUOTE_ALL if len(names) > 1 else csv.QUOTE_MINIMAL
    text = [[repr(value) for value in row] for row in rows]
    write(table_file, [names, *text] if has_header else text, delimiter, quoting)
    x, found = read_table(table_file)
    assert x.tolist() == rows
    assert found == (names if has_header else [f"column {i}" for i in range(len(names))])


@given(tables(), st.randoms())
def test_columns_come_in_the_order_asked_for(table_file, table, random):
    """By name or by number, with columns left out."""
    names, rows = ["a", *table[0]], [[0.5, *row] for row in table[1]]
    names = [f"{name}{i}" for i, name in enumerate(names)]
    order = random.sample(range(len(names)), random.randint(1, len(names)))
    write(table_file, [names, *rows], ";")
    by_number, by_name = ([str(i) for i in order], [names[i] for i in order])
    for columns in (by_number, by_name):
        x, found = read_table(table_file, columns=columns)
        assert x.tolist() == [[row[i] for i in order] for row in rows]
        assert found == by_name


@given(st.lists(st.tuples(st.integers(-99, 99), st.integers(0, 99)), min_size=1))
def test_a_decimal_comma_is_not_a_number(table_file, values):
    """Semicolons separate the columns, but a comma comes first in the search for a delimiter."""
    lines = [f"{whole},{fraction:02d};{whole}" for whole, fraction in values]
    table_file.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match="is not numeric"):
        read_table(table_file)


@given(st.lists(st.tuples(st.integers(-99, 99), st.integers(0, 99)), min_size=1))
def test_a_decimal_comma_in_a_tab_separated_file(table_file, values):
    """Without a header the comma is taken for the delimiter, and the field between two commas is not numeric."""
    lines = [f"{whole},{fraction:02d}\t{whole},{fraction:02d}" for whole, fraction in values]
    table_file.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match="is not numeric"):
        read_table(table_file)


@pytest.mark.parametrize(
    ("name", "text", "columns", "names", "x"),
    [
        ("a.csv", "u,v\n1,2\n3,4\n", None, ["u", "v"], [[1, 2], [3, 4]]),
        ("a.csv", "\ufeffu, v\r\n1, 2\r\n\r\n", None, ["u", "v"], [[1, 2]]),
        ("a.csv", "1\n2\n", None, ["column 0"], [[1], [2]]),
        ("a.csv", "u,\n1,2\n", None, ["u", "column 1"], [[1, 2]]),
        ("a.csv", '"u, first";v\n1;2\n', ["u, first"], ["u, first"], [[1]]),
        ("a.tsv", "u\tv\tw\n1\tx\t3\n", ["2", "u"], ["w", "u"], [[3, 1]]),
        ("a.txt", "  1.5  2e1\n -3 4\n", None, ["column 0", "column 1"], [[1.5, 20], [-3, 4]]),
    ],
)
def test_text(tmp_path, name, text, columns, names, x):
    (tmp_path / name).write_bytes(text.encode())
    got, got_names = read_table(tmp_path / name, columns=columns)
    assert got.tolist() == x
    assert got_names == names


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("a,b\n", "no rows"),
        ("1,2\n3\n", "ragged: line 2 has 1 values where 2"),
        ("1,2\n\n3,4,5\n", "ragged: line 3"),
        ("a,b\n1,2\n3,x\n", "not numeric: b holds 'x' in line 3"),
        ("1,2\n3,NA\n5,\n", r"gaps \(missing or infinite values\) in 2 rows, the first in line 2, column 1"),
        ("1,2\n3,inf\n", "gaps .* in 1 row, the first in line 2"),
        ("a,a\n1,2\n", "same name"),
        ("\x00\x01", "not text"),
    ],
)
def test_text_that_is_refused(tmp_path, text, words):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        read_table(path)


def test_bytes_that_are_not_text(tmp_path):
    (tmp_path / "bad.csv").write_bytes(b"\xff\xfe1,2")
    with pytest.raises(ValueError, match="is not text"):
        read_table(tmp_path / "bad.csv")


def test_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    assert read_table(tmp_path / "a.npy")[0].tolist() == [[0], [1], [2]]
    np.savez(tmp_path / "one.npz", values=np.eye(2))
    assert read_table(tmp_path / "one.npz")[0].tolist() == np.eye(2).tolist()
    np.savez(tmp_path / "two.npz", a=np.zeros(3), b=np.eye(2))
    assert read_table(tmp_path / "two.npz", array="b", columns=["1"])[0].tolist() == [[0], [1]]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("words.npy", np.array(["a", "b"]), "real numbers"),
        ("cube.npy", np.zeros((2, 2, 2)), r"\(2, 2, 2\)"),
        ("none.npy", np.zeros((0, 2)), r"\(0, 2\)"),
        ("flags.npy", np.array([True, False]), "real numbers"),
        ("gaps.npy", np.array([[1.0], [np.nan]]), "gaps .* row 1"),
        ("two.npz", {"a": np.zeros(3), "b": np.zeros((3, 2))}, r"holds a \(3,\), b \(3, 2\); .* say which with --array"),
        ("empty.npz", {}, "no array"),
    ],
)
def test_arrays_that_are_refused(tmp_path, name, value, words):
    path = tmp_path / name
    np.savez(path, **value) if isinstance(value, dict) else np.save(path, value)
    with pytest.raises(ValueError, match=words):
        read_table(path)


def test_files_that_are_refused(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}, 1], object), allow_pickle=True)
    (tmp_path / "broken.npy").write_text("hello")
    for path, words in [
        ("objects.npy", "Python objects"),
        ("broken.npy", "nothing that NumPy can read"),
        ("nowhere.csv", "there is no file"),
        (".", "is not a file"),
    ]:
        with pytest.raises(ValueError, match=words):
            read_table(tmp_path / path)


def test_names_of_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    np.savez(tmp_path / "b.npz", a=np.zeros(3), b=np.zeros(3))
    (tmp_path / "c.csv").write_text("1\n")
    for path, words in [("a.npy", "without a name"), ("b.npz", "no array 'c'; it holds a, b"), ("c.csv", "no named arrays")]:
        with pytest.raises(ValueError, match=words):
            read_table(tmp_path / path, array="c")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (["length"], "no column 'length'"),
        (["0", "height"], "named twice"),
        ([], "at least one column"),
        (["2"], "no column '2'"),
    ],
)
def test_columns_that_are_refused(columns, words):
    with pytest.raises(ValueError, match=words):
        choose_columns(columns, ["height", "weight"], "points.csv")
