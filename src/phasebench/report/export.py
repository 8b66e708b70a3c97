"""Export the table of a report: table.csv at full precision, table.md and table.tex rounded."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import pandas as pd

from phasebench.report.table import Cell, Column, Table
from phasebench.report.text import clean, is_number, number

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~$])")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_LATEX = str.maketrans(
    {
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
        "[": "{[}",  # \\ takes this, or a star, as its argument, at the start of the next row
        "*": "{*}",
    }
)
_POWER = re.compile(r"(-?[\d.]+)e([+-]\d+)")
_HEAD = "% needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}; one tabular a bench\n"
_WIDE = 14  # characters of a line of a heading


def csv_text(table: Table) -> str:
    """Write comma-separated text: every metric, nothing rounded; what was not measured is empty.

    Gates become columns `<bench>.<gate>.passed`; which values of a row are predictions, and which
    lower bounds, stands in the columns `predicted` and `at_least`.
    """
    stacks = {column.key: [row[i] for row in table.rows] for i, column in enumerate(table.columns)}
    columns = {key: [_plain(cell.value) for cell in cells] for key, cells in stacks.items()}
    for key, cells in stacks.items():
        if any(cell.gate for cell in cells):
            columns[f"{key}.passed"] = [_plain(c.gate and c.gate.passed) for c in cells]
    for mark in ("predicted", "at_least"):
        columns[mark] = [
            _plain(
                ";".join(
                    column.key
                    for column, cell in zip(table.columns, row, strict=True)
                    if getattr(cell, mark) and cell.value is not None
                )
            )
            for row in table.rows
        ]
    frame = pd.DataFrame({_plain(key): column for key, column in columns.items()}, dtype=object)
    return frame.to_csv(index=False, lineterminator="\n")


def _plain(value: Any) -> str:
    """Write a value so that it is read back exactly, and no text is taken for a formula."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if is_number(value):
        return repr(value)
    text = clean(str(value))
    # OWASP, CSV Injection: a quote in front makes it text
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def markdown_text(table: Table) -> str:
    """Write a pipe table of GitHub's Markdown; what users wrote is neither markup nor HTML."""
    rows = [[], ["---:" if column.role == "metric" else "---" for column in table.columns]]
    for column in table.columns:
        unit = f" ({markdown(column.unit)})" if column.unit else ""
        rows[0].append(markdown(column.heading) + unit + ", predicted" * column.predicted)
    for row in table.rows:
        rows.append([])
        for cell, column in zip(row, table.columns, strict=True):
            verdict = "**FAIL**" if cell.verdict == "FAIL" else cell.verdict
            rows[-1].append(f"{markdown(cell.text(column))} {verdict}".rstrip())
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def markdown(text: str) -> str:
    """Escape text so that Markdown shows it as it is.

    Example:
        >>> print(markdown("a_b | <i>"))
        a\\_b \\| &lt;i&gt;
    """
    return _MARKDOWN.sub(r"\\\1", " ".join(clean(text).split()).translate(_ENTITIES))


def latex_text(table: Table) -> str:
    """Write tabulars of booktabs, one a bench, for all points; reasons are left to the other forms.

    Headings and units fill as many rows as they need; the number of a failed gate is bold.
    """
    table = table.narrow()
    metrics = (column.key for column in table.columns if column.role == "metric")
    parts = []
    for bench in dict.fromkeys(key.partition(".")[0] for key in metrics) or [""]:
        shown = [
            i
            for i, column in enumerate(table.columns)
            if column.role != "metric" or column.key.startswith(f"{bench}.")
        ]
        columns = [table.columns[i] for i in shown]
        rows = [*_headings(columns), None]
        rows += [[_latex_cell(row[i], table.columns[i]) for i in shown] for row in table.rows]
        sides = "".join("r" if column.role == "metric" else "l" for column in columns)
        lines = [r"\midrule" if row is None else " & ".join(row) + r" \\" for row in rows]
        body = "\n".join([r"\toprule", *lines, r"\bottomrule"])
        parts.append(f"\\begin{{tabular}}{{{sides}}}\n{body}\n\\end{{tabular}}\n")
    return _HEAD + "\n".join(parts)


def latex(text: str) -> str:
    """Escape text for LaTeX; what is not ASCII becomes its code point, since most fonts lack it.

    Example:
        >>> print(latex("50% of a_b"), latex("\\u4e2d"))
        50\\% of a\\_b {[}U+4E2D]
    """
    flat = " ".join(clean(text).split()).translate(_LATEX)
    return "".join(c if c.isascii() else f"{{[}}U+{ord(c):04X}]" for c in flat)


def _headings(columns: list[Column]) -> list[list[str]]:
    """Stack each column's words, ending in the last of the rows."""
    stacks = []
    for column in columns:
        unit = ", ".join(filter(None, (column.unit, "predicted" * column.predicted)))
        words = (column.heading.replace("_", " "), unit)
        stacks.append([line for text in words for line in textwrap.wrap(text, _WIDE)])
    height = max(map(len, stacks))
    filled = [[""] * (height - len(stack)) + stack for stack in stacks]
    return [[latex(stack[i]) for stack in filled] for i in range(height)]


def _latex_cell(cell: Cell, column: Column) -> str:
    if not is_number(cell.value):
        return latex(cell.text(column))
    text = _POWER.sub(
        lambda power: rf"{power[1]} \times 10^{{{int(power[2])}}}", number(cell.value)
    )
    bold = rf"\mathbf{{{text}}}" if cell.verdict == "FAIL" else text
    label = " (predicted)" if cell.predicted and not column.predicted else ""
    return ("$\\geq$ " if cell.at_least else "") + f"${bold}${label}"
