"""Draw perplexity, drift, memory and time, each over every numeric swept axis."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from phasebench.report.axes import SEED, Axis, said, short
from phasebench.report.collect import Point
from phasebench.report.plots.curves import Fit, Line, Value, fit, lines
from phasebench.report.plots.style import (
    COLOURS,
    Picture,
    figure,
    gate_line,
    label,
    legend,
    look,
    picture,
    x_scale,
)
from phasebench.report.read import DURATION
from phasebench.report.text import is_number
from phasebench.results.stats import NOISE

SHOWN = len(COLOURS)  # lines in one picture
# of drifts, by precision: its name, and what its rounding makes of them
FLOORS = {"fp32": ("float32", NOISE["fp32"]), "fp64": ("float64", NOISE["fp64"])}
_WORDS = {"dt": "order", "steps": "slope"}  # last part of a key -> name of the fitted power


@dataclass(frozen=True)
class Quantity:
    """What one picture shows.

    Attributes:
        metrics: a pattern of the bench's metrics, whose group, if it has one, names the line.
        title: of the y axis, with unit.
        ordered: whether the order over a step size is fitted.
        timed: time or memory: if measured, not of points that ran beside others.
        gate: whose target is drawn.
    """

    name: str
    bench: str
    metrics: str
    title: str
    log: bool = False
    ordered: bool = False
    timed: bool = False
    gate: str = ""


DRIFT = Quantity(
    "drift",
    "energy",
    "max_drift",
    "max drift |H(t) - H(0)| / E_ref",
    log=True,
    ordered=True,
    gate="max_drift",
)
QUANTITIES = (
    Quantity("perplexity", "ppl", "(candidate|baseline)_ppl", "perplexity per token"),
    Quantity("ppl_ratio", "ppl", "ppl_ratio", "perplexity, model / baseline", gate="ppl_ratio"),
    DRIFT,
    Quantity(
        "memory", "vram", "(.+)_peak_gb", "peak memory (GB = 1e9 bytes)", log=True, timed=True
    ),
    *(
        Quantity(name, "speed", metrics, f"{title} (ms)", log=True, timed=True)
        for name, metrics, title in (
            ("time", "ode_stack_(?!median_ms)(.+)_ms", "ODE stack, forward + backward"),
            ("model_time", "model_(.+)_ms", "model, forward + backward"),
            ("training_time", "training_(.+)_ms", "training step"),
        )
    ),
    Quantity(
        "gradient_error",
        "grad",
        "gradient_error",
        "gradient error, relative",
        log=True,
        gate="gradient_error",
    ),
    *(
        Quantity(f"{name}_duration", name, DURATION, f"wall time of bench {name} (s)", timed=True)
        for name in ("ppl", "energy", "vram", "grad")
    ),
)


def over_axes(points: Sequence[Point], axes: Sequence[Axis]) -> Iterator[Picture]:
    """Draw each quantity over each numeric axis that it depends on, where it was measured."""
    of_energy = [p.run.config["bench"]["energy"] for p in points if p.bench("energy") and p.run]
    exact = bool(of_energy) and all(config.get("precision") == "fp64" for config in of_energy)
    floor = FLOORS["fp64" if exact else "fp32"]
    for quantity in QUANTITIES:
        for axis in axes:
            if axis.numeric and axis.key != SEED and axis.concerns(quantity.bench):
                measured = lines(values(quantity, points, axes, axis))
                if any(len(line.dots) > 1 for line in measured):
                    yield drawn(quantity, axis.key, measured, floor, points)


def disturbed(point: Point) -> bool:
    """Tell whether other jobs of its sweep may have run at the same time on the same machine."""
    return point.run is not None and point.run.side_by_side > 1


def values(
    quantity: Quantity, points: Sequence[Point], axes: Sequence[Axis], x: Axis
) -> list[Value]:
    """Collect a quantity's values; seeds are repeats, other axes of the bench are settings."""
    others = [
        axis
        for axis in axes
        if axis is not x and axis.key != SEED and axis.concerns(quantity.bench)
    ]
    names = short(axis.key for axis in axes)
    values: list[Value] = []
    for i, point in enumerate(points):
        bench = point.bench(quantity.bench)
        if bench is None or not is_number(x.values[i]):
            continue
        told = (said(names[a.key], a.values[i]) for a in others if a.values[i] is not None)
        setting = ", ".join(told)
        for name, metric in bench.metrics.items():
            match = re.fullmatch(quantity.metrics, name)
            predicted = metric.kind == "predicted"
            hidden = quantity.timed and not predicted and disturbed(point)
            if match and is_number(metric.value) and not hidden:
                series = match[match.lastindex] if match.lastindex else ""
                series = "model" if series == "candidate" else series
                y = float(metric.value)
                values.append((series, setting, predicted, float(x.values[i]), y, metric.is_bound))
    return values


