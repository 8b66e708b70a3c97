"""Build the table of a report, before anything is rendered: columns with units, one row a point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from phasebench.report.axes import Axis, short
from phasebench.report.collect import Point
from phasebench.report.text import VERDICTS, clean, is_number, number
from phasebench.results.gate import Gate

# what the printed table shows beside the gates; table.csv has every metric
MAIN = {
    "ppl": ("candidate_ppl", "baseline_ppl", "ppl_ratio"),
    "energy": ("max_drift", "mean_drift", "force_evaluations"),
    "vram": ("vram_symplectic_gb", "vram_full_backprop_gb", "vram_reduction_pct"),
    "grad": ("reconstruction", "gradient_error"),
    "speed": ("ode_stack_median_ms", "ode_stack_ceiling_fraction", "steps_per_s_over_stage1"),
}
_MANY = 4  # numbers of a bench that is not listed above


@dataclass(frozen=True)
class Column:
    """One quantity: `key` is what table.csv calls it, `heading` what people read."""

    key: str
    heading: str
    unit: str = ""
    role: Literal["point", "axis", "metric", "status"] = "metric"
    predicted: bool = False  # every value of the column is


@dataclass(frozen=True)
class Cell:
    """A value of one point, and what must be said beside it."""

    value: Any
    predicted: bool = False
    at_least: bool = False
    gate: Gate | None = None
    reason: str | None = None  # why there is no value

    def text(self, column: Column) -> str:
        """Write it for people, labelled where it is predicted and the heading does not say so."""
        labelled = self.predicted and not column.predicted and self.value is not None
        bound = "\N{GREATER-THAN OR EQUAL TO} " if self.at_least else ""
        return bound + clean(number(self.value)) + (" (predicted)" if labelled else "")

    @property
    def verdict(self) -> str:
        """pass, FAIL or not measured; empty where nothing is judged."""
        return "" if self.gate is None else VERDICTS[self.gate.passed]


@dataclass(frozen=True)
class Table:
    """Columns, and rows of as many cells."""

    columns: list[Column]
    rows: list[list[Cell]]

    def narrow(self) -> Table:
        """Leave out reasons, and the points' names where the swept values tell the points apart."""
        axes = [i for i, column in enumerate(self.columns) if column.role == "axis"]
        settings = {tuple(str(row[i].value) for i in axes) for row in self.rows}
        left_out = {"reason", "point"} if len(settings) == len(self.rows) > 1 else {"reason"}
        kept = [i for i, column in enumerate(self.columns) if column.key not in left_out]
        return Table([self.columns[i] for i in kept], [[row[i] for i in kept] for row in self.rows])


def table(points: Sequence[Point], axes: Sequence[Axis], *, everything: bool = False) -> Table:
    """Tabulate the swept keys, the main metrics and gates (or all of them), and how each point
    ended.
    """
    names = short(axis.key for axis in axes)
    columns = [Column("point", "point", role="point")]
    columns += [Column(axis.key, names[axis.key], role="axis") for axis in axes]
    stacks = [[Cell(point.name) for point in points]]
    stacks += [[Cell(value) for value in axis.values] for axis in axes]
    keys = _quantities(points, everything)
    repeated = [name for _, name in keys]
    for bench, name in keys:
        metrics = (point.metric(bench, name) for point in points)
        unit = next((metric.unit for metric in metrics if metric), "")
        cells = [_cell(point, bench, name) for point in points]
        known = [cell.predicted for cell in cells if cell.value is not None]
        columns.append(
            Column(
                f"{bench}.{name}",
                name if repeated.count(name) == 1 else f"{bench}.{name}",
                "" if unit == "1" else unit,
                predicted=bool(known) and all(known),
            )
        )
        stacks.append(cells)
    columns += [Column(name, name, role="status") for name in ("status", "reason")]
    stacks += [[Cell(point.status) for point in points], [Cell(point.reason) for point in points]]
    return Table(columns, [list(row) for row in zip(*stacks, strict=True)])


def _quantities(points: Sequence[Point], everything: bool) -> list[tuple[str, str]]:
    """List (bench, metric or gate) of all points, in the order of the first that has each."""
    quantities: dict[str, dict[str, None]] = {}
    for point in points:
        for bench, entry in point.benches.items():
            if everything:
                chosen = list(entry.metrics)
            elif bench in MAIN:
                chosen = [key for key in MAIN[bench] if key in entry.metrics]
            else:
                numbers = (key for key, metric in entry.metrics.items() if is_number(metric.value))
                chosen = list(numbers)[:_MANY]
            quantities.setdefault(bench, {}).update(dict.fromkeys([*chosen, *entry.gates]))
    return [(bench, name) for bench, names in quantities.items() for name in names]


def _cell(point: Point, bench: str, name: str) -> Cell:
    entry = point.benches.get(bench)
    if entry is None:
        return Cell(None, reason=point.reason or f"bench {bench} was not asked for")
    metric, gate = entry.metrics.get(name), entry.gates.get(name)
    if metric is not None:
        return Cell(metric.value, metric.kind == "predicted", metric.is_bound, gate, metric.reason)
    if gate is not None:
        return Cell(gate.value, gate.kind == "predicted", gate=gate, reason=gate.reason)
    return Cell(None, reason=entry.error or f"bench {bench} did not report it")
