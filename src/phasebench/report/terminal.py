"""Print tables on a terminal: no line wider than it, and no word broken that it has room for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from phasebench.report.table import Column
from phasebench.report.text import clean

ROWS = 50  # at most: more is read better in table.md or report.html
GAP = 2  # characters between columns
_STYLES = {"pass": "green", "FAIL": "bold red", "not measured": "bold yellow"}


@dataclass(frozen=True)
class Stack:
    """A column to print: its heading and its texts."""

    heading: str
    texts: Sequence[Text]
    right: bool = False

    def least(self) -> int:
        """Measure the longest word."""
        texts = [clean(self.heading), *(text.plain for text in self.texts)]
        return max((cell_len(word) for text in texts for word in text.split()), default=1)

    def most(self) -> int:
        """Measure the longest text, or word of the heading."""
        texts = [*clean(self.heading).split(), *(text.plain for text in self.texts)]
        return max(map(cell_len, texts), default=1)


def sheet(stacks: Sequence[Stack], total: int) -> Table:
    """Lay columns beside each other, each at least as wide as its longest word.

    What is spare goes to the least needy; what is missing is taken from the widest.
    """
    layout = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    widths = [stack.least() for stack in stacks]
    spare = total - sum(widths) - GAP * (len(widths) - 1)
    while spare < 0 and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
        spare += 1
    wanted = [stack.most() - width for stack, width in zip(stacks, widths, strict=True)]
    for i in sorted(range(len(stacks)), key=wanted.__getitem__):
        extra = max(0, min(wanted[i], spare))
        widths[i] += extra
        spare -= extra
    for stack, width in zip(stacks, widths, strict=True):
        justify = "right" if stack.right else "left"
        layout.add_column(Text(clean(stack.heading)), overflow="fold", justify=justify, width=width)
    for row in zip(*(stack.texts for stack in stacks), strict=True):
        layout.add_row(*row)
    return layout


def pieces(stacks: Sequence[Stack], total: int, heads: int = 0) -> Iterator[list[Stack]]:
    """Split columns into pieces that fit without breaking words.

    The first columns are `heads`: they begin each piece if half of the width is enough for them,
    else only the first of them does.
    """

    def width(stacks: Sequence[Stack]) -> int:
        return sum(stack.least() + GAP for stack in stacks) - GAP

    piece = list(stacks[:heads])
    repeated = stacks[: heads if width(piece) <= total // 2 else 1]
    for stack in stacks[heads:]:
        if piece and width([*piece, stack]) > total:
            yield piece
            piece = list(repeated)
        piece.append(stack)
    yield piece


def line(heading: str, text: str, style: str = "") -> Text:
    """Write a line with a bold heading; words are broken only where no line holds them."""
    return Text.assemble((heading, "bold"), (clean(text), style), overflow="fold")


def show(columns: Sequence[Column], console: Console, *, elsewhere: str = "") -> None:
    """Print a study's table in pieces that fit the console, and why points failed.

    `elsewhere` says where the rows are that are left out.
    """
    *columns, reasons = columns
    stacks = []
    for column in columns:
        texts = []
        for cell in column.cells[:ROWS]:
            texts.append(Text(cell.text))
            if cell.verdict:
                texts[-1].append(f" {cell.verdict}", _STYLES[cell.verdict])
        # table.md has units of several words
        unit = f" [{column.unit}]" if column.unit and " " not in column.unit else ""
        heading = column.heading.replace("_", " ") + unit
        stacks.append(Stack(heading, texts, right=column.role == "metric"))
    for piece in pieces(stacks, console.width, heads=2):
        console.print(sheet(piece, console.width))
    for point, reason in list(zip(columns[0].cells, reasons.cells, strict=True))[:ROWS]:
        if reason.value:
            console.print(line("", f"{point.value}: {reason.value}", "yellow"))
    if (more := len(reasons.cells) - ROWS) > 0:
        console.print(line("", f"{more} more points {elsewhere}".rstrip()))
