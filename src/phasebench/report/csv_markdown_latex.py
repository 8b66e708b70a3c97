"""Export the tables of a report: table.csv at full precision, table.md, table.tex rounded."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from phasebench.report.table import Cell, Column
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
        '"': r"\textquotedbl{}",
        "'": r"\textquotesingle{}",
        "`": r"\textasciigrave{}",
        "-": "{-}",
        "[": "{[}",  # \\ takes this, or a star, as its argument, at the start of the next row
        "*": "{*}",
    }
)
_HEAD = "% needs \\usepackage{booktabs} and \\usepackage[T1]{fontenc}\n"
_CAPTION = " Bold: the best of a column; DAGGER: its gate failed."
_WIDE = 14  # characters of a line of a heading


def csv_text(columns: Sequence[Column]) -> str:
    """Write comma-separated text: every metric, nothing rounded; what was not measured is empty.

    Gates become columns `<bench>.<gate>.passed`; which values of a row are predictions, and which
    lower bounds, stands in the columns `predicted` and `at_least`.
    """
    values = {column.key: [cell.value for cell in column.cells] for column in columns}
    for column in columns:
        if any(cell.gate for cell in column.cells):
            values[f"{column.key}.passed"] = [c.gate and c.gate.passed for c in column.cells]
    for mark in ("predicted", "at_least"):
        values[mark] = [
            ";".join(column.key for column in columns if getattr(column.cells[i], mark))
            for i in range(len(columns[0].cells))
        ]
    plain = {_plain(key): [_plain(one) for one in column] for key, column in values.items()}
    return pd.DataFrame(plain, dtype=object).to_csv(index=False, lineterminator="\n")


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


def markdown_text(tables: Mapping[str, Sequence[Column]]) -> str:
    """Write a pipe table of GitHub's Markdown a study, below its name if there are several.

    What users wrote is neither markup nor HTML.
    """
    parts = []
    for name, columns in tables.items():
        stacks = []
        for column in columns:
            unit = f" ({markdown(column.unit)})" if column.unit else ""
            side = "---:" if column.role == "metric" else "---"
            stacks.append([markdown(column.heading) + unit, side])
            for cell in column.cells:
                verdict = "**FAIL**" if cell.verdict == "FAIL" else cell.verdict
                stacks[-1].append(f"{markdown(cell.text)} {verdict}".rstrip())
        rows = "".join(f"| {' | '.join(row)} |\n" for row in zip(*stacks, strict=True))
        parts.append(f"## {markdown(name)}\n\n{rows}" if len(tables) > 1 else rows)
    return "\n".join(parts)


def markdown(text: str) -> str:
    """Escape text so that Markdown shows it as it is.

    Examples:
        >>> print(markdown("a_b | <i>"))
        a\\_b \\| &lt;i&gt;
    """
    return _MARKDOWN.sub(r"\\\1", " ".join(clean(text).split()).translate(_ENTITIES))


def latex_text(tables: Mapping[str, Sequence[Column]]) -> str:
    """Write a table of booktabs a study and bench, for all points, with caption and label.

    Headings are wrapped; the best number of a column is bold, a dagger marks failed gates. Reasons
    are left to the other forms.
    """
    parts = [_HEAD]
    for study, columns in tables.items():
        benches = dict.fromkeys(c.key.partition(".")[0] for c in columns if c.role == "metric")
        for bench in benches or [""]:
            sides, stacks = "", []
            for column in columns:
                metric = column.role == "metric"
                others = metric and not column.key.startswith(f"{bench}.")
                if column.key == "reason" or others:
                    continue
                side = "r" if metric else "l"
                sides += side
                words = (column.heading.replace("_", " "), column.unit)
                lines = [latex(one) for text in words for one in textwrap.wrap(text, _WIDE)]
                heading = r"\shortstack[" + side + "]{" + r"\\".join(lines) + "}"
                best = column.best
                cells = [_latex_cell(cell, cell.value == best) for cell in column.cells]
                stacks.append(pd.Series(cells, name=heading, dtype=object))
            caption = f"Bench {bench or study}: {len(columns[0].cells)} points."
            caption += _CAPTION if benches else ""
            words = re.findall("[a-z0-9]+", f"{study} {bench if study != bench else ''}".lower())
            parts.append(
                pd.concat(stacks, axis=1).to_latex(
                    index=False,
                    escape=False,
                    column_format=sides,
                    position="tbp",
                    caption=latex(caption).replace("DAGGER", r"$^\dagger$"),
                    label="tab:" + "-".join(words),
                )
            )
    return "\n".join(parts)


def latex(text: str) -> str:
    """Escape text for LaTeX; what is not ASCII becomes its code point, since most fonts lack it.

    Examples:
        >>> print(latex("50% of a_b"), latex("\\u4e2d"))
        50\\% of a\\_b {[}U+4E2D]
    """
    flat = " ".join(clean(text).split()).translate(_LATEX)
    return "".join(c if c.isascii() else f"{{[}}U+{ord(c):04X}]" for c in flat)


def _latex_cell(cell: Cell, best: bool) -> str:
    if not is_number(cell.value):
        return latex(cell.text)
    digits, _, power = number(cell.value).partition("e")
    text = digits + (rf" \times 10^{{{int(power)}}}" if power else "")
    text = rf"\mathbf{{{text}}}" if best else text
    marks = r"$^\dagger$" * (cell.verdict == "FAIL") + " (predicted)" * cell.predicted
    return ("$\\geq$ " if cell.at_least else "") + f"${text}${marks}"
