"""Draw perplexity, drift and force evaluations: the front of points that no other beats in all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm

from phasebench.report.axes import Study
from phasebench.report.collect import Point
from phasebench.report.plots.curves import lines
from phasebench.report.plots.quantities import DRIFT, drawn
from phasebench.report.plots.style import (
    MARKERS,
    SHOWN,
    Picture,
    figure,
    label,
    legend,
    log_scale,
    picture,
)
from phasebench.report.read import GREATEST, PER_TIME
from phasebench.report.text import is_number

# column of the costs, of which smaller is better -> title of its axis
_TITLES = {
    "evaluations": "force evaluations a layer and unit of time",
    "drift": DRIFT.title,
    "perplexity": "perplexity per token",
}


def pareto(study: Study) -> Iterator[Picture]:
    """Draw the front of at least two points; without perplexities, drift over evaluations."""
    costs = pareto_points(study)
    if len(costs) >= 2 and (costs.drift > 0).all():
        yield _picture("pareto", costs)


def pareto_points(study: Study) -> pd.DataFrame:
    """List the costs, by name, of the points that have drift and evaluations and, if any has one,
    a perplexity too.
    """
    rows = {}
    for point in study.points:
        metrics = (
            point.metric("energy", PER_TIME),
            point.metric("energy", "max_drift"),
            point.metric("ppl", "candidate_ppl"),
        )
        rows[point.name] = [
            float(metric.value) if metric and is_number(metric.value) else np.nan
            for metric in metrics
        ]
    costs = pd.DataFrame.from_dict(rows, orient="index", columns=list(_TITLES), dtype=float)
    costs = costs.rename(index=study.names).dropna(subset=["evaluations", "drift"])
    if costs.perplexity.notna().any():
        return costs.dropna()
    return costs.drop(columns="perplexity")


def front(costs: np.ndarray) -> np.ndarray:
    """Tell for each row of costs whether no other is at least as small in all and smaller in one.

    Examples:
        >>> front(np.array([(1, 3), (2, 2), (3, 3), (1, 3)])).tolist()
        [True, True, False, True]
    """
    beaten = [((costs <= own).all(1) & (costs < own).any(1)).any() for own in costs]
    return ~np.array(beaten, dtype=bool)


def compared_integrators(points: Sequence[Point]) -> Iterator[Picture]:
    """Draw what bench.energy compared in the first run with a comparison, in its highest precision.

    Two pictures: drift over step size with the order, and drift over force evaluations with the
    front.
    """
    for point in points:
        flows = point.details("energy").get("compare")
        if not flows:
            continue
        precision = max(flow["precision"] for flow in flows)  # fp64 after fp32
        note = f"One set of weights, seed {flows[0]['seed']},"
        note += f" with states and forces in float{precision[2:]}."
        finite = [flow for flow in flows if 1 / GREATEST < (flow["max_drift"] or 0) < GREATEST]
        if left_out := len(flows) - len(finite):
            note += f" {left_out} flows whose drift is zero or not finite are left out."
        values, costs = [], {}
        for flow in finite:
            if flow["precision"] == precision:
                name, dt, drift = flow["integrator"], flow["dt"], flow["max_drift"]
                values.append((name, "", False, dt, drift, False))
                evaluations = flow["force_evaluations"] / (flow["steps"] * dt)
                costs[f"{name}, dt {dt:g}"] = [evaluations, drift]
        found = lines(values)
        if any(len(line.dots) > 1 for line in found):
            yield drawn(DRIFT, "bench.energy.dt", found, precision, [point], note, "integrators")
        if len(costs) > 1:
            frame = pd.DataFrame.from_dict(costs, orient="index", columns=list(_TITLES)[:2])
            yield _picture("integrators_front", frame, note)
        return


def _picture(name: str, costs: pd.DataFrame, note: str = "") -> Picture:
    """Draw perplexity over drift, or drift over evaluations where no perplexity was measured; the
    colour is that of the evaluations.
    """
    x, y = costs.columns[-2:]
    costs = costs.sort_values(x)
    best = front(costs.to_numpy())
    kept, rest = costs[best], costs[~best]
    made, (panel,) = figure(height=3.8 + 0.17 * min(len(kept), SHOWN))
    norm = LogNorm(costs.evaluations.min(), costs.evaluations.max())
    colours: Any = {"norm": norm, "cmap": "viridis"}
    panel.scatter(rest[x], rest[y], c=rest.evaluations, s=6, **colours)
    for i, (point, row) in enumerate(kept.iterrows()):
        style = {"marker": MARKERS[i % SHOWN], "s": 34, "zorder": 3}
        style["label"] = label(str(point)) if i < SHOWN else None
        panel.scatter(row[x], row[y], c=[row.evaluations], **style, **colours)
    panel.set(xlabel=_TITLES[x], ylabel=_TITLES[y])
    log_scale(panel)
    counts = f"the {len(kept)} of {len(costs)} points (large)"
    words = [f"Pareto front: {counts} that no other beats in everything."]
    if y == "drift":
        words.append("No perplexity was measured with them.")
    elif costs.evaluations.nunique() > 1:
        made.colorbar(
            ScalarMappable(**colours), ax=panel, label=_TITLES["evaluations"], format="%.3g"
        )
    else:
        words.append(f"All take {costs.evaluations.iloc[0]:.4g} {_TITLES['evaluations']}.")
    legend(made, [panel])
    return picture(name, " ".join(filter(None, (*words, note))), made)
