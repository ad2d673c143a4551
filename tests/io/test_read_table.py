"""Test how tables of numbers are read from text and array files, and what is refused."""

import bz2
import csv
import gzip
import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgmm.io import table_files, text
from jaxgmm.io.read_table import read_table

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


DECIMALS = st.decimals(-9999, 9999, places=2)


def with_comma(value):
    """Write a number as in German: 1234.50 becomes 1.234,50."""
    return f"{value:,}".translate(str.maketrans(",.", ".,"))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # short columns of whole numbers may look like row numbers
@given(st.lists(st.tuples(DECIMALS, DECIMALS), min_size=1), st.sampled_from(";\t| "), st.booleans())
def test_decimal_commas(table_file, values, delimiter, has_header):
    """With and without points between thousands, and whatever the delimiter is."""
    lines = [delimiter.join(map(with_comma, pair)) for pair in values]
    table_file.write_text("\n".join([f"a, cm{delimiter}b", *lines] if has_header and delimiter != " " else lines) + "\n")
    x, _ = read_table(table_file)
    assert x.tolist() == [[float(value) for value in pair] for pair in values]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # without evidence, the text may be read in two ways
@given(st.lists(st.decimals(-9, 999, places=2), min_size=1), st.booleans())
def test_decimal_commas_in_one_column(table_file, values, has_header):
    """The commas of a single column are not taken for delimiters: two digits follow each of them."""
    table_file.write_text("\n".join([*["a"] * has_header, *map(with_comma, values)]) + "\n")
    assert read_table(table_file)[0].tolist() == [[float(value)] for value in values]


@given(st.lists(st.integers(1000, 10**9), min_size=1), st.sampled_from("'\u2019\u00a0\u202f"), st.booleans())
def test_thousands(table_file, values, separator, in_words):
    lines = [f"{value:,}".replace(",", separator) for value in values]
    text = "\n".join(["n;b", *(f"{line};{0.5 + i * i}" for i, line in enumerate(lines))])
    table_file.write_text(text, encoding="utf-8")
    assert read_table(table_file, columns="n")[0].tolist() == [[value] for value in values]


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


