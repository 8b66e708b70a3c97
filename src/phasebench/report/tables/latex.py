"""table.tex: a tabular of booktabs, to be included in a paper with \\input."""

from __future__ import annotations

import re

from phasebench.report.rows import Cell, Column, Table
from phasebench.report.table import clean, number

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "'": r"\textquotesingle{}", "`": r"\textasciigrave{}", "-": "{-}",
    "[": "{[}", "*": "{*}",  # \\ takes either as its argument, at the start of the next row
}  # fmt: skip
_POWER = re.compile(r"^(-?[\d.]+)e([+-]\d+)$")
_HEAD = "% needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}; a wide table: \\resizebox or fewer columns\n"


def latex_text(table: Table) -> str:
    """A tabular: headings, units, a row a point. Reasons are left to the other forms; a failed gate is bold."""
    shown = [i for i, column in enumerate(table.columns) if column.key != "reason"]
    columns = [table.columns[i] for i in shown]
    sides = "".join("r" if column.role == "metric" else "l" for column in columns)
    rows = [[escaped(c.heading.replace("_", " ")) for c in columns], [_unit(c) for c in columns]]
    body = [[_cell(row[i], table.columns[i]) for i in shown] for row in table.rows]
    lines = [rf"\begin{{tabular}}{{{sides}}}", r"\toprule", *map(_line, rows), r"\midrule", *map(_line, body)]
    return _HEAD + "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


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
    return escaped(", ".join([*words, "predicted"] if column.predicted else words))


def _cell(cell: Cell, column: Column) -> str:
    if isinstance(cell.value, int | float) and not isinstance(cell.value, bool):
        label = "" if column.predicted or not cell.predicted else " (predicted)"
        return ("$\\geq$ " if cell.at_least else "") + _number(number(cell.value), cell.verdict == "FAIL") + label
    return escaped(cell.text(column))


def _number(text: str, bold: bool) -> str:
    power = _POWER.match(text)
    text = rf"{power[1]} \times 10^{{{int(power[2])}}}" if power else text
    return rf"$\mathbf{{{text}}}$" if bold else f"${text}$"
