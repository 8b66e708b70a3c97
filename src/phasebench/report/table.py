"""Build the table of a report, before it is rendered: columns with units, a cell for each point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from phasebench.report.axes import Study, short
from phasebench.report.collect import Point
from phasebench.report.text import VERDICTS, clean, is_number, number
from phasebench.results.gate import Gate

# what the printed table shows beside the gates; table.csv has every metric
MAIN = {
    "ppl": ("candidate_ppl", "baseline_ppl", "ppl_ratio"),
    "energy": ("max_drift", "mean_drift", "force_evaluations"),
    "vram": ("vram_symplectic_gb", "vram_full_backprop_gb", "vram_reduction_pct"),
    "grad": ("reconstruction", "gradient_error"),
    "budget": ("candidate_ppl_best", "baseline_ppl_best", "ratio_best"),
    "parts": ("stage3_ratio", "stage3_time_ratio", "stage3_ppl"),
    "koopman": ("koopman_iterated_error_leapfrog", "koopman_spectral_radius"),
    "recall": ("mera_recall_attention", "mera_recall_no_positions", "mera_cost_exponent"),
    "speed": ("ode_stack_median_ms", "ode_stack_ceiling_fraction", "steps_per_s_over_stage1"),
}
# of which more is better, whatever a gate's limit is
LARGE = {
    "speed.ode_stack_ceiling_fraction",
    "speed.steps_per_s_over_stage1",
    "recall.mera_recall_no_positions",
}


@dataclass(frozen=True)
class Cell:
    """A value of one point, and what must be said beside it."""

    value: Any
    predicted: bool = False
    at_least: bool = False
    gate: Gate | None = None
    reason: str | None = None  # why there is no value

    @property
    def text(self) -> str:
        """Write the value for people, labelled where it is predicted."""
        bound = "\N{GREATER-THAN OR EQUAL TO} " if self.at_least else ""
        return bound + clean(number(self.value)) + " (predicted)" * self.predicted

    @property
    def verdict(self) -> str:
        """pass, FAIL or not measured; empty where nothing is judged."""
        return "" if self.gate is None else VERDICTS[self.gate.passed]


@dataclass(frozen=True)
class Column:
    """One quantity of every point: `key` is what table.csv calls it, `heading` what people read."""

    key: str
    heading: str
    cells: Sequence[Cell]
    unit: str = ""
    role: Literal["point", "axis", "metric", "status"] = "metric"

    @property
    def best(self) -> float | None:
        """Return the smallest number, or the largest where more is better; None if all agree."""
        values = {cell.value for cell in self.cells if is_number(cell.value)}
        if self.role != "metric" or len(values) < 2:
            return None
        targets = (cell.gate.target for cell in self.cells if cell.gate)
        largest = self.key in LARGE or next(targets, "").startswith(">")
        return max(values) if largest else min(values)


def table(study: Study, *, everything: bool = False) -> list[Column]:
    """Tabulate how each point ended, the main metrics and gates (or all of them), the swept keys,
    and why something failed or was not measured.
    """
    points, axes = study.points, study.axes
    keys = _quantities(points, everything)
    headings = short([*(axis.key for axis in axes), *(f"{bench}.{name}" for bench, name in keys)])
    columns = [
        Column("point", "point", [Cell(point.name) for point in points], role="point"),
        Column("status", "status", [Cell(point.status) for point in points], role="status"),
    ]
    for bench, name in keys:
        metrics = (point.metric(bench, name) for point in points)
        unit = next((metric.unit for metric in metrics if metric), "")
        cells = [_cell(point, bench, name) for point in points]
        key = f"{bench}.{name}"
        columns.append(Column(key, headings[key], cells, "" if unit == "1" else unit))
    for axis in axes:
        cells = [Cell(value) for value in axis.values]
        columns.append(Column(axis.key, headings[axis.key], cells, role="axis"))
    reasons = [Cell(point.reason) for point in points]
    return [*columns, Column("reason", "reason", reasons, role="status")]


def _quantities(points: Sequence[Point], everything: bool) -> list[tuple[str, str]]:
    """List (bench, metric or gate) of all points, in the order of the first that has each."""
    quantities: dict[str, dict[str, None]] = {}
    for point in points:
        for bench, entry in point.benches.items():
            chosen = entry.metrics if everything else MAIN.get(bench, ())
            names = [*(key for key in chosen if key in entry.metrics), *entry.gates]
            quantities.setdefault(bench, {}).update(dict.fromkeys(names))
    return [(bench, name) for bench, names in quantities.items() for name in names]


def _cell(point: Point, bench: str, name: str) -> Cell:
    entry = point.benches.get(bench)
    if entry is None:
        return Cell(None, reason=point.reason or f"bench {bench} was not asked for")
    gate = entry.gates.get(name)
    item = entry.metrics.get(name) or gate
    if item is None:
        return Cell(None, reason=entry.error or f"bench {bench} did not report it")
    if item.value is None:
        return Cell(None, gate=gate, reason=item.reason)
    at_least = name in entry.metrics and entry.metrics[name].is_bound
    return Cell(item.value, item.kind == "predicted", at_least, gate)