REMARKS = {
    "decimal commas in one column": ("-1,16\n2,35\n0,98\n", ["column 0"], [-1.16], "one column of numbers with decimal commas"),
    "two columns of whole numbers": ("1,2\n3,4\n5,7\n", ["column 0", "column 1"], [1, 2], "two columns of whole numbers"),
    "years as names": ("2019,2020\n1.5,2.5\n3.5,4.5\n", ["2019", "2020"], [1.5, 2.5], "2019, 2020, that is taken as names"),
    "years above whole numbers": ("2019;2020\n512;630\n498;601\n", ["2019", "2020"], [512, 630], "taken as names"),
    "positions as names": ("0,1,2\n.5,.6,.7\n.1,.2,.3\n", ["0", "1", "2"], [0.5, 0.6, 0.7], "taken as names"),
    "a year above one column": ("2019\n512\n498\n505\n", ["column 0"], [2019], "like names, which is read as data"),
    "positions above whole numbers": (
        "0,1,2\n-122,20,-4\n107,-92,80\n5,6,7\n",
        ["column 0", "column 1", "column 2"],
        [0, 1, 2],
        "like names",
    ),
    "words and a year as names": ("a,2019\n1.5,2.5\n", ["a", "2019"], [1.5, 2.5], "2019, that is taken as names"),
    "an index without a name": (",x,y\n0,1.5,2\n1,2.5,4\n2,3.5,3\n", ["x", "y"], [1.5, 2], "left out: column 0 .it counts"),
    "an index without a header": ("0 1.5 2\n1 2.5 4\n2 3.5 3\n", ["column 1", "column 2"], [1.5, 2], "column 0 .it counts"),
    "a column called id": ("id,x\n101,1.5\n205,2.5\n", ["x"], [1.5], "left out: id .it counts or identifies"),
    "a column called PassengerId": ("PassengerId,x\n7,1.5\n5,2.5\n", ["x"], [1.5], "left out: PassengerId"),
    "words": ("x,group\n1.5,low\n2.5,high\n", ["x"], [1.5], "left out: group .without numbers, as in 'low'"),
    "dates": ("t,x\n2020-01-01 10:00,1.5\n2020-01-02 10:00,2.5\n", ["x"], [1.5], "left out: t"),
    "no numbers at all": ("x,y\n1.5,NA\n2.5,NA\n", ["x"], [1.5], "left out: y .without numbers, as in 'NA'"),
    "digits of another script": ("\u0661,2.5\n\u0662,3.5\n", ["column 1"], [2.5], "left out: column 0 .without numbers"),
    "booleans": ("a,b\nTRUE,1.5\nFALSE,2\n", ["b"], [1.5], "left out: a"),
    "R's table": ('"a" "b"\n"1" 5.1 3.5\n"2" 4.9 3.0\n', ["a", "b"], [5.1, 3.5], "left out: row names"),
    "R's table with words": ('"a" "b"\n"Fiat 128" 5.1 3\n"Mazda RX4" 4 3\n', ["a", "b"], [5.1, 3], "left out: row names"),
    "thousands or decimals": ("a\tb\n1,234\t5\n2,345\t7\n", ["a", "b"], [1234, 5], "may have decimal commas or thousands"),
    "percent": ("rate,b\n12%,1.5\n3.5 %,3\n", ["rate", "b"], [12, 1.5], "percent signs in rate, which are dropped"),
    "comments between rows": ("x,y\n1.5,2\n# 3,4\n3,5\n", ["x", "y"], [1.5, 2], "has comments between its rows .1."),
}


