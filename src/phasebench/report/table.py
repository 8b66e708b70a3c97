"""The table of a report, before anything is rendered: columns with units, one row a point."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from phasebench.report.axes import Axis, short
from phasebench.report.collect import Point
from phasebench.report.read import Bench
from phasebench.report.summary import clean, number
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
        """For people: 4 significant digits, a label where it is predicted and the heading does not say so."""
        label = (
            " (predicted)"
            if self.predicted and not column.predicted and self.value is not None
            else ""
        )
        return (
            ("\N{GREATER-THAN OR EQUAL TO} " if self.at_least else "")
            + clean(number(self.value))
            + label
        )

    @property
    def verdict(self) -> str:
        """pass, FAIL or not measured; empty where nothing is judged."""
        return (
            ""
            if self.gate is None
            else {True: "pass", False: "FAIL", None: "not measured"}[self.gate.passed]
        )


@dataclass(frozen=True)
class Table:
    """Columns, and rows of as many cells."""

    columns: list[Column]
    rows: list[list[Cell]]

    def narrow(self) -> Table:
        """The same without the points' names, where the swept values tell the points apart, and without reasons."""
        axes = [i for i, column in enumerate(self.columns) if column.role == "axis"]
        settings = {tuple(str(row[i].value) for i in axes) for row in self.rows}
        left_out = {"reason", "point"} if len(settings) == len(self.rows) > 1 else {"reason"}
        kept = [i for i, column in enumerate(self.columns) if column.key not in left_out]
        return Table([self.columns[i] for i in kept], [[row[i] for i in kept] for row in self.rows])


def table(points: Sequence[Point], axes: Sequence[Axis], *, everything: bool = False) -> Table:
    """The swept keys, the main metrics and gates (or all of them), and how each point ended."""
    names = short(axis.key for axis in axes)
    columns = [Column("point", "point", role="point")]
    columns += [Column(axis.key, names[axis.key], role="axis") for axis in axes]
    keys = _quantities(points, everything)
    cells = {key: [_cell(point, *key) for point in points] for key in keys}
    repeated = [name for _, name in keys]
    for bench, name in keys:
        heading = name if repeated.count(name) == 1 else f"{bench}.{name}"
        columns.append(
            _column(f"{bench}.{name}", heading, _unit(points, bench, name), cells[bench, name])
        )
    columns += [
        Column("status", "status", role="status"),
        Column("reason", "reason", role="status"),
    ]
    rows = []
    for i, point in enumerate(points):
        own = [cells[key][i] for key in keys]
        ended = [Cell(point.status), Cell(point.reason)]
        rows.append([Cell(point.name), *(Cell(axis.values[i]) for axis in axes), *own, *ended])
    return Table(columns, rows)


def _quantities(points: Sequence[Point], everything: bool) -> list[tuple[str, str]]:
    """(bench, metric or gate) of all points, in the order of the first that has each."""
    found: dict[tuple[str, str], None] = {}
    for bench in dict.fromkeys(name for point in points if point.run for name in point.run.benches):
        entries = filter(None, (point.bench(bench) for point in points))
        names = dict.fromkeys(
            key for entry in entries for key in (*_chosen(bench, entry, everything), *entry.gates)
        )
        found |= {(bench, name): None for name in names}
    return list(found)


def _chosen(bench: str, entry: Bench, everything: bool) -> Iterable[str]:
    if everything:
        return entry.metrics
    if bench in MAIN:
        return [key for key in MAIN[bench] if key in entry.metrics]
    return [key for key, metric in entry.metrics.items() if is_number(metric.value)][:_MANY]


def is_number(value: Any) -> bool:
    """Whether it can be plotted and compared; true and false cannot."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(point: Point, bench: str, name: str) -> Cell:
    entry = point.bench(bench)
    if entry is None:
        return Cell(None, reason=point.reason or f"bench {bench} was not asked for")
    metric, gate = entry.metrics.get(name), entry.gates.get(name)
    if metric is not None:
        return Cell(metric.value, metric.kind == "predicted", metric.is_bound, gate, metric.reason)
    if gate is not None:
        return Cell(gate.value, gate.kind == "predicted", gate=gate, reason=gate.reason)
    return Cell(None, reason=entry.error or f"bench {bench} did not report it")


def _unit(points: Sequence[Point], bench: str, name: str) -> str:
    metrics = filter(None, (point.metric(bench, name) for point in points))
    unit = next((metric.plain_unit for metric in metrics), "")
    return "" if unit == "1" else unit


def _column(key: str, heading: str, unit: str, cells: Sequence[Cell]) -> Column:
    values = [cell for cell in cells if cell.value is not None]
    return Column(
        key, heading, unit, predicted=bool(values) and all(cell.predicted for cell in values)
    )
