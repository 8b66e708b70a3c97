"""What bench.energy compared in one run: the drift of every integrator over its step size, and its cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from phasebench.report.collect import Collection, Point
from phasebench.report.plots.curves import Dot, Line
from phasebench.report.plots.fronts import front_picture
from phasebench.report.plots.pareto import Trade
from phasebench.report.plots.quantities import FLOORS, Quantity, drawn
from phasebench.report.plots.style import Picture
from phasebench.report.read import GREATEST, Broken, content

_KEY = "bench.energy.dt"
_DRIFT = Quantity(
    "integrators",
    "energy",
    ("max_drift",),
    "max drift |H(t) - H(0)| / E_ref",
    log=True,
    ordered=True,
)


def compared_integrators(collection: Collection) -> Iterator[Picture]:
    """Two pictures of the first run with a comparison, of its most accurate precision, in which orders are seen."""
    for point in collection.points:
        try:
            rows, left_out = _rows(point)
            if not rows:
                continue
            precision = max(row["precision"] for row in rows)  # fp64 after fp32
            rows = [row for row in rows if row["precision"] == precision]
            lines, trades = _lines(rows), _trades(rows)
            floor = FLOORS[precision]
            note = (
                f"One set of weights, seed {rows[0]['seed']}, with states and forces in {floor[0]}."
            )
            note += (
                f" {left_out} flows whose drift is zero or not finite are left out."
                if left_out
                else ""
            )
        except (Broken, KeyError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
            words = (
                f"its comparison of integrators cannot be drawn: {type(error).__name__}: {error}"
            )
            collection.notes.append(f"{point.name}: {words}")
            return
        if any(len(line.dots) > 1 for line in lines):
            yield drawn(_DRIFT, _KEY, lines, floor, note)
        if len(trades) > 1:
            names = {trade.point.name: trade.point.name for trade in trades}
            yield front_picture("integrators_front", trades, names, note)
        return


def _rows(point: Point) -> tuple[list[dict[str, Any]], int]:
    """Those with a drift that a logarithmic axis can show, and how many have none; no rows without a comparison."""
    if point.run is None or "energy" not in point.run.benches:
        return [], 0
    found = content(point.run.path)[0]["benches"]["energy"]["details"].get("compare") or []
    rows = [row for row in found if row["max_drift"] is not None and row["max_drift"] != 0]
    for row in rows:
        for key in ("max_drift", "dt", "steps", "force_evaluations"):
            if not 1 / GREATEST < row[key] < GREATEST:
                raise ValueError(f"{key} is {row[key]}")
    return rows, len(found) - len(rows)


def _lines(rows: list[dict[str, Any]]) -> list[Line]:
    names = dict.fromkeys(str(row["integrator"]) for row in rows)
    return [
        Line(
            name,
            "",
            tuple(sorted((_dot(row) for row in rows if row["integrator"] == name), key=_x)),
        )
        for name in names
    ]


def _dot(row: dict[str, Any]) -> Dot:
    drift = float(row["max_drift"])
    return Dot(float(row["dt"]), drift, drift, drift)


def _x(dot: Dot) -> float:
    return dot.x


def _trades(rows: list[dict[str, Any]]) -> list[Trade]:
    return [
        Trade(
            Point(f"{row['integrator']}, dt {row['dt']:g}", None, (), "pass"),
            None,
            float(row["max_drift"]),
            float(row["force_evaluations"]) / (float(row["steps"]) * float(row["dt"])),
        )
        for row in rows
    ]