@pytest.mark.parametrize("name", REMARKS)
def test_nothing_is_done_in_silence(tmp_path, name):
    """Text that is not read as it stands, or that can be read in two ways, is read with a remark."""
    text, names, first, words = REMARKS[name]
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    with pytest.warns(RuntimeWarning, match=words) as caught:
        x, found = read_table(tmp_path / "a.csv")
    assert (found, x[0].tolist()) == (names, first)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("text", "names", "first"),
    [
        (b"Length, cm;Width, cm\n1.5;2.5\n", ["Length, cm", "Width, cm"], [1.5, 2.5]),
        (b"a, m\tb\n1.5\t2.5\n", ["a, m", "b"], [1.5, 2.5]),
        (b"a|b\n1.5|2\n", ["a", "b"], [1.5, 2]),
        (b"sep=;\na;b\n1,5;2\n", ["a", "b"], [1.5, 2]),
        (b"a;b\n1.234,5;2,5\n1.000,0;3,25\n", ["a", "b"], [1234.5, 2.5]),
        (b"n;b\n1.234;2,5\n5.678;3,25\n", ["n", "b"], [1234, 2.5]),
        (b'"1,5","2,5"\n"3,5","4,25"\n', ["column 0", "column 1"], [1.5, 2.5]),
        (b'"1,234","2.5"\n"3,500","4.25"\n', ["column 0", "column 1"], [1234, 2.5]),
        (b"-1,16\n-2\n3,05\n", ["column 0"], [-1.16]),
        (b"a;b;\n1,5;2;\n2,5;3;\n", ["a", "b"], [1.5, 2]),
        (b"a;b\n1,5;2;\n2,5;3;\n", ["a", "b"], [1.5, 2]),
        (b"# made by hand\n\nx,y\n1.5,2 # the first\n3,5\n", ["x", "y"], [1.5, 2]),
        (b"# x y\n1.5 2\n3 5\n", ["x", "y"], [1.5, 2]),
        (b"% x y\n1.5 2\r3 5\r", ["x", "y"], [1.5, 2]),
        ("länge,b\n1.5,2\n".encode("latin-1"), ["länge", "b"], [1.5, 2]),
        ("länge,b\n1.5,2\n".encode("utf-16"), ["länge", "b"], [1.5, 2]),
        ("länge,b\n1.5,2\n".encode("utf-16-be"), ["länge", "b"], [1.5, 2]),
        (gzip.compress(b"a,b\n1.5,2\n", mtime=0), ["a", "b"], [1.5, 2]),
        (bz2.compress(b"a,b\n1.5,2\n"), ["a", "b"], [1.5, 2]),
        (b"99999999999999999999 1e-3\n", ["column 0", "column 1"], [1e20, 1e-3]),
    ],
)
def test_text_of_many_kinds(tmp_path, text, names, first):
    (tmp_path / "a.csv").write_bytes(text)
    x, found = read_table(tmp_path / "a.csv")
    assert (found, x[0].tolist()) == (names, first)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"a,b\n#N/A,1\n2,3\n", r"has gaps .* in 1 row, the first in line 2, a"),
        (b"a,b\n1_000,2.5\n3,4\n", "not numeric: a holds '1_000' in line 2"),
        (b"1_000,2.5\n3,4\n", "not numeric: column 0 holds '1_000' in line 1"),
        ("\u0661,2.5\n3,4\n".encode(), "not numeric: column 0 holds '\u0661' in line 1"),
        (b"x\ny\nz\n", "not numeric: it has no column of numbers, only x"),
        (b'a,b\n1,"2\n3,4\n', "a quotation mark without a partner in line 2"),
        (b"a,b\n" + b"x" * 200_000 + b",2\n", "field larger than field limit .131072.; check its quotation marks"),
        (b'a,b\n1,"' + b"x" * 200_000 + b'"\n', "field larger than field limit"),
        (b"a,b\n12%,1\n3,2\n", "not numeric: a holds '12%'"),
        (b"title\nx,y\n1,2\n3,5\n", "ragged: line 1 has 1 values where 2 were expected"),
        (b"\x1f\x8bhello", "is a damaged compressed file"),
    ],
    ids=lambda value: value[:20] if isinstance(value, bytes) else "",
)
def test_text_that_is_refused_in_words(tmp_path, text, words):
    (tmp_path / "a.csv").write_bytes(text)
    with pytest.raises(ValueError, match=words) as refused:
        read_table(tmp_path / "a.csv")
    assert "\n" not in str(refused.value)


def test_the_other_reading(tmp_path):
    """Options decide where the text leaves a doubt."""
    path = tmp_path / "a.csv"
    path.write_text("1,25\n3,75\n")
    assert read_table(path, delimiter=",")[0].tolist() == [[1, 25], [3, 75]]
    assert read_table(path, decimal=",")[0].tolist() == [[1.25], [3.75]]
    path.write_text("a\tb\n1,234\t5\n2,345\t7\n")
    assert read_table(path, decimal=",")[0].tolist() == [[1.234, 5], [2.345, 7]]
    assert read_table(path, decimal=".")[0].tolist() == [[1234, 5], [2345, 7]]
    with pytest.raises(ValueError, match="decimal is ';'"):
        read_table(path, decimal=";")


def test_named_columns_are_kept_without_a_remark(tmp_path):
    (tmp_path / "a.csv").write_text("id,height,width,group\n1,1.5,2.5,low\n2,3.5,4.5,high\n")
    for columns in ("id-width", ["id", "height", "width"], "0-2", [0, "1:2"]):
        assert read_table(tmp_path / "a.csv", columns=columns)[0].tolist() == [[1, 1.5, 2.5], [2, 3.5, 4.5]]
    assert read_table(tmp_path / "a.csv", drop="id, group")[1] == ["height", "width"]
    assert read_table(tmp_path / "a.csv", drop=["id", "2-3"])[1] == ["height"]
    with pytest.raises(ValueError, match="not numeric: group holds 'low' in line 2"):
        read_table(tmp_path / "a.csv", columns="group")


