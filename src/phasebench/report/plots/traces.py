"""Draw energy along the flow of every layer: the largest drift of a token, and the batch mean."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import colormaps

from phasebench.report.axes import Axis, setting_names
from phasebench.report.collect import Collection, Point
from phasebench.report.plots.style import Picture, figure, gate_line, label, legend, picture
from phasebench.report.read import content

SHOWN = 4  # points


@dataclass(frozen=True)
class Trace:
    """The layers' series of one point, which have a value every so often, in units of H's time."""

    point: Point
    name: str
    every: float
    layers: list[dict[str, Any]]
    is_all: bool  # of the run's layers; else those of the first seed


def energy_traces(collection: Collection, axes: Sequence[Axis]) -> Iterator[Picture]:
    """Draw some points, from the smallest to the largest drift: a panel each, a line a layer."""
    drifts = []
    for point in collection.points:
        metric = point.metric("energy", "max_drift")
        if metric and isinstance(metric.value, float):
            drifts.append((metric.value, point))
    drifts.sort(key=lambda pair: pair[0])
    last = len(drifts) - 1
    chosen = {round(i * last / (SHOWN - 1)) for i in range(SHOWN)} if drifts else ()
    names = setting_names(collection.points, axes)
    points = [drifts[i][1] for i in sorted(chosen)]
    traces = [trace for point in points if (trace := _trace(point, names[point.name]))]
    if not traces:
        return
    more = "" if all(trace.is_all for trace in traces) else " Of several seeds, the first one's."
    if len(drifts) > len(traces):
        more += f" {len(traces)} of {len(drifts)} points, from the smallest to the largest drift."
    yield _picture(
        "energy_traces",
        f"Largest drift of a token along the flow, one line a layer.{more}",
        "max drift of a token / E_ref",
        "max_drift_at_step",
        traces,
    )
    yield _picture(
        "energy_mean_traces",
        f"Drift of the batch's mean energy along the flow, one line a layer.{more}",
        "drift of the batch mean / E_ref",
        "drift_of_batch_mean",
        traces,
    )


def _trace(point: Point, name: str) -> Trace | None:
    """Read a point's series again: of all points together they would not fit into memory."""
    if point.run is None:
        return None
    results, _ = content(point.run.path)
    details = results["benches"]["energy"]["details"]
    every = details.get("every", 1) * results["config"]["bench"]["energy"]["dt"]
    rows = details.get("layers")
    if not rows:
        return None
    layers = [row for row in rows if row.get("seed") == rows[0].get("seed")]
    return Trace(point, name, every, layers, len(layers) == len(rows))


def _picture(name: str, caption: str, title: str, series: str, traces: list[Trace]) -> Picture:
    largest = series == "max_drift_at_step"
    columns = min(2, len(traces))
    rows = math.ceil(len(traces) / columns)
    made, panels = figure(columns, rows, height=1.6 + 1.4 * rows, share_y=largest)
    shades = colormaps["viridis"]
    for panel, trace in zip(panels, traces, strict=False):
        count = len(trace.layers)
        for i, layer in enumerate(trace.layers):
            # the drift of step 0 is 0 by definition, and left out of the largest ones
            times = [trace.every * (largest + j) for j in range(len(layer[series]))]
            told = i in (0, count - 1) and panel is panels[0]
            panel.plot(
                times,
                layer[series],
                color=shades(0.05 + 0.8 * i / max(1, count - 1)),
                lw=0.9,
                label=f"layer {i + 1}" if told else None,
            )
        if largest:
            gate_line(panel, [trace.point], "energy", "max_drift")
        else:
            panel.ticklabel_format(axis="y", scilimits=(0, 0))
        if trace.name != ".":  # the only run, in the folder that was asked for
            panel.set_title(label(trace.name), fontsize=7, loc="right")
    for panel in panels[len(traces) :]:
        panel.set_visible(False)
    drifts = (value for trace in traces for layer in trace.layers for value in layer[series])
    if largest and all((value or 1) > 0 for value in drifts):
        panels[0].set_yscale("log")
    for panel in panels[-columns:]:
        panel.set_xlabel("time along the flow (units of H's time)")
    made.supylabel(title, fontsize=9)
    legend(made, panels[0], columns=3)
    return picture(name, caption, made)
