"""Draw perplexity, drift, memory and time, each over every numeric swept axis."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from phasebench.report.axes import SEED, Axis, Study, concerns, said, short
from phasebench.report.collect import Point
from phasebench.report.plots.curves import Line, draw_lines, lines
from phasebench.report.plots.style import (
    SHOWN,
    Picture,
    evenly,
    figure,
    gate_line,
    label,
    legend,
    picture,
)
from phasebench.report.read import DURATION
from phasebench.report.text import is_number
from phasebench.results.stats import NOISE


@dataclass(frozen=True)
class Quantity:
    """What one picture shows.

    Attributes:
        metrics: a pattern of the bench's metrics, whose group, if it has one, names the line. The
            target of a gate of just that name is drawn.
        title: of the y axis, with unit.
        log: whether the y axis is logarithmic.
        timed: time or memory: if measured, not of points that ran beside others.
    """

    name: str
    bench: str
    metrics: str
    title: str
    log: bool = False
    timed: bool = False


_LEGEND = (
    "Bars reach from the smallest to the largest of repeats. Dashed: predicted, not measured."
    " Open triangles: only a lower bound is known."
)
DRIFT = Quantity("drift", "energy", "max_drift", "max drift |H(t) - H(0)| / E_ref", log=True)
QUANTITIES = (
    Quantity("perplexity", "ppl", "(candidate|baseline)_ppl", "perplexity per token"),
    Quantity("ppl_ratio", "ppl", "ppl_ratio", "perplexity, model / baseline"),
    DRIFT,
    Quantity("memory", "vram", "(.+)_peak_gb", "peak memory (GB = 1e9 bytes)", True, timed=True),
    *(
        Quantity(name, "speed", metrics, f"{title} (ms)", log=True, timed=True)
        for name, metrics, title in (
            ("time", "ode_stack_(?!median_ms)(.+)_ms", "ODE stack, forward + backward"),
            ("model_time", "model_(.+)_ms", "model, forward + backward"),
            ("training_time", "training_(.+)_ms", "training step"),
        )
    ),
    Quantity("gradient_error", "grad", "gradient_error", "gradient error, relative", log=True),
    *(
        Quantity(
            f"{bench}_duration",
            bench,
            DURATION,
            f"wall time of bench {bench} without training (s)",
            timed=True,
        )
        for bench in ("ppl", "energy", "vram", "grad")
    ),
)


def over_axes(study: Study) -> Iterator[Picture]:
    """Draw each quantity over each numeric axis that it depends on, where it was measured."""
    configs = [
        p.run.config["bench"]["energy"] for p in study.points if p.run and "energy" in p.benches
    ]
    exact = bool(configs) and all(config.get("precision") == "fp64" for config in configs)
    for quantity in QUANTITIES:
        for axis in study.axes:
            if axis.numeric and axis.key != SEED and concerns(axis.key, quantity.bench):
                found = lines(values(quantity, study, axis))
                if any(len(line.dots) > 1 for line in found):
                    precision = "fp64" if exact else "fp32"
                    yield drawn(quantity, axis.key, found, precision, study.points)


def disturbed(point: Point) -> bool:
    """Tell whether other jobs of its sweep may have run at the same time on the same machine."""
    return point.run is not None and point.run.side_by_side > 1


def values(quantity: Quantity, study: Study, x: Axis) -> list[tuple[Any, ...]]:
    """Collect a quantity's values as rows for `lines`.

    Seeds are repeats; the other axes that concern the bench are the setting.
    """
    names = short(axis.key for axis in study.axes)
    others = [
        a for a in study.axes if a is not x and a.key != SEED and concerns(a.key, quantity.bench)
    ]
    rows = []
    for i, point in enumerate(study.points):
        if quantity.bench not in point.benches or not is_number(x.values[i]):
            continue
        told = (said(names[a.key], a.values[i]) for a in others if a.values[i] is not None)
        setting = ", ".join(told)
        for name, metric in point.benches[quantity.bench].metrics.items():
            match = re.fullmatch(quantity.metrics, name)
            predicted = metric.kind == "predicted"
            hidden = quantity.timed and not predicted and disturbed(point)
            if match and is_number(metric.value) and not hidden:
                series = match[match.lastindex or 0] if match.lastindex else ""
                y = float(metric.value)
                rows.append((series, setting, predicted, float(x.values[i]), y, metric.is_bound))
    return rows


def drawn(
    quantity: Quantity,
    key: str,
    measured: Sequence[Line],
    precision: str,
    points: Sequence[Point],
    note: str = "",
    name: str = "",
) -> Picture:
    """Draw a quantity over the axis of that key, with the points' gate.

    precision: fp32 or fp64, whose rounding decides about small drifts.
    """
    shown = _selected(measured)
    last = key.rpartition(".")[2]
    floor = NOISE[precision]
    words = [f"{quantity.title[0].upper()}{quantity.title[1:]} over {key}.", _LEGEND]
    if len(shown) < len(measured):
        words.append(f"{len(shown)} of {len(measured)} lines are shown.")
    made, (panel,) = figure(height=3.2 + 0.17 * len(shown))
    if quantity is DRIFT and last == "dt":
        draw_lines(panel, shown, above=floor)
        words.append(
            f"The order is that of log drift over log {key} with its standard error, of the dots"
            f" above {floor:g}; below (grey), rounding to float{precision[2:]} decides."
        )
    else:
        draw_lines(panel, shown)
    gate_line(panel, points, quantity.bench, quantity.metrics)
    if quantity.log and all(line.dots.low.min() > 0 for line in shown):
        panel.set_yscale("log")
        low, high = panel.get_ylim()
        if quantity is DRIFT and low < floor:
            panel.axhspan(low, min(floor, high), color="0.92", zorder=0)
            panel.set_ylim(low, high)
    unit = " (units of H's time)" if last == "dt" else ""
    panel.set(xlabel=label(key) + unit, ylabel=quantity.title)
    legend(made, [panel])
    file = re.sub("[^A-Za-z0-9]", "_", key)[:60]
    return picture(f"{name or quantity.name}_over_{file}", " ".join([*words, note]).rstrip(), made)


def _selected(measured: Sequence[Line]) -> list[Line]:
    """Choose lines of at most `SHOWN` looks: every series at as many settings as have room."""
    places = list(dict.fromkeys(line.place for line in measured))
    if len(places) > SHOWN:
        settings = list(dict.fromkeys(setting for _, setting in places))
        kept = evenly(settings, max(1, SHOWN // len({series for series, _ in places})))
        places = [place for place in places if place[1] in kept][:SHOWN]
    return [line for line in measured if line.place in places]
