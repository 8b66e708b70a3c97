"""Draw energy along the flow of every layer: the largest drift of a token, and the batch mean."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib import colormaps

from phasebench.report.axes import Study
from phasebench.report.collect import Point
from phasebench.report.plots.style import (
    Picture,
    evenly,
    figure,
    gate_line,
    label,
    legend,
    picture,
)
from phasebench.report.text import is_number
from phasebench.results.jsonfile import Json

# a point, the time between two values of a series, and its layers' series
Trace = tuple[Point, float, list[Json]]

_POINTS, _LAYERS = 3, 6  # columns, and lines that the legend names
# series of a layer -> title of its row of panels
_TITLES = {
    "max_drift_at_step": "max drift of a token / E_ref",
    "drift_of_batch_mean": "drift of the batch mean / E_ref",
}


def energy_traces(study: Study) -> Iterator[Picture]:
    """Draw a few points, from the smallest to the largest drift: a column each, a line a layer."""
    drifts = []
    for i, point in enumerate(study.points):
        metric = point.metric("energy", "max_drift")
        if metric and is_number(metric.value):
            drifts.append((metric.value, i))
    chosen = [study.points[i] for _, i in evenly(sorted(drifts), _POINTS)]
    traces = []
    for point in chosen:
        details = point.details("energy")
        if point.run and (rows := details.get("layers")):
            layers = [row for row in rows if row.get("seed") == rows[0].get("seed")]
            every = details.get("every", 1) * point.run.config["bench"]["energy"]["dt"]
            traces.append((point, every, layers))
    if traces:
        yield _draw(traces, len(drifts), study.names)


def _draw(traces: Sequence[Trace], count: int, names: Mapping[str, str]) -> Picture:
    """Draw two panels a point: the largest drift of a token, and the drift of the batch's mean."""
    made, panels = figure(2, len(traces), height=5.0, sharex="col", sharey="row")
    for column, (point, every, layers) in enumerate(traces):
        largest, mean = panels[column :: len(traces)]
        for i, layer in enumerate(layers):
            told = f"layer {i + 1}" if i in evenly(range(len(layers)), _LAYERS) else None
            colour = colormaps["viridis"](0.05 + 0.8 * i / max(1, len(layers) - 1))
            # the drift of step 0 is 0 by definition, and left out of the largest ones
            for panel, series, first in zip((largest, mean), _TITLES, (1, 0), strict=True):
                y = np.array(layer[series], dtype=float)
                x = every * np.arange(first, len(y) + first)
                panel.plot(x, y, color=colour, lw=0.9, label=told)
        gate_line(largest, [point], "energy", "max_drift")
        if names[point.name] != ".":  # the only run, in the folder that was asked for
            largest.set_title(textwrap.fill(label(names[point.name]), 24), fontsize=7)
        mean.ticklabel_format(axis="y", scilimits=(0, 0))
    panels[0].set_yscale("log", nonpositive="mask")
    for panel, title in zip(panels[:: len(traces)], _TITLES.values(), strict=True):
        panel.set_ylabel(title)
    for panel in panels[len(traces) :]:
        panel.set_xlabel("time (units of H's time)", fontsize=8)
    legend(made, panels, columns=4)
    caption = "Drift along the flow, one line a layer: the largest of a token, and the batch mean."
    shown = f" {len(traces)} of {count} points, from the smallest to the largest drift."
    return picture("energy_traces", f"{caption}{shown} Of several seeds, the first one's.", made)
