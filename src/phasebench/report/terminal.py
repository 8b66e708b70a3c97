"""The table on a terminal: cut into pieces that fit its width, each with the point's number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from phasebench.report.summary import clean
from phasebench.report.table import Cell, Column, Table

ROWS = 50  # at most: more is read better in table.md or report.html
_WIDEST = 16  # characters of a column before its text is folded
_STYLES = {"pass": "green", "FAIL": "bold red", "not measured": "bold yellow"}


def show(table: Table, console: Console, *, elsewhere: str = "") -> None:
    """Print the table at the console's width; no line is wider. `elsewhere` says where the other rows are."""
    narrow = table.narrow()
    rows = narrow.rows[:ROWS]
    head = [i for i, column in enumerate(narrow.columns) if column.role in ("point", "axis")]
    rest = [i for i, column in enumerate(narrow.columns) if column.role not in ("point", "axis")]
    widths = [_width(column, [row[i] for row in rows]) for i, column in enumerate(narrow.columns)]
    for piece in _pieces(widths, head, rest, console.width):
        console.print(_piece(narrow, rows, {i: widths[i] for i in piece}))
    for row, shown in zip(table.rows, rows, strict=False):
        if row[-1].value:
            known = [i for i in head if shown[i].value is not None]
            words = [
                f"{narrow.columns[i].heading} {shown[i].text(narrow.columns[i])}" for i in known
            ]
            name = row[0].value if narrow.columns[0].role == "point" else ", ".join(words)
            console.print(Text(clean(f"{name}: {row[-1].value}"), "yellow", overflow="fold"))
    if len(table.rows) > ROWS:
        console.print(
            Text(f"{len(table.rows) - ROWS} more points {elsewhere}".rstrip(), overflow="fold")
        )


def _pieces(
    widths: Sequence[int], head: list[int], rest: list[int], total: int
) -> Iterator[list[int]]:
    """Columns of each piece: the swept keys in the first and, if half of the width is enough for them, in all."""
    repeat = head if sum(widths[i] + 2 for i in head) <= total // 2 else head[:1]
    piece = list(head)
    for i in rest:
        if sum(widths[j] + 2 for j in [*piece, i]) > total:
            yield piece
            piece = list(repeat)
        piece.append(i)
    yield piece


def _width(column: Column, cells: Sequence[Cell]) -> int:
    """Of a column: its longest value, or word of its heading, up to `_WIDEST` characters."""
    texts = [*_heading(column).split(), *(_text(cell, column).plain for cell in cells)]
    return min(_WIDEST, max(map(cell_len, texts), default=1))


def _piece(table: Table, rows: list[list[Cell]], widths: dict[int, int]) -> RichTable:
    found = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for i, width in widths.items():
        column = table.columns[i]
        justify = "right" if column.role == "metric" else "left"
        found.add_column(Text(_heading(column)), overflow="fold", justify=justify, width=width)
    for row in rows:
        found.add_row(*(_text(row[i], table.columns[i]) for i in widths))
    return found


def _heading(column: Column) -> str:
    label = " (predicted)" if column.predicted else ""
    unit = f" [{column.unit}]" if column.unit else ""
    return clean(column.heading.replace("_", " ") + unit) + label


def _text(cell: Cell, column: Column) -> Text:
    text = Text(cell.text(column))
    return text.append(f" {cell.verdict}", _STYLES[cell.verdict]) if cell.verdict else text
