"""table.tex: tabulars of booktabs, to be included in a paper with \\input."""

from __future__ import annotations

import re
import textwrap

from phasebench.report.summary import clean, number
from phasebench.report.table import Cell, Column, Table

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "-": "{-}",
    "[": "{[}",
    "*": "{*}",  # \\ takes either as its argument, at the start of the next row
}
_POWER = re.compile(r"^(-?[\d.]+)e([+-]\d+)$")
_HEAD = "% needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}; one tabular a bench\n"
_WIDE = 14  # characters of a line of a heading


def latex_text(table: Table) -> str:
    """A tabular a bench, for all points, narrow enough for a page; reasons are left to the other forms.

    Headings and units fill as many rows as they need; the number of a failed gate is bold.
    """
    table = table.narrow()
    benches = dict.fromkeys(_bench(column) for column in table.columns if column.role == "metric")
    parts = [
        _tabular(table, [i for i, c in enumerate(table.columns) if _belongs(c, bench)])
        for bench in benches or [""]
    ]
    return _HEAD + "\n".join(parts)


def _bench(column: Column) -> str:
    return column.key.partition(".")[0]


def _belongs(column: Column, bench: str) -> bool:
    return column.role != "metric" or _bench(column) == bench


def _tabular(table: Table, shown: list[int]) -> str:
    columns = [table.columns[i] for i in shown]
    sides = "".join("r" if column.role == "metric" else "l" for column in columns)
    body = [[_cell(row[i], table.columns[i]) for i in shown] for row in table.rows]
    lines = [rf"\begin{{tabular}}{{{sides}}}", r"\toprule", *map(_line, _headings(columns))]
    return "\n".join([*lines, r"\midrule", *map(_line, body), r"\bottomrule", r"\end{tabular}", ""])


def _headings(columns: list[Column]) -> list[list[str]]:
    """Rows of the head: each column's words below each other, ending in the last row."""
    stacks = [
        textwrap.wrap(c.heading.replace("_", " "), _WIDE) + textwrap.wrap(_unit(c), _WIDE)
        for c in columns
    ]
    height = max(map(len, stacks))
    filled = [[""] * (height - len(stack)) + stack for stack in stacks]
    return [[escaped(stack[i]) for stack in filled] for i in range(height)]


def escaped(text: str) -> str:
    """Text that LaTeX sets as it is; what is not ASCII, by its code point, since most fonts lack it.

    Example:
        >>> print(escaped("50% of a_b"), escaped("\\u4e2d"))
        50\\% of a\\_b {[}U+4E2D]
    """
    flat = " ".join(clean(text).split())
    return "".join(_SPECIAL.get(c, c) if c.isascii() else f"{{[}}U+{ord(c):04X}]" for c in flat)


def _line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _unit(column: Column) -> str:
    words = [column.unit] if column.unit else []
    return ", ".join([*words, "predicted"] if column.predicted else words)


def _cell(cell: Cell, column: Column) -> str:
    if isinstance(cell.value, int | float) and not isinstance(cell.value, bool):
        label = "" if column.predicted or not cell.predicted else " (predicted)"
        return (
            ("$\\geq$ " if cell.at_least else "")
            + _number(number(cell.value), cell.verdict == "FAIL")
            + label
        )
    return escaped(cell.text(column))


def _number(text: str, bold: bool) -> str:
    power = _POWER.match(text)
    text = rf"{power[1]} \times 10^{{{int(power[2])}}}" if power else text
    return rf"$\mathbf{{{text}}}$" if bold else f"${text}$"
