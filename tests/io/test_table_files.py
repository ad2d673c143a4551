"""Test the tables of text before their columns are chosen: names, lines and decimal signs."""

import pytest

from jaxgmm.io.table_files import Table, read_text_table


def test_lines_are_those_of_the_file(tmp_path):
    """Comments, blank lines and quoted line ends are counted."""
    (tmp_path / "a.csv").write_text('# made by hand\n\nx,"y\nz"\n1,2\n\n3,"4\n"\n5,6\n')
    table = read_text_table(tmp_path / "a.csv", None, None)
    assert table.names == ["x", "y\nz"]
    assert table.places == ["line 5", "line 8", "line 9"]


def test_decimal_signs(tmp_path):
    (tmp_path / "a.csv").write_text("a;b\n1,5;2\n")
    table = read_text_table(tmp_path / "a.csv", None, None)
    assert (table.decimals, table.knows_decimal) == (",.", True)
    (tmp_path / "a.csv").write_text("a;b\n1,500;2\n")
    table = read_text_table(tmp_path / "a.csv", None, None)
    assert (table.decimals, table.knows_decimal) == (",.", False)


def test_cells_are_those_of_the_file(tmp_path):
    """Cells of text are text; in other formats, a missing value is None."""
    path = tmp_path / "a.csv"
    path.write_text('a;b\n001;"x;y"\n2,50;\n')
    assert list(read_text_table(path, None, None).cells()) == [["001", "x;y"], ["2,50", ""]]
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1, 2], "b": ["x", None], "c": [0.5, float("nan")]})
    assert list(Table(frame, ["a", "b", "c"], [True] * 3, ["row 0", "row 1"], []).cells()) == [(1, "x", 0.5), (2, None, None)]
