"""Draw energy along the flow of every layer: the largest drift of a token, and the batch mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib import colormaps

from phasebench.report.axes import Axis, setting_names
from phasebench.report.collect import Collection
from phasebench.report.plots.style import (
    Picture,
    evenly,
    figure,
    gate_line,
    label,
    legend,
    picture,
)
from phasebench.report.read import content
from phasebench.report.text import is_number

_POINTS = 3
# series of a layer -> title of its row of panels
_TITLES = {
    "max_drift_at_step": "max drift of a token / E_ref",
    "drift_of_batch_mean": "drift of the batch mean / E_ref",
}


def energy_traces(collection: Collection, axes: Sequence[Axis]) -> Iterator[Picture]:
    """Draw a few points, from the smallest to the largest drift: a column each, a line a layer."""
    drifts = {}
    for i, point in enumerate(collection.points):
        metric = point.metric("energy", "max_drift")
        if metric and is_number(metric.value):
            drifts[i] = metric.value
    names = setting_names(collection.points, axes)
    traces = []
    is_all = True  # of the layers of each run; else those of the first seed
    for i in evenly(sorted(drifts, key=drifts.__getitem__), _POINTS):
        run = (point := collection.points[i]).run
        # the series are read again, since those of all points would not fit into memory
        results = content(run.path)[0] if run else {}
        details = results["benches"]["energy"]["details"]
        if rows := details.get("layers"):
            layers = [row for row in rows if row.get("seed") == rows[0].get("seed")]
            is_all = is_all and len(layers) == len(rows)
            every = details.get("every", 1) * results["config"]["bench"]["energy"]["dt"]
            traces.append((point, every, layers))
    if not traces:
        return
    made, panels = figure(2, len(traces), height=5.0, share_y="row")
    for column, (point, every, layers) in enumerate(traces):
        both = panels[column :: len(traces)]
        for panel, series in zip(both, _TITLES, strict=True):
            for i, layer in enumerate(layers):
                y = np.array(layer[series], dtype=float)
                # the drift of step 0 is 0 by definition, and left out of the largest ones
                x = every * (np.arange(len(y)) + (series == "max_drift_at_step"))
                told = f"layer {i + 1}" if i in (0, len(layers) - 1) else None
                colour = colormaps["viridis"](0.05 + 0.8 * i / max(1, len(layers) - 1))
                panel.plot(x, y, color=colour, lw=0.9, label=told)
        gate_line(both[0], [point], "energy", "max_drift")
        if names[point.name] != ".":  # the only run, in the folder that was asked for
            both[0].set_title(label(names[point.name]), fontsize=7, loc="right")
        both[1].ticklabel_format(axis="y", scilimits=(0, 0))
    drifts_at_steps = [np.array(row["max_drift_at_step"], float) for t in traces for row in t[2]]
    if not any((drift <= 0).any() for drift in drifts_at_steps):
        panels[0].set_yscale("log")
    for panel, title in zip(panels[:: len(traces)], _TITLES.values(), strict=True):
        panel.set_ylabel(title)
    middle = panels[len(traces) + len(traces) // 2]
    middle.set_xlabel("time along the flow (units of H's time)")
    legend(made, panels[0], columns=3)
    caption = "Drift along the flow, one line a layer: the largest of a token, and the batch mean."
    caption += "" if is_all else " Of several seeds, the first one's."
    if len(drifts) > len(traces):
        shown = f"{len(traces)} of {len(drifts)} points"
        caption += f" {shown}, from the smallest to the largest drift."
    yield picture("energy_traces", caption, made)
