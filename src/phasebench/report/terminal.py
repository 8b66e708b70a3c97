"""Print tables on a terminal: no line wider than it, and no word broken that fits half of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from phasebench.report.table import Table
from phasebench.report.text import clean

ROWS = 50  # at most: more is read better in table.md or report.html
_WIDEST = 16  # characters of a column before its text is put on several lines
_GAP = 2  # characters between columns
_STYLES = {"pass": "green", "FAIL": "bold red", "not measured": "bold yellow"}


@dataclass(frozen=True)
class Stack:
    """A column to print: its heading and its texts."""

    heading: str
    texts: Sequence[Text]
    right: bool = False

    def word(self, total: int) -> int:
        """Measure the longest word, up to half of the terminal's width; longer ones are broken."""
        texts = (clean(self.heading), *(text.plain for text in self.texts))
        longest = max((cell_len(word) for text in texts for word in text.split()), default=1)
        return min(max(longest, 1), max(1, total // 2 - _GAP))

    def natural(self) -> int:
        """Measure the longest text, or word of the heading."""
        texts = [*clean(self.heading).split(), *(text.plain for text in self.texts)]
        return max(map(cell_len, texts), default=1)


def sheet(stacks: Sequence[Stack], total: int) -> RichTable:
    """Lay columns beside each other, each at least as wide as its longest word; what is spare goes
    to the least needy.
    """
    table = RichTable(
        box=box.SIMPLE_HEAD, padding=(0, _GAP - 1, 0, 0), pad_edge=False, show_edge=False
    )
    spare = max(0, total - sum(stack.word(total) + _GAP for stack in stacks))
    more = [max(0, stack.natural() - stack.word(total)) for stack in stacks]
    for i in sorted(range(len(stacks)), key=more.__getitem__):
        more[i] = min(more[i], spare)
        spare -= more[i]
    for stack, extra in zip(stacks, more, strict=True):
        width, justify = stack.word(total) + extra, "right" if stack.right else "left"
        heading = Text(clean(stack.heading))
        table.add_column(heading, overflow="fold", justify=justify, width=width)
    for row in zip(*(stack.texts for stack in stacks), strict=True):
        table.add_row(*row)
    return table


def fitting(stacks: Sequence[Stack], total: int) -> list[Stack]:
    """Take as many columns, from the first on, as fit without breaking words."""
    kept: list[Stack] = []
    for stack in stacks:
        if kept and sum(one.word(total) + _GAP for one in (*kept, stack)) > total + _GAP:
            break
        kept.append(stack)
    return kept


def show(table: Table, console: Console, *, elsewhere: str = "") -> None:
    """Print a report's table in pieces that fit the console; `elsewhere` says where the other rows
    are.
    """
    narrow = table.narrow()
    rows = narrow.rows[:ROWS]
    heads, rest = [], []
    for i, column in enumerate(narrow.columns):
        texts = []
        for row in rows:
            text = Text(row[i].text(column))
            if row[i].verdict:
                text.append(f" {row[i].verdict}", _STYLES[row[i].verdict])
            texts.append(text)
        unit = f" [{column.unit}]" if column.unit else ""
        heading = column.heading.replace("_", " ") + unit
        if column.predicted:
            heading += " (predicted)"
        stack = Stack(heading, texts, right=column.role == "metric")
        (heads if column.role in ("point", "axis") else rest).append(stack)
    for piece in _pieces(heads, rest, console.width):
        console.print(sheet(piece, console.width))
    for i, row in enumerate(table.rows[: len(rows)]):
        if row[-1].value:
            settings = (f"{head.heading} {head.texts[i]}" for head in heads)
            told = ", ".join(text for text in settings if not text.endswith(" -"))
            name = row[0].value if narrow.columns[0].role == "point" else told
            console.print(Text(clean(f"{name}: {row[-1].value}"), "yellow", overflow="fold"))
    if len(table.rows) > ROWS:
        more = f"{len(table.rows) - ROWS} more points {elsewhere}".rstrip()
        console.print(Text(more, overflow="fold"))


def _pieces(heads: list[Stack], rest: list[Stack], total: int) -> Iterator[list[Stack]]:
    """Split columns: the swept keys in the first piece and, if half of the width is enough for
    them, in all.
    """

    def width(stacks: Sequence[Stack]) -> int:
        return sum(max(s.word(total), min(s.natural(), _WIDEST)) + _GAP for s in stacks)

    repeat = heads if width(heads) <= total // 2 else heads[:1]
    piece = list(heads)
    for stack in rest:
        if width([*piece, stack]) > total:
            yield piece
            piece = list(repeat)
        piece.append(stack)
    yield piece
