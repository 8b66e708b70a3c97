"""Draw perplexity, drift and force evaluations: the front of points that no other beats in all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from phasebench.report.axes import Axis, setting_names
from phasebench.report.collect import Collection, Point
from phasebench.report.plots.curves import lines
from phasebench.report.plots.quantities import DRIFT, FLOORS, drawn
from phasebench.report.plots.style import (
    HEIGHT,
    MARKERS,
    Picture,
    figure,
    label,
    legend,
    picture,
    spread,
)
from phasebench.report.read import GREATEST, PER_TIME, content
from phasebench.report.text import is_number

_EVALUATIONS = "force evaluations a layer and unit of time"
_OTHER: dict[str, Any] = {"marker": "o", "facecolors": "none", "s": 18, "linewidths": 0.9}
NAMED = len(MARKERS)  # points of the front that have a marker of their own


@dataclass(frozen=True)
class ParetoPoint:
    """What one point costs; `perplexity` is None where it was not measured."""

    name: str  # for people
    perplexity: float | None
    drift: float
    evaluations: float  # a layer and unit of H's time

    @property
    def costs(self) -> tuple[float, ...]:
        """Smaller is better, in each."""
        known = () if self.perplexity is None else (self.perplexity,)
        return (*known, self.drift, self.evaluations)


def pareto(points: Sequence[Point], axes: Sequence[Axis]) -> Iterator[Picture]:
    """Draw the front of at least two points; without perplexities, drift over evaluations."""
    found = pareto_points(points, axes)
    if len(found) >= 2 and all(point.drift > 0 for point in found):
        yield _picture("pareto", found)


def pareto_points(points: Sequence[Point], axes: Sequence[Axis]) -> list[ParetoPoint]:
    """List the points that have drift and evaluations and, if any has one, a perplexity too."""
    names = setting_names(points, axes)
    found = []
    for point in points:
        metrics = (
            point.metric("ppl", "candidate_ppl"),
            point.metric("energy", "max_drift"),
            point.metric("energy", PER_TIME),
        )
        values: list[Any] = [m.value if m and is_number(m.value) else None for m in metrics]
        perplexity, drift, evaluations = values
        if drift is not None and evaluations is not None:
            found.append(ParetoPoint(names[point.name], perplexity, drift, evaluations))
    return [point for point in found if point.perplexity is not None] or found


def front(costs: Sequence[tuple[float, ...]]) -> list[bool]:
    """Tell for each tuple of costs whether no other is at least as small in all and smaller in one.

    Example:
        >>> front([(1, 3), (2, 2), (3, 3), (1, 3)])
        [True, True, False, True]
    """
    best: list[tuple[float, ...]] = []
    for cost in sorted(set(costs)):  # whatever beats it comes before it in this order
        if not any(all(a <= b for a, b in zip(other, cost, strict=True)) for other in best):
            best.append(cost)
    return [cost in best for cost in costs]


def compared_integrators(collection: Collection) -> Iterator[Picture]:
    """Draw what bench.energy compared in the first run with a comparison, in its highest precision.

    Two pictures: drift over step size with the order, and drift over force evaluations with the
    front.
    """
    for point in collection.points:
        if point.run is None or "energy" not in point.run.benches:
            continue
        flows = content(point.run.path)[0]["benches"]["energy"]["details"].get("compare")
        if not flows:
            continue
        precision = max(flow["precision"] for flow in flows)  # fp64 after fp32
        used = [flow for flow in flows if 1 / GREATEST < (flow["max_drift"] or 0) < GREATEST]
        note = f"One set of weights, seed {flows[0]['seed']},"
        note += f" with states and forces in {FLOORS[precision][0]}."
        if len(used) < len(flows):
            left_out = len(flows) - len(used)
            note += f" {left_out} flows whose drift is zero or not finite are left out."
        used = [flow for flow in used if flow["precision"] == precision]
        values = [
            (flow["integrator"], "", False, flow["dt"], flow["max_drift"], False) for flow in used
        ]
        measured = lines(values)
        if any(len(line.dots) > 1 for line in measured):
            floor = FLOORS[precision]
            yield drawn(DRIFT, "bench.energy.dt", measured, floor, [point], note, "integrators")
        if len(used) > 1:
            trades = [
                ParetoPoint(
                    f"{flow['integrator']}, dt {flow['dt']:g}",
                    None,
                    flow["max_drift"],
                    flow["force_evaluations"] / (flow["steps"] * flow["dt"]),
                )
                for flow in used
            ]
            yield _picture("integrators_front", trades, note)
        return


def _picture(name: str, found: list[ParetoPoint], note: str = "") -> Picture:
    """Draw perplexity over drift, with evaluations as colour; or drift over evaluations."""
    best = front([point.costs for point in found])
    kept = [point for point, is_best in zip(found, best, strict=True) if is_best]
    rest = [point for point, is_best in zip(found, best, strict=True) if not is_best]
    made, (panel,) = figure(height=HEIGHT + 0.2 + 0.17 * min(len(kept), NAMED))
    counts = f"the {len(kept)} of {len(found)} points (filled)"
    words = [f"Pareto front: {counts} that no other beats in everything."]
    if found[0].perplexity is None:
        _plane(panel, kept, rest)
        words.append("No perplexity was measured with them.")
    else:
        _space(made, panel, kept, rest)
    legend(made, panel)
    evaluations = {point.evaluations for point in found}
    if len(evaluations) == 1:
        words.append(f"All take {evaluations.pop():.4g} {_EVALUATIONS}.")
    if len(kept) > NAMED:
        words.append(f"{NAMED} of them are named.")
    return picture(name, " ".join(filter(None, (*words, note))), made)


def _space(made: Figure, panel: Axes, kept: list[ParetoPoint], rest: list[ParetoPoint]) -> None:
    """Draw perplexity over drift, evaluations as colour."""
    evaluations = [point.evaluations for point in (*kept, *rest)]
    norm = LogNorm(min(evaluations) / 1.01, max(evaluations) * 1.01)
    colours = ScalarMappable(norm, "viridis")
    shades: Any = colours.to_rgba(np.array(evaluations))
    places = [(point.drift, point.perplexity or 0.0) for point in rest]
    panel.scatter(*np.array(places).reshape(-1, 2).T, edgecolors=shades[len(kept) :], **_OTHER)
    for i, point in enumerate(kept):
        _named(panel, point.drift, point.perplexity or 0.0, point.name, i, shades[i])
    if len(set(evaluations)) > 1:
        ticks = spread(sorted(set(evaluations)), log=True)
        bar = made.colorbar(colours, ax=panel, label=_EVALUATIONS, ticks=ticks, format="%.3g")
        bar.minorticks_off()
    panel.set(xscale="log", xlabel=DRIFT.title, ylabel="perplexity per token")


def _plane(panel: Axes, kept: list[ParetoPoint], rest: list[ParetoPoint]) -> None:
    """Draw drift over evaluations, the front as stairs."""
    x, y = [point.evaluations for point in rest], [point.drift for point in rest]
    panel.scatter(x, y, edgecolors="0.4", **_OTHER)
    stairs = sorted(kept, key=lambda point: point.evaluations)
    x, y = [point.evaluations for point in stairs], [point.drift for point in stairs]
    panel.step(x, y, where="post", color="0.6", lw=0.8, zorder=0)
    for i, point in enumerate(stairs):
        _named(panel, point.evaluations, point.drift, point.name, i, "#0072B2")
    panel.set(xscale="log", yscale="log", xlabel=_EVALUATIONS, ylabel=DRIFT.title)


def _named(panel: Axes, x: float, y: float, name: str, i: int, colour: object) -> None:
    """Draw a point of the front; the first few have a marker and a line in the legend."""
    words = label(name) if i < NAMED else None
    marker, size = (MARKERS[i], 34) if i < NAMED else (".", 20)
    panel.scatter(x, y, marker=marker, color=[colour], s=size, label=words, zorder=3)
