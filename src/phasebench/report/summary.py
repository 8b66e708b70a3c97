"""The summary at the end of a run: gates, what else was recorded, conditions, notices, errors, verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from phasebench.results.gate import SEED_KEYS, entry, exit_code

_VERDICTS = {
    True: ("PASS", "bold green"),
    False: ("FAIL", "bold red"),
    None: ("not measured", "bold yellow"),
}
_NO_GATE = {"failed": "failed", "pending": "not run", "running": "running", "ok": "no gate"}

Benches = Mapping[str, Mapping[str, Any]]


def render(
    results: Mapping[str, Any],
    console: Console | None = None,
    path: Path | str | None = None,
    *,
    brief: bool = False,
) -> None:
    """Print the summary of a results.json's content, at the console's width; `path`, if given, as where it is.

    `brief`, for one of many: gates a line a bench, and why something was not measured; the sweep's report has the rest.
    """
    console = console or Console(highlight=False)
    benches = {
        name: _complete(bench or {}) for name, bench in (results.get("benches") or {}).items()
    }
    texts = _in_short(benches) if brief else _in_full(results, benches)
    for text in (*texts, *_remarks(benches, notices=not brief)):
        console.print(text)
    if path is not None:
        console.print(_line("results: ", str(path)))
    console.print(_verdict(benches))


def _in_full(results: Mapping[str, Any], benches: Benches) -> Iterator[Table | Text]:
    tables = (bench["details"].get("table") for bench in benches.values())
    yield from (_rows(table) for table in tables if table)
    yield _gates(benches)
    yield from _recorded(results, benches)
    yield from _conditions(results)


def _in_short(benches: Benches) -> Iterator[Text]:
    for name, bench in benches.items():
        gates = [
            f"{_quantity(g)} {number(g['value'])}{_label(g)} {_VERDICTS[g['passed']][0]}"
            for g in bench["gates"]
        ]
        yield _line(
            f"{clean(name)}: ", ", ".join(gates) or _NO_GATE.get(bench["status"], "not measured")
        )


def _complete(bench: Mapping[str, Any]) -> dict[str, Any]:
    """A bench with every key that a results.json of this version has, so that an older or partial one is shown too."""
    found = entry("unknown") | {key: value for key, value in bench.items() if value is not None}
    gate = dict.fromkeys(("name", "passed", "value", "target", "reason", "kind"))
    return found | {"gates": [gate | given for given in found["gates"]]}


def number(value: Any) -> str:
    """A value for people: floats to 4 significant digits, counts whole, ``-`` for null."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else clean(str(value))


def clean(text: str) -> str:
    """Text that came from a user or an error, without the control characters that would move a terminal's cursor."""
    return "\n".join(line if line.isprintable() else _printable(line) for line in text.split("\n"))


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


def _gates(benches: Benches) -> Table:
    """A heading for each bench and a row for each of its gates; names are broken at words, so that 50 columns do."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    words = [
        word
        for bench in benches.values()
        for gate in bench["gates"]
        for word in _quantity(gate).split()
    ]
    longest = min(2 + max(map(len, words), default=0), 16)
    for heading, width in (
        ("gate", longest),
        ("value", len("(predicted)")),
        ("target", None),
        ("result", None),
    ):
        table.add_column(heading, overflow="fold", min_width=width)
    for name, bench in benches.items():
        state = "" if bench["gates"] else _NO_GATE.get(bench["status"], "not measured")
        table.add_row(Text(clean(name), "bold"), "", "", Text(state, "bold yellow"))
        for gate in bench["gates"]:
            value = number(gate["value"]) + _unit(bench, gate) + _label(gate)
            quantity = Padding(Text(_quantity(gate)), (0, 0, 0, 2))
            target, result = Text(number(gate["target"])), Text(*_VERDICTS[gate["passed"]])
            table.add_row(quantity, Text(clean(value)), target, result)
    return table


def _rows(content: Mapping[str, Any]) -> Table:
    """A table that a bench brings: its columns' names and its rows."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for i, heading in enumerate(content["columns"]):
        words = i < 3  # which can be broken; a number cannot
        table.add_column(
            clean(str(heading)),
            overflow="fold",
            no_wrap=not words,
            justify="left" if words else "right",
        )
    for row in content["rows"]:
        table.add_row(*(Text(number(cell)) for cell in row))
    return table


