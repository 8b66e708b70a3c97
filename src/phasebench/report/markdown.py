"""table.md: a pipe table of GitHub's Markdown."""

from __future__ import annotations

import re

from phasebench.report.summary import clean
from phasebench.report.table import Cell, Column, Table

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~$])")


def markdown_text(table: Table) -> str:
    """A header, a row of alignments and a row a point; what users wrote is neither markup nor HTML."""
    head = [_heading(column) for column in table.columns]
    sides = ["---:" if column.role == "metric" else "---" for column in table.columns]
    body = [
        [_cell(cell, column) for cell, column in zip(row, table.columns, strict=True)]
        for row in table.rows
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, sides, *body))


def escaped(text: str) -> str:
    """Text that Markdown shows as it is.

    Example:
        >>> print(escaped("a_b | <i>"))
        a\\_b \\| &lt;i&gt;
    """
    flat = (
        " ".join(clean(text).split())
        .replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
    )
    return _SPECIAL.sub(r"\\\1", flat)


def _heading(column: Column) -> str:
    unit = f" ({escaped(column.unit)})" if column.unit else ""
    return escaped(column.heading) + unit + (", predicted" if column.predicted else "")


def _cell(cell: Cell, column: Column) -> str:
    verdict = f" {cell.verdict}" if cell.verdict else ""
    return escaped(cell.text(column)) + (
        f" **{verdict.strip()}**" if verdict == " FAIL" else verdict
    )
