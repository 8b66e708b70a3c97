"""Draw perplexity, drift, memory and time, each over every numeric swept axis."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from phasebench.report.axes import SEED, Axis, said, short
from phasebench.report.collect import Point
from phasebench.report.plots.curves import Line, fit, lines
from phasebench.report.plots.style import (
    SHOWN,
    Picture,
    evenly,
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
            f"{bench}_duration", bench, DURATION, f"wall time of bench {bench} (s)", timed=True
        )
        for bench in ("ppl", "energy", "vram", "grad")
    ),
)


def over_axes(points: Sequence[Point], axes: Sequence[Axis]) -> Iterator[Picture]:
    """Draw each quantity over each numeric axis that it depends on, where it was measured."""
    configs = [p.run.config["bench"]["energy"] for p in points if p.run and "energy" in p.benches]
    exact = bool(configs) and all(config.get("precision") == "fp64" for config in configs)
    for quantity in QUANTITIES:
        for axis in axes:
            if axis.numeric and axis.key != SEED and axis.concerns(quantity.bench):
                found = lines(values(quantity, points, axes, axis))
                if any(len(line.dots) > 1 for line in found):
                    precision = "fp64" if exact else "fp32"
                    yield drawn(quantity, axis.key, found, precision, points)


def disturbed(point: Point) -> bool:
    """Tell whether other jobs of its sweep may have run at the same time on the same machine."""
    return point.run is not None and point.run.side_by_side > 1


def values(
    quantity: Quantity, points: Sequence[Point], axes: Sequence[Axis], x: Axis
) -> list[tuple[Any, ...]]:
    """Collect a quantity's values as rows for `lines`.

    Seeds are repeats; the other axes that concern the bench are the setting.
    """
    names = short(axis.key for axis in axes)
    others = [a for a in axes if a is not x and a.key != SEED and a.concerns(quantity.bench)]
    rows = []
    for i, point in enumerate(points):
        if quantity.bench not in point.benches or not is_number(x.values[i]):
            continue
        told = (said(names[a.key], a.values[i]) for a in others if a.values[i] is not None)
        setting = ", ".join(told)
        for name, metric in point.benches[quantity.bench].metrics.items():
            match = re.fullmatch(quantity.metrics, name)
            predicted = metric.kind == "predicted"
            hidden = quantity.timed and not predicted and disturbed(point)
            if match and is_number(metric.value) and not hidden:
                series = (match[match.lastindex] if match.lastindex else "").replace(
                    "candidate", "model"
                )
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
    fitted = quantity is DRIFT and last == "dt"
    floor = NOISE[precision]
    made, (panel,) = figure(height=3.2 + 0.17 * len(shown))
    places = list(dict.fromkeys(line.place for line in shown))
    for line in shown:
        _draw(panel, line, look(places.index(line.place)), floor if fitted else None)
    gate_line(panel, points, quantity.bench, quantity.metrics)
    if quantity.log and all(line.dots.low.min() > 0 for line in shown):
        panel.set_yscale("log")
        low, high = panel.get_ylim()
        if quantity is DRIFT and low < floor:
            panel.axhspan(low, min(floor, high), color="0.92", zorder=0)
            panel.set_ylim(low, high)
    x_scale(panel, (x for line in shown for x in line.dots.index))
    panel.set_xlabel(label(key) + (" (units of H's time)" if last == "dt" else ""))
    panel.set_ylabel(quantity.title)
    legend(made, panel)
    dots = [line.dots for line in shown]
    sentences = {
        f"{quantity.title[0].upper()}{quantity.title[1:]} over {key}.": True,
        f"{len(shown)} of {len(measured)} lines are shown.": len(shown) < len(measured),
        "Bars reach from the smallest to the largest of repeats.": any(
            (d.high > d.low).any() for d in dots
        ),
        "Dashed: predicted, not measured.": any(line.predicted for line in shown),
        "Open triangles: only a lower bound is known.": any(d.bound.any() for d in dots),
        f"The order is that of log drift over log {key} with its standard error, of the dots above"
        f" {floor:g}; below (grey), rounding to float{precision[2:]} decides.": fitted,
        "Of points whose weights were not trained in that run.": quantity.metrics == DURATION,
        note: note,
    }
    file = "".join(c if c.isascii() and c.isalnum() else "_" for c in key)[:60]
    caption = " ".join(sentence for sentence, holds in sentences.items() if holds)
    return picture(f"{name or quantity.name}_over_{file}", caption, made)


def _draw(panel: Axes, line: Line, style: dict[str, Any], above: float | None) -> None:
    """Draw dots with the range of their repeats, open triangles at lower bounds, and the power law
    of the dots above a limit, if there is one.
    """
    dots, bounds = line.dots, line.dots[line.dots.bound]
    fitted = None if above is None else fit(dots, above)
    words = filter(None, (line.label, fitted and fitted.label))
    ranges = [dots.y - dots.low, dots.high - dots.y]
    panel.errorbar(
        dots.index,
        dots.y,
        yerr=ranges if (dots.high > dots.low).any() else None,
        capsize=2,
        label=", ".join(map(label, words)) or None,
        linestyle="--" if line.predicted else "-",
        **style,
    )
    panel.plot(bounds.index, bounds.y, "^", ms=9, mfc="none", mec=style["color"])
    if fitted:
        ends = [fitted.dots.index[0], fitted.dots.index[-1]]
        panel.plot(ends, [fitted.at(end) for end in ends], color=style["color"], ls=":", lw=0.8)


def _selected(measured: Sequence[Line]) -> Sequence[Line]:
    """Choose lines of at most `SHOWN` looks: every series at as many settings as have room."""
    if len({line.place for line in measured}) <= SHOWN:
        return measured
    settings = list(dict.fromkeys(line.setting for line in measured))
    count = max(1, SHOWN // len({line.series for line in measured}))
    kept = evenly(settings, count)
    places = dict.fromkeys(line.place for line in measured if line.setting in kept)
    chosen = list(places)[:SHOWN]
    return [line for line in measured if line.place in chosen]