def _quantity(gate: Mapping[str, Any]) -> str:
    return number(gate["name"]).replace("_", " ")


def _unit(bench: Mapping[str, Any], gate: Mapping[str, Any]) -> str:
    unit = bench["metrics"].get(gate["name"], {}).get("unit")
    return f" {unit}" if unit and unit != "1" and gate["value"] is not None else ""


def _label(item: Mapping[str, Any]) -> str:
    return (
        " (predicted)" if item.get("kind") == "predicted" and item.get("value") is not None else ""
    )


def _recorded(results: Mapping[str, Any], benches: Benches) -> Iterator[Text]:
    """The specification's keys that are not gates: one line a bench."""
    for name, bench in benches.items():
        judged = {gate["name"] for gate in bench["gates"]} | {f"{name}_pass", f"{name}_target"}
        keys = [
            key
            for key in SEED_KEYS.get(name, ())
            if key not in judged and results.get(key) is not None
        ]
        if keys:
            values = (
                f"{key} {number(results[key])}{_label(_source(bench, key, results[key]))}"
                for key in keys
            )
            yield _line(f"{clean(name)}: ", ", ".join(values))


def _source(bench: Mapping[str, Any], key: str, value: Any) -> Mapping[str, Any]:
    """The metric behind a key of the specification; where there is none of that name, a bench that predicted anything predicted it."""
    metric = bench["metrics"].get(key)
    predicted = any(gate["kind"] == "predicted" for gate in bench["gates"])
    return metric or {"value": value, "kind": "predicted" if predicted else "measured"}


def _conditions(results: Mapping[str, Any]) -> Iterator[Text]:
    conditions = results.get("conditions") or []
    unmet = [c for c in conditions if not c.get("met")]
    if unmet:
        texts = (
            f"{c.get('name')} {number(c.get('used'))} (specified {number(c.get('seed'))})"
            for c in unmet
        )
        yield _line(
            f"scale: {len(unmet)} of {len(conditions)} conditions of the specification not met: ",
            ", ".join(texts),
        )
    elif conditions:
        yield _line("scale: ", f"all {len(conditions)} conditions of the specification met")


def _remarks(benches: Benches, *, notices: bool) -> Iterator[Text]:
    for name, bench in benches.items():
        for gate in bench["gates"]:
            if gate["passed"] is None:
                yield _line(
                    f"{clean(name)}: not measured: ", f"{gate['name']}: {gate['reason']}", "yellow"
                )
        for notice in bench["notices"] if notices else ():
            yield _line(f"{clean(name)}: notice: ", str(notice), "yellow")
        if error := bench["error"]:
            yield _line(
                f"{clean(name)}: ", f"{error.get('type')}: {error.get('message')}", "bold red"
            )


def _verdict(benches: Benches) -> Text:
    gates = [
        (f"{name} {gate['name']}", gate)
        for name, bench in benches.items()
        for gate in bench["gates"]
    ]
    code = exit_code({"benches": benches})
    if code == 0:
        predicted = sum(gate["kind"] == "predicted" for _, gate in gates)
        note = f" ({predicted} predicted)" if predicted else ""
        return Text(f"PASS: all {len(gates)} gates passed{note}", "bold green")
    missed = ", ".join(name for name, gate in gates if gate["passed"] is False)
    failed = clean(f"{missed} failed" if missed else "no gate failed")
    if code == 1:
        return Text(f"FAIL: {failed}", "bold red", overflow="fold")
    unjudged = (name for name, bench in benches.items() if name in SEED_KEYS and not bench["gates"])
    ended_badly = (name for name, bench in benches.items() if bench["status"] != "ok")
    unmeasured = list(dict.fromkeys((*ended_badly, *unjudged)))
    unmeasured += [name for name, gate in gates if gate["passed"] is None]
    what = clean(", ".join(unmeasured)) or "every bench"
    return Text(f"INCOMPLETE: {what} not measured; {failed}", "bold red", overflow="fold")


def _line(heading: str, text: str, style: str = "") -> Text:
    return Text.assemble((heading, "bold"), (clean(text), style), overflow="fold")
