"""What bench.energy compared in one run: the drift of every integrator over its step size, and its cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from phasebench.measure.trend import NOISE
from phasebench.report.collect import Collection, Point
from phasebench.report.curves import Dot, Line
from phasebench.report.pareto import Trade
from phasebench.report.plots.fronts import front_picture
from phasebench.report.plots.quantities import Quantity, drawn
from phasebench.report.plots.style import Picture
from phasebench.report.read import GREATEST, Broken, content

_KEY = "bench.energy.dt"
_DRIFT = Quantity("integrators", "energy", ("max_drift",), "max drift |H(t) - H(0)| / E_ref", log=True, ordered=True)
_NAMES = {"fp32": "float32", "fp64": "float64"}


def compared_integrators(collection: Collection) -> Iterator[Picture]:
    """Two pictures of the first run with a comparison, of its most accurate precision, in which orders are seen."""
    for point in collection.points:
        try:
            rows = _rows(point)
            if not rows:
                continue
            precision = max(row["precision"] for row in rows)  # fp64 after fp32
            rows = [row for row in rows if row["precision"] == precision]
            lines, trades = _lines(rows), _trades(rows)
            floor = _NAMES[precision], NOISE[precision]
        except (Broken, KeyError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
            words = f"its comparison of integrators cannot be drawn: {type(error).__name__}: {error}"
            collection.notes.append(f"{point.name}: {words}")
            return
        if any(len(line.dots) > 1 for line in lines):
            yield drawn(_DRIFT, _KEY, lines, floor)
        if len(trades) > 1:
            names = {trade.point.name: trade.point.name for trade in trades}
            yield front_picture("integrators_front", trades, names, f"States and forces were {floor[0]}.")
        return


def _rows(point: Point) -> list[dict[str, Any]]:
    """Those with a drift; none where there was no comparison."""
    if point.run is None or "energy" not in point.run.benches:
        return []
    found = content(point.run.path)[0]["benches"]["energy"]["details"].get("compare") or []
    rows = [row for row in found if row["max_drift"] is not None and row["max_drift"] > 0]
    if any(row["max_drift"] > GREATEST for row in rows):
        raise ValueError(f"a drift is larger than {GREATEST:g}")
    return rows


def _lines(rows: list[dict[str, Any]]) -> list[Line]:
    names = dict.fromkeys(str(row["integrator"]) for row in rows)
    return [Line(name, "", tuple(sorted((_dot(row) for row in rows if row["integrator"] == name), key=_x)))
            for name in names]  # fmt: skip


def _dot(row: dict[str, Any]) -> Dot:
    drift = float(row["max_drift"])
    return Dot(float(row["dt"]), drift, drift, drift)


def _x(dot: Dot) -> float:
    return dot.x


def _trades(rows: list[dict[str, Any]]) -> list[Trade]:
    return [
        Trade(
            Point(f"{row['integrator']}, dt {row['dt']:g}", None, (), "pass"),
            None, float(row["max_drift"]), float(row["force_evaluations"]) / (float(row["steps"]) * float(row["dt"])),
        )
        for row in rows
    ]  # fmt: skip
