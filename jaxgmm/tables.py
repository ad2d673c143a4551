"""Define tables that are written as text or HTML, and the base class of results that are printed as tables.

`Table` is the only table type of the package. It renders itself as text for terminals, and as HTML for notebooks and reports. A
class whose repr consists of tables derives from `Printed`. Such a repr never raises an error. If no table can be made of an
object, its fields are printed.
"""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, ClassVar

import numpy as np

from .cells import fields_of, shortened

WIDTH = 100  # largest number of characters in a line of a printed page
MAX_ROWS = 12  # largest number of table rows in a repr
# Names in the first column are not cut to fewer characters than this. If the table is then still too wide, columns move to a
# block below.
_LEAST_NAMES = 12


@dataclass(frozen=True)
class Layout:
    """The layout of a table that is printed as text. HTML tables do not use it.

    Attributes:
        max_width: the largest number of characters in a line; None means no limit.
        stretch: whether the first column is widened until the table is `max_width` wide. Tables below each other then align.
        gap: number of spaces between two columns.
        min_widths: the smallest widths of the columns in characters, starting with the first column. Names that do not fit into
            the first column are cut.
    """

    max_width: int | None = None
    stretch: bool = False
    gap: int = 2
    min_widths: Sequence[int] = ()


@dataclass(frozen=True)
class Table:
    """A table: a title, a header, rows of cells, and notes below.

    Attributes:
        title: a line above the table. If the title is "", this line is missing, and the first cell of the header serves as the
            title.
        header: one text for each column; an empty header means that the table has no rows.
        rows: the rows, each with one text for each column.
        notes: sentences that are written below the table.
        left: indices of the columns that are aligned to the left. The other columns, which contain numbers, are aligned to the
            right.
        column_groups: pairs of a heading and the number of columns that it spans. The pairs together cover all columns,
            starting with the first. The heading "" means no heading. If the columns of a group have no headings of their own,
            the heading of the group is written in their place.
        row_groups: pairs of a heading line and the number of rows below it. The pairs together cover all rows.
        strong: the texts of cells that are emphasised in HTML.
        layout: layout of the table as text.

    Example:
        >>> groups = [("", 1), ("90 % interval", 2)]
        >>> print(Table("Shares", ("", "from", "to"), [["a", "0.1", "0.3"]], left=(0,), column_groups=groups).text())
        Shares
             90 % interval
                 from   to
          a       0.1  0.3
    """

    title: str
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()
    left: Collection[int] = ()
    column_groups: Sequence[tuple[str, int]] = ()
    row_groups: Sequence[tuple[str, int]] = ()
    strong: Collection[str] = ("NO", "NOT")
    layout: Layout = Layout()

    def text(self) -> str:
        """Return the table as text with aligned columns.

        If the table is wider than `layout.max_width`, names in the first column are cut. Columns that still do not fit beside
        each other move to a block below, which repeats the first column.
        """
        lines = [self.title] if self.title else []
        if self.header:
            widths = self._widths()
            for block in self._blocks(widths):
                lines += self._block_lines(block, [self._name_width(block, widths), *widths[1:]])
        notes = [textwrap.fill(note, WIDTH, initial_indent="  ", subsequent_indent="  ") for note in self.notes]
        return "\n".join([*lines, *notes])

    @property
    def name_width(self) -> int:
        """The largest length, in characters, of a name that fits into the first column. `text` cuts longer names."""
        widths = self._widths()
        limit = self.layout.max_width
        width = widths[0] if limit is None else limit - self._used(self._blocks(widths)[0], widths)
        return width - len(self._indent)

    @property
    def _indent(self) -> str:
        """The indentation of the rows."""
        return "    " if self.row_groups else "  "

    @property
    def _first_heading(self) -> str:
        """The first cell of the header, indented if there is a title."""
        return f"  {self.header[0]}" if self.title else self.header[0]

    def _groups(self) -> Iterator[tuple[str, list[int]]]:
        """Yield each group heading with the columns that it spans; a column without a group heading is a group by itself."""
        groups = self.column_groups or [("", len(self.header))]
        assert sum(size for _, size in groups) == len(self.header), "column groups must span all columns"
        start = 0
        for heading, size in groups:
            columns = list(range(start, start + size))
            yield from [(heading, columns)] if heading else [("", [column]) for column in columns]
            start += size

    def _widths(self) -> list[int]:
        """Return the width that each column needs; the width of the first column includes the indentation."""
        grid = [[self._first_heading, *self.header[1:]], *([self._indent + row[0], *row[1:]] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
        for column, least in enumerate(self.layout.min_widths):
            widths[column] = max(widths[column], least)
        for heading, columns in self._groups():
            missing = len(heading) - sum(widths[c] for c in columns) - self.layout.gap * (len(columns) - 1)
            widths[columns[0]] += max(missing, 0)
        return widths

    def _used(self, columns: Sequence[int], widths: Sequence[int]) -> int:
        """Return the total width of some columns, including the gap before each column."""
        return sum(widths[column] + self.layout.gap for column in columns)

    def _blocks(self, widths: Sequence[int]) -> list[list[int]]:
        """Return the columns of each block, without the first column, which all blocks share.

        A group of columns that fits into one block is not split.
        """
        if self.layout.max_width is None:
            return [list(range(1, len(self.header)))]
        least = max([_LEAST_NAMES, *self.layout.min_widths[:1]])
        free = self.layout.max_width - min(widths[0], least)
        blocks: list[list[int]] = [[]]
        for _, group in self._groups():
            columns = [column for column in group if column > 0]
            for unit in [columns] if self._used(columns, widths) <= free else [[column] for column in columns]:
                if blocks[-1] and self._used(blocks[-1] + unit, widths) > free:
                    blocks.append([])
                blocks[-1] += unit
        return blocks

    def _name_width(self, block: Sequence[int], widths: Sequence[int]) -> int:
        """Return the width of the first column in one block."""
        if self.layout.max_width is None:
            return widths[0]
        free = self.layout.max_width - self._used(block, widths)
        return free if self.layout.stretch else min(free, widths[0])

    def _block_lines(self, block: Sequence[int], widths: Sequence[int]) -> list[str]:
        """Return the lines of one block: the headings, and then the rows with the headings of row groups."""
        columns = [0, *block]
        lines = self._heading_lines(columns, widths)
        headings = {}
        place = 0
        for heading, size in self.row_groups:
            headings[place] = heading
            place += size
        for place, row in enumerate(self.rows):
            if headings.get(place):
                lines.append(shortened(f"  {headings[place]}", self.layout.max_width or math.inf))
            words = [self._indent + row[0], *row[1:]]
            lines.append(self._joined([self._aligned(column, words[column], widths[column]) for column in columns]))
        return lines

    def _heading_lines(self, columns: Sequence[int], widths: Sequence[int]) -> list[str]:
        """Return the header lines of one block.

        If the columns of a group have their own headings, the heading of the group is in a line above the header.
        """
        words, above = [], []
        for heading, group in self._groups():
            kept = [column for column in group if column in columns]
            own = [self._first_heading if column == 0 else self.header[column] for column in kept]
            if not kept:
                continue
            span = self._used(kept, widths) - self.layout.gap
            spanning = shortened(heading, span).rjust(span)
            if heading and not any(own):
                words.append(spanning)
                above.append(" " * span)
            else:
                words += [self._aligned(column, word, widths[column]) for column, word in zip(kept, own, strict=True)]
                above.append(spanning)
        return [line for line in (self._joined(above),) if line] + [self._joined(words)]

    def _joined(self, words: Sequence[str]) -> str:
        """Return a line made of cells that are already aligned."""
        return (" " * self.layout.gap).join(words).rstrip()

    def _aligned(self, column: int, word: str, width: int) -> str:
        """Return a cell padded to the width of its column; a cell of the first column is also cut to this width."""
        if column == 0:
            word = shortened(word, width)
        return word.ljust(width) if column in self.left else word.rjust(width)

    def html(self) -> str:
        """Return the table in HTML. The title becomes the caption, and cells of the first column become row headings.

        All text is escaped.
        """
        notes = "".join(f"<div>{escape(note)}</div>" for note in self.notes)
        if not self.header:
            return f"<div>{escape(self.title)}</div>{notes}"
        caption = f'<caption style="text-align:left;white-space:nowrap">{escape(self.title)}</caption>' if self.title else ""
        return f"<table>{caption}<thead>{''.join(self._html_headings())}</thead>{''.join(self._html_bodies())}</table>{notes}"

    def _html_headings(self) -> list[str]:
        """Return the header rows: one row, or two rows if groups of columns have headings."""
        words, above, is_grouped = "", "", False
        for heading, columns in self._groups():
            spanning = f'<th scope="colgroup" colspan="{len(columns)}" style="text-align:right">{escape(heading)}</th>'
            own = "".join(self._html_cell('th scope="col"', column, self.header[column]) for column in columns)
            if heading and not any(self.header[column] for column in columns):
                words, above = words + spanning, above + f'<td colspan="{len(columns)}"></td>'
            else:
                words, above = words + own, above + (spanning if heading else "<td></td>")
                is_grouped |= bool(heading)
        return [f"<tr>{above}</tr>"] * is_grouped + [f"<tr>{words}</tr>"]

    def _html_bodies(self) -> Iterator[str]:
        """Yield one table body for each group of rows."""
        start = 0
        for heading, size in self.row_groups or [("", len(self.rows))]:
            line = f'<tr><th scope="rowgroup" colspan="{len(self.header)}" style="text-align:left">{escape(heading)}</th></tr>'
            rows = "".join(f"<tr>{self._html_row(row)}</tr>" for row in self.rows[start : start + size])
            yield f"<tbody>{line if heading else ''}{rows}</tbody>"
            start += size

    def _html_row(self, row: Sequence[str]) -> str:
        """Return the HTML cells of one row; the first cell is a heading."""
        tags = ['th scope="row"', *["td"] * (len(row) - 1)]
        return "".join(self._html_cell(tag, column, word) for column, (tag, word) in enumerate(zip(tags, row, strict=True)))

    def _html_cell(self, tag: str, column: int, word: str) -> str:
        """Return one HTML cell with escaped text, aligned like its column."""
        side = "left" if column in self.left else "right"
        text = f"<strong>{escape(word)}</strong>" if word in self.strong else escape(word)
        return f'<{tag} style="text-align:{side}">{text}</{tag[:2]}>'


class Printed:
    """Base class of dataclasses that are printed as tables; the method `_tables` returns the tables."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def _tables(self) -> list[Table]:
        """Return the tables to print."""
        raise NotImplementedError

    def _shown(self) -> list[Table]:
        """Return the tables; if no table can be made of the object, return one table that only lists its fields."""
        try:
            with np.errstate(all="ignore"):  # the numbers may be infinite or NaN
                return self._tables()
        except Exception:  # JAX may fill the fields with arbitrary objects, and a repr must not raise an error
            return [Table(fields_of(self))]

    def __repr__(self) -> str:
        """Return the tables as text."""
        return "\n".join(table.text() for table in self._shown())

    def _repr_html_(self) -> str:
        """Return the tables as HTML."""
        return "".join(table.html() for table in self._shown())


def paragraph(text: str, indent: str = "") -> list[str]:
    """Return a text as lines of at most `WIDTH` characters; all lines after the first are indented by `indent`.

    Example:
        >>> paragraph("short")
        ['short']
    """
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False) or [""]


def elided(count: int) -> list[int | None]:
    """Return the indices of the rows to show if there are `count` rows.

    If there are too many rows, the list contains the first indices, then None for the omitted rows, then the last index.
    """
    return list(range(count)) if count <= MAX_ROWS else [*range(MAX_ROWS - 2), None, count - 1]
