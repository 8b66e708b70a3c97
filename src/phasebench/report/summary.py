"""Print the summary at the end of a run: gates, what else was recorded, conditions, notices,
errors, verdict.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from phasebench.report.terminal import Stack, fitting, sheet
from phasebench.report.text import clean, number
from phasebench.results.gate import SPEC_KEYS, exit_code

_VERDICTS = {
    True: ("PASS", "bold green"),
    False: ("FAIL", "bold red"),
    None: ("not measured", "bold yellow"),
}
_NO_GATE = {"failed": "failed", "pending": "not run", "running": "running", "ok": "no gate"}
_WORDS = 3  # columns of a bench's own table that hold words, before those of numbers

Benches = Mapping[str, Mapping[str, Any]]


def render(
    results: Mapping[str, Any],
    console: Console | None = None,
    path: Path | str | None = None,
    *,
    brief: bool = False,
) -> None:
    """Print the summary of a results.json's content, at the console's width; `path`, if given, as
    where it is.

    `brief`, for one of many: gates a line a bench, and why something was not measured; the sweep's
    report has the rest.
    """
    console = console or Console(highlight=False)
    benches = results["benches"]
    texts = _in_short(benches) if brief else _in_full(results, benches, console.width)
    for text in (*texts, *_remarks(benches, notices=not brief)):
        console.print(text)
    if path is not None:
        console.print(line("results: ", str(path)))
    console.print(_verdict(benches))


def line(heading: str, text: str, style: str = "") -> Text:
    """Write a line with a bold heading; words are broken only where no line holds them."""
    return Text.assemble((heading, "bold"), (clean(text), style), overflow="fold")


def _in_full(results: Mapping[str, Any], benches: Benches, width: int) -> Iterator[RenderableType]:
    for name, bench in benches.items():
        if own := bench["details"].get("table"):
            stacks = [
                Stack(str(heading), [Text(number(row[i])) for row in own["rows"]], i >= _WORDS)
                for i, heading in enumerate(own["columns"])
            ]
            shown = fitting(stacks, width)
            yield sheet(shown, width)
            if more := len(stacks) - len(shown):
                told = f"{more} of {len(stacks)} columns do not fit"
                yield line("", f"{told}: see benches.{name}.details.table in results.json")
    yield _gates(benches, width)
    for name, bench in benches.items():
        # the specification's keys that are not gates
        judged = {gate["name"] for gate in bench["gates"]} | {f"{name}_pass", f"{name}_target"}
        predicted = any(gate["kind"] == "predicted" for gate in bench["gates"])
        values = []
        for key in SPEC_KEYS.get(name, ()):
            if key not in judged and results[key] is not None:
                # without a metric of that name: a bench that predicted anything predicted it
                kind = "predicted" if predicted else "measured"
                metric = bench["metrics"].get(key) or {"value": results[key], "kind": kind}
                values.append(f"{key} {number(results[key])}{_label(metric)}")
        if values:
            yield line(f"{clean(name)}: ", ", ".join(values))
    conditions = results.get("conditions") or []
    unmet = [
        f"{c.get('name')} {number(c.get('used'))} (specified {number(c.get('seed'))})"
        for c in conditions
        if not c.get("met")
    ]
    if unmet:
        counts = (
            f"scale: {len(unmet)} of {len(conditions)} conditions of the specification not met: "
        )
        yield line(counts, ", ".join(unmet))
    elif conditions:
        yield line("scale: ", f"all {len(conditions)} conditions of the specification met")


def _gates(benches: Benches, width: int) -> Table:
    """Lay out a heading for each bench and a row for each of its gates."""
    rows = []
    for name, bench in benches.items():
        state = "" if bench["gates"] else _NO_GATE.get(bench["status"], "not measured")
        rows.append((Text(clean(name), "bold"), Text(), Text(), Text(state, "bold yellow")))
        for gate in bench["gates"]:
            unit = bench["metrics"].get(gate["name"], {}).get("unit")
            value = number(gate["value"])
            if unit and unit != "1" and gate["value"] is not None:
                value += f" {clean(unit)}"
            quantity = Text(number(gate["name"]).replace("_", " "))
            target, result = Text(number(gate["target"])), Text(*_VERDICTS[gate["passed"]])
            rows.append((quantity, Text(value + _label(gate)), target, result))
    headings = ("gate", "value", "target", "result")
    columns = zip(*rows, strict=True) if rows else [()] * len(headings)
    stacks = [Stack(heading, texts) for heading, texts in zip(headings, columns, strict=True)]
    return sheet(stacks, width)


def _in_short(benches: Benches) -> Iterator[Text]:
    for name, bench in benches.items():
        gates = [
            f"{number(gate['name']).replace('_', ' ')} {number(gate['value'])}{_label(gate)}"
            f" {_VERDICTS[gate['passed']][0]}"
            for gate in bench["gates"]
        ]
        state = _NO_GATE.get(bench["status"], "not measured")
        yield line(f"{clean(name)}: ", ", ".join(gates) or state)


def _label(item: Mapping[str, Any]) -> str:
    predicted = item["kind"] == "predicted" and item["value"] is not None
    return " (predicted)" if predicted else ""


def _remarks(benches: Benches, *, notices: bool) -> Iterator[Text]:
    for name, bench in benches.items():
        heading = clean(name)
        for gate in bench["gates"]:
            if gate["passed"] is None:
                reason = f"{gate['name']}: {gate['reason']}"
                yield line(f"{heading}: not measured: ", reason, "yellow")
        for notice in bench["notices"] if notices else ():
            yield line(f"{heading}: notice: ", str(notice), "yellow")
        if error := bench["error"]:
            yield line(f"{heading}: ", f"{error['type']}: {error['message']}", "bold red")


def _verdict(benches: Benches) -> Text:
    gates = [(f"{name} {gate['name']}", gate) for name, b in benches.items() for gate in b["gates"]]
    code = exit_code({"benches": benches})
    if code == 0:
        predicted = sum(gate["kind"] == "predicted" for _, gate in gates)
        note = f" ({predicted} predicted)" if predicted else ""
        return Text(f"PASS: all {len(gates)} gates passed{note}", "bold green")
    missed = ", ".join(name for name, gate in gates if gate["passed"] is False)
    failed = clean(f"{missed} failed" if missed else "no gate failed")
    if code == 1:
        return Text(f"FAIL: {failed}", "bold red", overflow="fold")
    unmeasured = [
        name
        for name, bench in benches.items()
        if bench["status"] != "ok" or (name in SPEC_KEYS and not bench["gates"])
    ]
    unmeasured += [name for name, gate in gates if gate["passed"] is None]
    what = clean(", ".join(unmeasured)) or "every bench"
    return Text(f"INCOMPLETE: {what} not measured; {failed}", "bold red", overflow="fold")
