"""Energy along the flow of every layer, for a few points: the largest drift of a token, and the batch mean."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from phasebench.report.axes import Axis
from phasebench.report.collect import Collection, Point
from phasebench.report.plots.fronts import setting_names
from phasebench.report.plots.style import RC, Picture, figure, label, picture, y_log
from phasebench.report.read import Broken, content

SHOWN = 4  # points
_SERIES = {
    "max_drift_at_step": (
        "energy_traces",
        "max drift of a token / E_ref",
        "Largest drift of a token",
    ),
    "drift_of_batch_mean": (
        "energy_mean_traces",
        "drift of the batch mean / E_ref",
        "Drift of the batch's mean energy",
    ),
}


@dataclass(frozen=True)
class Trace:
    """The layers' series of one point, which have a value every so often, in units of H's time."""

    name: str
    every: float
    layers: list[dict[str, Any]]
    is_all: bool  # of the run's layers; else those of the first seed


def energy_traces(collection: Collection, axes: Sequence[Axis]) -> Iterator[Picture]:
    """Two pictures of at most `SHOWN` points, from the smallest to the largest drift; a panel each, a line a layer."""
    measured = [point for point in collection.points if _drift(point) is not None]
    chosen = _spread(sorted(measured, key=lambda point: _drift(point) or 0.0))
    names = setting_names(collection.points, axes)
    found = [trace for point in chosen if (trace := _trace(point, names[point.name], collection))]
    if not found:
        return
    for series, (name, title, words) in _SERIES.items():
        text = f"{words} along the flow, one line a layer (dark: first, light: last)."
        if not all(trace.is_all for trace in found):
            text += " Of runs with several seeds, the first one's."
        if len(measured) > len(found):
            text += (
                f" {len(found)} of {len(measured)} points, from the smallest to the largest drift."
            )
        yield picture(name, text, _panels(found, series, title))


def _panels(found: list[Trace], series: str, title: str) -> Figure:
    columns = min(2, len(found))
    rows = math.ceil(len(found) / columns)
    with rc_context(RC):
        made, panels = figure(
            columns, rows, height=1.2 + 1.4 * rows, share_y=series == "max_drift_at_step"
        )
        for panel, trace in zip(panels, found, strict=False):
            _lines(panel, trace, series)
        for panel in panels[len(found) :]:
            panel.set_visible(False)
        if series == "max_drift_at_step" and all(
            min(layer[series]) > 0 for t in found for layer in t.layers
        ):
            y_log(panels[0])
        made.supxlabel("time along the flow (units of H's time)", fontsize=9)
        made.supylabel(title, fontsize=9)
    return made


def _lines(panel: Axes, trace: Trace, series: str) -> None:
    shades = colormaps["viridis"].resampled(256)
    count = len(trace.layers)
    for i, layer in enumerate(trace.layers):
        values = layer[series]
        first = (
            0 if series == "drift_of_batch_mean" else 1
        )  # the drift of step 0 is 0 by definition
        times = [trace.every * (first + j) for j in range(len(values))]
        panel.plot(times, values, color=shades(0.05 + 0.8 * i / max(1, count - 1)), lw=0.9)
    if series == "drift_of_batch_mean":
        panel.ticklabel_format(axis="y", scilimits=(0, 0))
    if trace.name != ".":  # the only run, in the folder that was asked for
        panel.set_title(label(trace.name), fontsize=7, loc="right")


def _trace(point: Point, name: str, collection: Collection) -> Trace | None:
    """Read a point's series again: of all points together they would not fit into memory."""
    if point.run is None:
        return None
    try:
        found, _ = content(point.run.path)
        details = found["benches"]["energy"]["details"]
        layers = [
            row for row in details["layers"] if row.get("seed") == details["layers"][0].get("seed")
        ]
        if not layers:
            raise ValueError("there is no layer")
        for layer in layers:
            for series in _SERIES:
                if not layer[series] or not all(map(math.isfinite, layer[series])):
                    raise ValueError(f"{series} is empty, or has a value that is not finite")
        every = int(details.get("every", 1)) * float(found["config"]["bench"]["energy"]["dt"])
        return Trace(name, every, layers, len(layers) == len(details["layers"]))
    except (
        Broken,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        ValueError,
        OverflowError,
    ) as error:
        collection.notes.append(
            f"{point.name}: its energy series cannot be drawn: {type(error).__name__}: {error}"
        )
        return None


def _drift(point: Point) -> float | None:
    metric = point.metric("energy", "max_drift")
    return metric.value if metric and isinstance(metric.value, float) else None


def _spread(points: list[Point]) -> list[Point]:
    if len(points) <= SHOWN:
        return points
    return [points[round(i * (len(points) - 1) / (SHOWN - 1))] for i in range(SHOWN)]
