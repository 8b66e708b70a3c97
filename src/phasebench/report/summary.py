"""Print the summary at the end of a run: gates, what else was recorded, conditions, notices,
errors, verdict.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from phasebench.report.terminal import GAP, Stack, line, pieces, sheet
from phasebench.report.text import clean, number
from phasebench.results.gate import SPEC_KEYS, exit_code, unmet
from phasebench.results.jsonfile import Json

_VERDICTS = {
    True: ("PASS", "bold green"),
    False: ("FAIL", "bold red"),
    None: ("not measured", "bold yellow"),
}
_NO_GATE = {"failed": "failed", "pending": "not run", "running": "running", "ok": "no gate"}
_WORDS = 3  # columns of a bench's own table that hold words, before those of numbers


def render(
    results: Json,
    console: Console | None = None,
    path: Path | str | None = None,
    *,
    brief: bool = False,
) -> None:
    """Print the summary of a results.json's content, at the console's width; `path`, if given, as
    where it is.

    `brief`, for one of many: only the verdict, and why something was not measured; the sweep's
    report has the rest.
    """
    console = console or Console(highlight=False)
    benches = results["benches"]
    texts = () if brief else _in_full(results, console.width)
    for text in (*texts, *_remarks(benches, notices=not brief)):
        console.print(text)
    if path is not None:
        console.print(line("results: ", str(path)))
    console.print(_verdict(benches))


def _in_full(results: Json, width: int) -> Iterator[RenderableType]:
    """Give the tables that benches made, the gates, the specification's other keys, conditions."""
    benches = results["benches"]
    for name, bench in benches.items():
        if own := bench["details"].get("table"):
            columns = enumerate(zip(own["columns"], *own["rows"], strict=True))
            stacks = [
                Stack(str(heading), [Text(number(value)) for value in values], i >= _WORDS)
                for i, (heading, *values) in columns
            ]
            shown = next(pieces(stacks, width))
            yield sheet(shown, width)
            if more := len(stacks) - len(shown):
                told = f"{more} of {len(stacks)} columns do not fit"
                yield line("", f"{told}: see benches.{name}.details.table in results.json")
    yield _gates(benches, width)
    for name, bench in benches.items():
        judged = {gate["name"] for gate in bench["gates"]}
        metrics = ((key, bench["metrics"].get(key)) for key in SPEC_KEYS.get(name, ()))
        values = [
            f"{key} {number(metric['value'])}{_label(metric)}"
            for key, metric in metrics
            if metric and metric["value"] is not None and key not in judged
        ]
        if values:
            yield line(f"{clean(name)}: ", ", ".join(values))
    conditions = results.get("conditions") or []
    unmet = [
        f"{one['name']} {number(one['used'])} (specified {number(one['seed'])})"
        for one in conditions
        if not one["met"]
    ]
    if unmet:
        counts = f"{len(unmet)} of {len(conditions)} conditions of the specification not met: "
        yield line(f"scale: {counts}", ", ".join(unmet))
    elif conditions:
        yield line("scale: ", f"all {len(conditions)} conditions of the specification met")


def _gates(benches: Json, width: int) -> Table:
    """Lay out a heading for each bench and a row for each of its gates.

    Units of several words are left to results.json where they make a line too long.
    """
    stacks = _gate_columns(benches, words=True)
    if sum(stack.most() + GAP for stack in stacks) > width + GAP:
        stacks = _gate_columns(benches, words=False)
    return sheet(stacks, width)


def _gate_columns(benches: Json, *, words: bool) -> list[Stack]:
    rows: list[tuple] = [("gate", "value", "target", "result")]
    for name, bench in benches.items():
        state = "" if bench["gates"] else _NO_GATE[bench["status"]]
        rows.append((Text(clean(name), "bold"), Text(), Text(), Text(state, "bold yellow")))
        for gate in bench["gates"]:
            unit = clean(bench["metrics"].get(gate["name"], {}).get("unit") or "1")
            shown = gate["value"] is not None and unit != "1" and (words or " " not in unit)
            value = number(gate["value"]) + (f" {unit}" if shown else "") + _label(gate)
            gate_name = clean(gate["name"]).replace("_", " ")
            target, result = Text(number(gate["target"])), Text(*_VERDICTS[gate["passed"]])
            rows.append((Text(gate_name), Text(value), target, result))
    return [Stack(heading, texts) for heading, *texts in zip(*rows, strict=True)]


def _label(item: Json) -> str:
    predicted = item["kind"] == "predicted" and item["value"] is not None
    return " (predicted)" if predicted else ""


def _remarks(benches: Json, *, notices: bool) -> Iterator[Text]:
    for name, bench in benches.items():
        heading = clean(name)
        for gate in bench["gates"]:
            if gate["passed"] is None:
                reason = f"{gate['name']}: {gate['reason']}"
                yield line(f"{heading}: not measured: ", reason, "yellow")
        for notice in bench["notices"] if notices else ():
            yield line(f"{heading}: notice: ", notice, "yellow")
        if error := bench["error"]:
            yield line(f"{heading}: ", f"{error['type']}: {error['message']}", "bold red")


def _verdict(benches: Json) -> Text:
    code = exit_code({"benches": benches})
    if code == 0:
        kinds = [gate["kind"] for bench in benches.values() for gate in bench["gates"]]
        predicted = kinds.count("predicted")
        note = f" ({predicted} predicted)" if predicted else ""
        return Text(f"PASS: all {len(kinds)} gates passed{note}", "bold green")
    missed, unmeasured = (clean(", ".join(names)) for names in unmet(benches))
    text = f"{missed} failed" if missed else "no gate failed"
    if code == 2:
        text = f"{unmeasured or 'every bench'} not measured; {text}"
    word = "FAIL" if code == 1 else "INCOMPLETE"
    return Text(f"{word}: {text}", "bold red", overflow="fold")