def test_stdin(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a,b\n1.5,2\n")))
    assert read_table("-")[1] == ["a", "b"]


@pytest.mark.parametrize("suffix", [".parquet", ".feather", ".xlsx", ".xls", ".ods"])
def test_formats_whose_packages_are_not_installed(tmp_path, monkeypatch, suffix):
    import pandas

    reader, package = table_files.READERS[suffix]
    (tmp_path / f"a{suffix}").write_bytes(b"data")

    def lacks_its_engine(*_, **__):
        raise ImportError(f"Missing optional dependency '{package}'.")

    monkeypatch.setattr(pandas, reader, lacks_its_engine)
    with pytest.raises(ValueError, match=f"needs the package {package}; install it, as in pip install {package}"):
        read_table(tmp_path / f"a{suffix}")
    monkeypatch.setattr(pandas, reader, lambda *_, **__: 1 / 0)
    with pytest.raises(ValueError, match=f"is not a {suffix[1:]} file, or is damaged"):
        read_table(tmp_path / f"a{suffix}")


def test_frames_of_other_formats(tmp_path, monkeypatch):
    """Sheets have their names in a row, parquet files in a schema; identifiers and words are left out of both."""
    import pandas

    (tmp_path / "a.xlsx").write_bytes(b"data")
    (tmp_path / "a.parquet").write_bytes(b"data")
    sheet = pandas.DataFrame([["id", "x", "word"], [3, 1.5, "low"], [9, 2, "high"], [None] * 3])
    monkeypatch.setattr(pandas, "read_excel", lambda path, header, dtype: sheet)
    frame = pandas.DataFrame(
        {"id": [3, 9], "x": pandas.array([1, None], "Int64"), "when": pandas.to_datetime(["2020", "2021"])}
    )
    monkeypatch.setattr(pandas, "read_parquet", lambda path: frame)
    with pytest.warns(RuntimeWarning, match="left out: id .*, word"):
        assert read_table(tmp_path / "a.xlsx")[0].tolist() == [[1.5], [2]]
    with pytest.raises(ValueError, match="not numeric: word holds 'low' in row 2"):
        read_table(tmp_path / "a.xlsx", columns="word")
    sheet = pandas.DataFrame([[None, "x"], [0, 1.5], [1, 2.5]], dtype=object)  # the index that pandas writes
    with pytest.warns(RuntimeWarning, match="left out: column 0 .it counts"):
        assert read_table(tmp_path / "a.xlsx")[1] == ["x"]
    with (
        pytest.warns(RuntimeWarning, match="left out: id .*, when"),
        pytest.raises(ValueError, match=r"gaps .* in 1 row, the first in row 1, x"),
    ):
        read_table(tmp_path / "a.parquet")


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


def test_archives_that_are_refused(tmp_path, monkeypatch):
    """A broken npz file, and small files that unpack to more than so many bytes, here a megabyte."""
    monkeypatch.setattr(text, "_LARGE", 2**20)
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 nothing more")
    np.savez_compressed(tmp_path / "flat.npz", x=np.zeros(2**20))
    np.savez(tmp_path / "whole.npz", x=np.zeros(2**20))
    (tmp_path / "flat.csv.gz").write_bytes(gzip.compress(b"0,1\n" * 2**20))
    assert len(read_table(tmp_path / "whole.npz")[0]) == 2**20
    for name, words in [("broken.npz", "nothing that NumPy can read"), ("flat.npz", "unpacks"), ("flat.csv.gz", "unpacks")]:
        with pytest.raises(ValueError, match=words):
            read_table(tmp_path / name)
    with pytest.raises(ValueError, match=r"unpacks from .* MB to .* GB or more; at most 100 times its size"):
        read_table(tmp_path / "flat.npz", array="x")
