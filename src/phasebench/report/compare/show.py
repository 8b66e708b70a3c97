"""A comparison on a terminal: what is new or gone, the judged metrics, the verdict."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from phasebench.report.compare.outcome import Outcome
from phasebench.report.compare.verdict import Comparison, Side
from phasebench.report.summary import clean, number
from phasebench.report.table import MAIN

ROWS = 60  # at most, without --all
_LISTED = 20  # points that are new or gone
_STYLES = {
    "regression": "bold red",
    "not judged": "bold yellow",
    "within spread": "yellow",
    "ok": "green",
    "": "",
}
_ORDER = ("regression", "not judged", "within spread", "ok", "")
_CODES = {0: ("PASS", "bold green"), 1: ("REGRESSION", "bold red"), 2: ("INVALID", "bold red")}


def show(found: Outcome, console: Console, *, everything: bool = False) -> None:
    """Print it at the console's width."""
    rows = _chosen(found, everything)
    shown = rows if everything else rows[:ROWS]
    if shown:
        console.print(_table(found, shown))
    if len(shown) < len(rows):
        console.print(Text(f"{len(rows) - len(shown)} more: --all or --json"))
    for text in _remarks(found, shown):
        console.print(text)
    console.print(_verdict(found))


def _chosen(found: Outcome, everything: bool) -> list[Comparison]:
    """What has a limit; without any limit, the main metrics. Regressions come first."""
    limited = [comparison for comparison in found.comparisons if comparison.limits]
    rows = limited or [c for c in found.comparisons if c.metric in MAIN.get(c.place.bench, ())]
    return sorted(found.comparisons if everything else rows, key=lambda c: _ORDER.index(c.result))


def _table(found: Outcome, rows: list[Comparison]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for heading in ("point", "metric"):
        table.add_column(heading, overflow="fold")
    for heading in ("base", "new", "change", "p"):
        table.add_column(heading, overflow="fold", justify="right")
    table.add_column("result", overflow="fold")
    for row in rows:
        point, metric = found.names[row.place.key], row.metric.replace("_", " ")
        cells = (_side(row.base), _side(row.new), _change(row), number(row.p))
        table.add_row(
            *(Text(clean(text)) for text in (point, metric, *cells)),
            Text(row.result, _STYLES[row.result]),
        )
    return table


def _side(side: Side) -> str:
    spread = "" if side.deviation is None else f" ± {side.deviation:.2g} ({len(side.values)})"
    return number(side.mean) + spread


def _change(row: Comparison) -> str:
    if row.difference is None:
        return "-"
    return f"{row.percent:+.3g} %" if row.percent is not None else f"{row.difference:+.4g}"


def _remarks(found: Outcome, shown: list[Comparison]) -> Iterator[Text]:
    notes: dict[str, int] = {}
    for row in shown:
        if row.note:
            notes[row.note] = notes.get(row.note, 0) + 1
    for note, count in notes.items():
        yield _line(f"{note} ({count} of {len(shown)})")
    tested = sum(1 for row in found.comparisons if row.limits and row.p is not None)
    if tested:
        chance = f"chance alone makes about {tested * found.alpha:.2g} of them look like a change"
        yield _line(f"tested: {tested}, at p < {found.alpha:g}; {chance}")
    for word, places in (("new", found.new), ("gone", found.gone)):
        if places:
            names = ", ".join(found.names[place.key] for place in places[:_LISTED])
            more = f", and {len(places) - _LISTED} more" if len(places) > _LISTED else ""
            yield _line(f"{word} ({len(places)}): {names}{more}", "yellow")
    yield from (_line(f"note: {note}") for note in found.notes)


def _verdict(found: Outcome) -> Text:
    word, style = _CODES[found.exit_code]
    results = [row.result for row in found.comparisons if row.limits]
    counts = (
        ", ".join(f"{results.count(r)} {r}" for r in _ORDER if r and r in results)
        or "no limit was set (--fail)"
    )
    gone = f"; {len(found.gone)} points gone" if found.fail_gone and found.gone else ""
    return Text(
        f"{word}: {len({row.place.key for row in found.comparisons})} shared points: {counts}{gone}",
        style,
    )


def _line(text: str, style: str = "") -> Text:
    return Text(clean(text), style, overflow="fold")
