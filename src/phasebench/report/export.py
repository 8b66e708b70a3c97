"""table.csv: one header, every metric at full precision, nothing rounded."""

from __future__ import annotations

import csv
import io
from typing import Any

from phasebench.report.table import Cell, Table


def csv_text(table: Table) -> str:
    """Comma-separated text; what was not measured is empty.

    Gates become columns `<bench>.<gate>.passed`; which values of a row are predictions, and which lower bounds, stands
    in the columns `predicted` and `at_least`.
    """
    gated = [i for i, _ in enumerate(table.columns) if any(row[i].gate for row in table.rows)]
    head = [column.key for column in table.columns] + [
        f"{table.columns[i].key}.passed" for i in gated
    ]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*head, "predicted", "at_least"])
    for row in table.rows:
        verdicts = [_plain(gate.passed if gate else None) for gate in (row[i].gate for i in gated)]
        marks = [_marked(table, row, "predicted"), _marked(table, row, "at_least")]
        writer.writerow([*(_plain(cell.value) for cell in row), *verdicts, *marks])
    return stream.getvalue()


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return ""
    return (
        repr(value)
        if isinstance(value, float)
        else str(value).replace("\0", "\N{REPLACEMENT CHARACTER}")
    )


def _marked(table: Table, row: list[Cell], mark: str) -> str:
    pairs = zip(table.columns, row, strict=True)
    return ";".join(
        column.key for column, cell in pairs if getattr(cell, mark) and cell.value is not None
    )
