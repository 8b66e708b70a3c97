"""Print a comparison on a terminal: what is new or gone, the judged metrics, the verdict."""

from __future__ import annotations

from collections import Counter

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
}
_CODES = {0: ("PASS", "bold green"), 1: ("REGRESSION", "bold red"), 2: ("INVALID", "bold red")}


def show(outcome: Outcome, console: Console, *, everything: bool = False) -> None:
    """Print what has a limit, regressions first; without any limit, the main metrics.

    Columns for which the console is too narrow are left to --json.
    """
    main = {f"{bench}.{name}" for bench, names in MAIN.items() for name in names}
    rows = [row for row in outcome.comparisons if row.limits or everything] or [
        row for row in outcome.comparisons if row.metric in main
    ]
    order = [*_STYLES, None]
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
            told = ", ".join(names[:_LISTED]) + ", ..." * (len(names) > _LISTED)
            console.print(line("", f"{word} ({len(names)}): {told}", "yellow"))
    for note in outcome.notes:
        console.print(line("", f"note: {note}"))
    word, style = _CODES[outcome.exit_code]
    counts = Counter(row.result for row in outcome.comparisons if row.limits)
    told = [f"{counts[result]} {result}" for result in _STYLES if counts[result]]
    verdict = ", ".join(told) or "no limit was set (--fail)"
    if outcome.gone:
        verdict += f"; {len(outcome.gone)} points gone"
    points = len({row.point for row in outcome.comparisons})
    console.print(Text(f"{word}: {points} shared points: {verdict}", style))


def _cells(row: Comparison) -> dict[str, Text]:
    """Write a row by its columns' headings, the most telling ones first."""
    change = "-"
    if row.difference is not None:
        percent = row.percent
        change = f"{row.difference:+.4g}" if percent is None else f"{percent:+.3g} %"
    cells = {
        "point": row.point,
        "metric": row.metric.partition(".")[2].replace("_", " "),
        "result": row.result or "",
        "change": change,
        "new": _mean(row.new),
        "base": _mean(row.base),
        "p": number(row.p),
    }
    return {key: Text(clean(text), _STYLES.get(text, "")) for key, text in cells.items()}


def _mean(side: Side) -> str:
    spread = "" if side.deviation is None else f" ± {side.deviation:.2g} ({len(side.values)})"
    return number(side.mean) + spread
