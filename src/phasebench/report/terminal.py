"""Print tables on a terminal: no line wider than it, and no word broken that fits half of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from phasebench.report.table import Column, narrow
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

    def least(self, total: int) -> int:
        """Measure the longest word, up to half of the terminal's width; longer ones are broken."""
        texts = [clean(self.heading), *(text.plain for text in self.texts)]
        longest = max((cell_len(word) for text in texts for word in text.split()), default=1)
        return min(longest, max(1, total // 2 - _GAP))

    def most(self) -> int:
        """Measure the longest text, or word of the heading."""
        texts = [*clean(self.heading).split(), *(text.plain for text in self.texts)]
        return max(map(cell_len, texts), default=1)


def sheet(stacks: Sequence[Stack], total: int) -> Table:
    """Lay columns beside each other, each at least as wide as its longest word; what is spare goes
    to the least needy.
    """
    layout = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    widths = [stack.least(total) for stack in stacks]
    wanted = [max(0, stack.most() - width) for stack, width in zip(stacks, widths, strict=True)]
    spare = max(0, total - sum(widths) - _GAP * len(widths))
    for i in sorted(range(len(stacks)), key=wanted.__getitem__):
        extra = min(wanted[i], spare)
        widths[i] += extra
        spare -= extra
    for stack, width in zip(stacks, widths, strict=True):
        justify = "right" if stack.right else "left"
        layout.add_column(Text(clean(stack.heading)), overflow="fold", justify=justify, width=width)
    for row in zip(*(stack.texts for stack in stacks), strict=True):
        layout.add_row(*row)
    return layout


def fitting(stacks: Sequence[Stack], total: int) -> list[Stack]:
    """Take as many columns, from the first on, as fit without breaking words."""
    kept = 1
    while kept < len(stacks):
        if sum(stack.least(total) + _GAP for stack in stacks[: kept + 1]) > total + _GAP:
            break
        kept += 1
    return list(stacks[:kept])


def line(heading: str, text: str, style: str = "") -> Text:
    """Write a line with a bold heading; words are broken only where no line holds them."""
    return Text.assemble((heading, "bold"), (clean(text), style), overflow="fold")


def show(columns: Sequence[Column], console: Console, *, elsewhere: str = "") -> None:
    """Print a report's table in pieces that fit the console: the swept keys in the first piece and,
    if half of the width is enough for them, in all.

    `elsewhere` says where the rows are that are left out.
    """
    heads: list[Stack] = []
    rest: list[Stack] = []
    for column in narrow(columns):
        texts = []
        for cell in column.cells[:ROWS]:
            texts.append(Text(column.text(cell)))
            if cell.verdict:
                texts[-1].append(f" {cell.verdict}", _STYLES[cell.verdict])
        unit = f" [{column.unit}]" if column.unit else ""
        heading = column.heading.replace("_", " ") + unit + " (predicted)" * column.predicted
        stack = Stack(heading, texts, right=column.role == "metric")
        (heads if column.role in ("point", "axis") else rest).append(stack)

    def width(stacks: Sequence[Stack]) -> int:
        total = console.width
        return sum(max(s.least(total), min(s.most(), _WIDEST)) + _GAP for s in stacks)

    repeated = heads if width(heads) <= console.width // 2 else heads[:1]
    piece = list(heads)
    for stack in rest:
        if width([*piece, stack]) > console.width:
            console.print(sheet(piece, console.width))
            piece = list(repeated)
        piece.append(stack)
    console.print(sheet(piece, console.width))
    _show_reasons(columns, heads, console)
    if (more := len(columns[0].cells) - ROWS) > 0:
        console.print(line("", f"{more} more points {elsewhere}".rstrip()))


def _show_reasons(columns: Sequence[Column], heads: Sequence[Stack], console: Console) -> None:
    """Print why points were not measured, each by its name or its swept values."""
    named = any(column.role == "point" for column in narrow(columns))
    for i, cell in enumerate(columns[-1].cells[:ROWS]):
        if cell.value:
            settings = (f"{head.heading} {head.texts[i]}" for head in heads)
            told = ", ".join(text for text in settings if not text.endswith(" -"))
            name = columns[0].cells[i].value if named else told
            console.print(line("", f"{name}: {cell.value}", "yellow"))
