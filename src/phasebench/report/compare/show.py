"""Show a comparison, on a terminal or as plain values: what is new or gone, the metrics, the
verdict.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Console
from rich.text import Text

from phasebench.report.compare.verdict import Comparison, Outcome, Side
from phasebench.report.table import MAIN
from phasebench.report.terminal import Stack, line, pieces, sheet
from phasebench.report.text import clean, number

ROWS = 60  # at most, without --all
_LISTED = 20  # points that are new or gone
# result -> style, in the order in which results are shown
_STYLES = {
    "regression": "bold red",
    "not judged": "bold yellow",
    "within spread": "yellow",
    "ok": "green",
    "": "",
}
_CODES = {0: ("PASS", "bold green"), 1: ("REGRESSION", "bold red"), 2: ("INVALID", "bold red")}


def show(outcome: Outcome, console: Console, *, everything: bool = False) -> None:
    """Print what has a limit, regressions first; without any limit, the main metrics.

    Columns for which the console is too narrow are left to --json.
    """
    rows = [row for row in outcome.comparisons if row.limits or everything] or [
        row for row in outcome.comparisons if row.metric in MAIN.get(row.place.bench, ())
    ]
    order = list(_STYLES)
    rows.sort(key=lambda row: order.index(row.result))
    shown = rows if everything else rows[:ROWS]
    if shown:
        cells = [_cells(row) for row in shown]
        stacks = [Stack(heading, [row[heading] for row in cells]) for heading in cells[0]]
        kept = next(pieces(stacks, console.width))
        console.print(sheet(kept, console.width))
        if left_out := ", ".join(stack.heading for stack in stacks[len(kept) :]):
            console.print(line("", f"the terminal is too narrow for {left_out}: --json"))
    if len(shown) < len(rows):
        console.print(Text(f"{len(rows) - len(shown)} more: --all or --json"))
    for note, count in Counter(row.note for row in shown if row.note).items():
        console.print(line("", f"{note} ({count} of {len(shown)})"))
    if tested := sum(1 for row in outcome.comparisons if row.limits and row.p is not None):
        chance = f"chance alone makes about {tested * outcome.alpha:.2g} of them look like a change"
        console.print(line("", f"tested: {tested}, at p < {outcome.alpha:g}; {chance}"))
    for word, names in (("new", outcome.new), ("gone", outcome.gone)):
        if names:
            more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
            told = ", ".join(names[:_LISTED])
            console.print(line("", f"{word} ({len(names)}): {told}{more}", "yellow"))
    for note in outcome.notes:
        console.print(line("", f"note: {note}"))
    word, style = _CODES[outcome.exit_code]
    counts = Counter(row.result for row in outcome.comparisons if row.limits)
    told = [f"{counts[result]} {result}" for result in order if result and counts[result]]
    verdict = ", ".join(told) or "no limit was set (--fail)"
    if outcome.fail_gone and outcome.gone:
        verdict += f"; {len(outcome.gone)} points gone"
    points = sum(bool(place.base and place.new) for place in outcome.places)
    console.print(Text(f"{word}: {points} shared points: {verdict}", style))


def _cells(row: Comparison) -> dict[str, Text]:
    """Write a row by its columns' headings, the most telling ones first."""
    change = "-"
    if row.difference is not None:
        percent = row.percent
        change = f"{row.difference:+.4g}" if percent is None else f"{percent:+.3g} %"
    cells = {
        "point": row.place.name,
        "metric": row.metric.replace("_", " "),
        "result": row.result,
        "change": change,
        "new": _mean(row.new),
        "base": _mean(row.base),
        "p": number(row.p),
    }
    return {key: Text(clean(text), _STYLES.get(text, "")) for key, text in cells.items()}


def _mean(side: Side) -> str:
    spread = "" if side.deviation is None else f" ± {side.deviation:.2g} ({len(side.values)})"
    return number(side.mean) + spread


def plain(outcome: Outcome) -> dict[str, Any]:
    """Return all of a comparison as plain values, for --json."""
    return {
        "exit_code": outcome.exit_code,
        "alpha": outcome.alpha,
        "notes": outcome.notes,
        "new": outcome.new,
        "gone": outcome.gone,
        "comparisons": [
            {
                "point": row.place.name,
                "metric": f"{row.place.bench}.{row.metric}",
                "unit": row.base.unit or row.new.unit,
                "base": _plain(row.base),
                "new": _plain(row.new),
                "difference": row.difference,
                "percent": row.percent,
                "p": row.p,
                "note": row.note or None,
                "limits": [limit.text for limit in row.limits],
                "result": row.result or None,
            }
            for row in outcome.comparisons
        ],
    }


def _plain(side: Side) -> dict[str, Any]:
    return {
        "mean": side.mean,
        "values": list(side.values),
        "deviation": side.deviation,
        "kind": side.kind,
        "reason": side.reason,
    }
