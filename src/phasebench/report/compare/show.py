"""Print a comparison on a terminal: what is new or gone, the judged metrics, the verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from phasebench.report.compare.outcome import Outcome
from phasebench.report.compare.verdict import Comparison, Side
from phasebench.report.table import MAIN
from phasebench.report.terminal import Stack, fitting, sheet
from phasebench.report.text import clean, number

ROWS = 60  # at most, without --all
_LISTED = 20  # points that are new or gone
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
        stacks = _stacks(outcome, shown)
        kept = fitting(stacks, console.width)
        console.print(sheet(kept, console.width))
        if left_out := ", ".join(stack.heading for stack in stacks[len(kept) :]):
            console.print(_line(f"the terminal is too narrow for {left_out}: --json"))
    if len(shown) < len(rows):
        console.print(Text(f"{len(rows) - len(shown)} more: --all or --json"))
    for text in _remarks(outcome, shown):
        console.print(text)
    word, style = _CODES[outcome.exit_code]
    counts = Counter(row.result for row in outcome.comparisons if row.limits)
    told = [f"{counts[result]} {result}" for result in order if result and counts[result]]
    verdict = ", ".join(told) or "no limit was set (--fail)"
    if outcome.fail_gone and outcome.gone:
        verdict += f"; {len(outcome.gone)} points gone"
    points = len({row.place.key for row in outcome.comparisons})
    console.print(Text(f"{word}: {points} shared points: {verdict}", style))


def _stacks(outcome: Outcome, rows: Sequence[Comparison]) -> list[Stack]:
    """Make the columns, the most telling ones first."""
    columns: dict[str, list[str]] = {
        "point": [outcome.names[row.place.key] for row in rows],
        "metric": [row.metric.replace("_", " ") for row in rows],
        "result": [row.result for row in rows],
        "change": [_change(row) for row in rows],
        "new": [_side(row.new) for row in rows],
        "base": [_side(row.base) for row in rows],
        "p": [number(row.p) for row in rows],
    }
    return [
        Stack(heading, [Text(clean(text), _STYLES.get(text, "")) for text in texts])
        for heading, texts in columns.items()
    ]


def _side(side: Side) -> str:
    spread = "" if side.deviation is None else f" ± {side.deviation:.2g} ({len(side.values)})"
    return number(side.mean) + spread


def _change(row: Comparison) -> str:
    if row.difference is None:
        return "-"
    return f"{row.percent:+.3g} %" if row.percent is not None else f"{row.difference:+.4g}"


def _remarks(outcome: Outcome, shown: Sequence[Comparison]) -> Iterator[Text]:
    for note, count in Counter(row.note for row in shown if row.note).items():
        yield _line(f"{note} ({count} of {len(shown)})")
    tested = sum(1 for row in outcome.comparisons if row.limits and row.p is not None)
    if tested:
        chance = f"chance alone makes about {tested * outcome.alpha:.2g} of them look like a change"
        yield _line(f"tested: {tested}, at p < {outcome.alpha:g}; {chance}")
    for word, places in (("new", outcome.new), ("gone", outcome.gone)):
        if places:
            names = ", ".join(outcome.names[place.key] for place in places[:_LISTED])
            more = f", and {len(places) - _LISTED} more" if len(places) > _LISTED else ""
            yield _line(f"{word} ({len(places)}): {names}{more}", "yellow")
    yield from (_line(f"note: {note}") for note in outcome.notes)


def _line(text: str, style: str = "") -> Text:
    return Text(clean(text), style, overflow="fold")