def drawn(
    quantity: Quantity,
    key: str,
    measured: Sequence[Line],
    floor: tuple[str, float],
    points: Sequence[Point],
    note: str = "",
    name: str = "",
) -> Picture:
    """Draw one quantity over the axis of that key, with the gates of the points.

    floor: the precision of drifts, and what its rounding makes of them.
    """
    shown = _selected(measured)
    last = key.rpartition(".")[2]
    word = _WORDS.get(last, "") if quantity.ordered else ""
    fits = [fit(line.dots, floor[1]) if word else None for line in shown]
    made, (panel,) = figure(height=3.2 + 0.17 * len(shown))
    places = list(dict.fromkeys(line.place for line in shown))
    for line, fitted in zip(shown, fits, strict=True):
        _line(panel, line, places.index(line.place), fitted, word)
    gate_line(panel, points, quantity.bench, quantity.gate)
    if quantity.log and all(dot.low > 0 for line in shown for dot in line.dots):
        panel.set_yscale("log")
        low, high = panel.get_ylim()
        if quantity.ordered and low < floor[1]:
            panel.axhspan(low, min(floor[1], high), color="0.92", zorder=0)
            panel.set_ylim(low, high)
    x_scale(panel, (dot.x for line in shown for dot in line.dots))
    panel.set_xlabel(label(key) + (" (units of H's time)" if last == "dt" else ""))
    panel.set_ylabel(quantity.title)
    legend(made, panel)
    file = "".join(c if c.isascii() and c.isalnum() else "_" for c in key)[:60]
    caption = _caption(quantity, key, shown, len(measured), floor, word if any(fits) else "")
    caption = f"{caption} {note}".rstrip()
    return picture(f"{name or quantity.name}_over_{file}", caption, made)


def _caption(
    quantity: Quantity,
    key: str,
    shown: Sequence[Line],
    count: int,
    floor: tuple[str, float],
    word: str,
) -> str:
    """Say what the picture shows; count: of all lines; word: of the fitted power, if any."""
    parts = [f"{quantity.title[0].upper()}{quantity.title[1:]} over {key}."]
    if len(shown) < count:
        parts.append(f"{len(shown)} of {count} lines are shown.")
    if any(dot.high > dot.low for line in shown for dot in line.dots):
        parts.append("Bars reach from the smallest to the largest of repeats.")
    if any(line.predicted for line in shown):
        parts.append("Dashed: predicted, not measured.")
    if any(dot.at_least for line in shown for dot in line.dots):
        parts.append("Open triangles: only a lower bound is known.")
    if word:
        parts.append(
            f"The {word} is that of log drift over log {key} with its standard error, of the dots"
            f" above {floor[1]:g}; below (grey), rounding to {floor[0]} decides."
        )
    if quantity.metrics == DURATION:
        parts.append("Of points whose weights were not trained in that run.")
    return " ".join(parts)


def _line(panel: Axes, line: Line, index: int, fitted: Fit | None, word: str) -> None:
    """Draw dots with the range of their repeats, open triangles at lower bounds, and the fit."""
    style: dict[str, Any] = look(index) | {"linestyle": "--" if line.predicted else "-"}
    words = filter(None, (line.label, fitted and fitted.text(word)))
    x, y = [dot.x for dot in line.dots], [dot.y for dot in line.dots]
    spans = [[dot.y - dot.low for dot in line.dots], [dot.high - dot.y for dot in line.dots]]
    panel.errorbar(
        x,
        y,
        yerr=spans if any(map(any, spans)) else None,
        capsize=2,
        label=", ".join(map(label, words)) or None,
        **style,
    )
    bounds = [(dot.x, dot.y) for dot in line.dots if dot.at_least]
    if bounds:
        panel.plot(*zip(*bounds, strict=True), "^", ms=9, mfc="none", mec=style["color"])
    if fitted:
        ends = [fitted.dots[0].x, fitted.dots[-1].x]
        panel.plot(ends, [fitted.at(end) for end in ends], color=style["color"], ls=":", lw=0.8)


def _selected(measured: Sequence[Line]) -> Sequence[Line]:
    """Choose lines of at most `SHOWN` looks: every series at as many settings as have room."""
    if len({line.place for line in measured}) <= SHOWN:
        return measured
    settings = list(dict.fromkeys(line.setting for line in measured))
    series = {line.series for line in measured}
    count = min(len(settings), max(1, SHOWN // len(series)))
    kept = {settings[round(i * (len(settings) - 1) / max(1, count - 1))] for i in range(count)}
    places = dict.fromkeys(line.place for line in measured if line.setting in kept)
    chosen = list(places)[:SHOWN]
    return [line for line in measured if line.place in chosen]
