"""Perplexity, drift, memory and time, each over every numeric swept axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes

from phasebench.bench.energy.trend import NOISE
from phasebench.report.axes import SEED, Axis
from phasebench.report.collect import Point
from phasebench.report.derived import DURATION
from phasebench.report.plots.curves import Fit, Line, fit, lines, merged
from phasebench.report.plots.style import (
    COLOURS,
    RC,
    Picture,
    figure,
    label,
    legend,
    look,
    picture,
    x_scale,
    y_log,
)
from phasebench.results.gate import Metric

SHOWN = len(COLOURS)  # lines in one picture
FLOORS = {
    "fp32": ("float32", NOISE["fp32"]),
    "fp64": ("float64", NOISE["fp64"]),
}  # of drifts, by precision


@dataclass(frozen=True)
class Quantity:
    """What one picture shows: metrics of a bench by name, or by the end of their name."""

    name: str
    bench: str
    metrics: tuple[str, ...]
    title: str  # of the y axis, with unit
    log: bool = False
    ordered: bool = False  # with a fitted order
    timed: bool = False  # time or memory: if measured, not of points that ran beside others


QUANTITIES = (
    Quantity("perplexity", "ppl", ("candidate_ppl", "baseline_ppl"), "perplexity per token"),
    Quantity("ppl_ratio", "ppl", ("ppl_ratio",), "perplexity, model / baseline"),
    Quantity(
        "drift", "energy", ("max_drift",), "max drift |H(t) - H(0)| / E_ref", log=True, ordered=True
    ),
    Quantity(
        "memory", "vram", ("*_peak_gb",), "peak memory (GB = 1e9 bytes)", log=True, timed=True
    ),
    Quantity(
        "time",
        "speed",
        ("ode_stack_*_ms",),
        "ODE stack, forward + backward (ms)",
        log=True,
        timed=True,
    ),
    Quantity(
        "model_time",
        "speed",
        ("model_*_ms",),
        "model, forward + backward (ms)",
        log=True,
        timed=True,
    ),
    Quantity(
        "training_time", "speed", ("training_*_ms",), "training step (ms)", log=True, timed=True
    ),
    Quantity("gradient_error", "grad", ("gradient_error",), "gradient error, relative", log=True),
    *(
        Quantity(
            f"{bench}_duration", bench, (DURATION,), f"wall time of bench {bench} (s)", timed=True
        )
        for bench in ("ppl", "energy", "vram", "grad")
    ),
)
_ORDERED = {
    "dt": "order",
    "steps": "slope",
}  # last part of a key -> what the fitted power is called
_NOT_AN_ARM = ("ode_stack_median_ms",)


def over_axes(points: Sequence[Point], axes: Sequence[Axis]) -> Iterator[Picture]:
    """A picture of each quantity over each numeric axis that it can depend on and along which it was measured."""
    floor = _floor(points)
    for quantity in QUANTITIES:
        for axis in axes:
            if axis.numeric and axis.key != SEED and axis.concerns(quantity.bench):
                found = merged(_lines(quantity, points, axes, axis))
                if any(len(line.dots) > 1 for line in found):
                    yield drawn(quantity, axis.key, found, floor)


def _floor(points: Sequence[Point]) -> tuple[str, float]:
    """The lowest precision of the drifts and what its rounding makes of them."""
    of_energy = [
        p.run.config["bench"]["energy"] for p in points if p.run and "energy" in p.run.benches
    ]
    exact = bool(of_energy) and all(config.get("precision") == "fp64" for config in of_energy)
    return FLOORS["fp64" if exact else "fp32"]


def _lines(
    quantity: Quantity, points: Sequence[Point], axes: Sequence[Axis], x: Axis
) -> list[Line]:
    usable = [i for i, p in enumerate(points) if p.run]
    kept = [points[i] for i in usable]
    cut = {
        axis.key: Axis(axis.key, tuple(axis.values[i] for i in usable), axis.moves) for axis in axes
    }
    found = []
    for metric in _metrics(quantity, kept):

        def find(point: Point, metric: str = metric) -> Metric | None:
            value = point.metric(quantity.bench, metric)
            return (
                None
                if value and value.kind == "measured" and quantity.timed and disturbed(point)
                else value
            )

        found += lines(
            kept, list(cut.values()), cut[x.key], quantity.bench, find, _series(quantity, metric)
        )
    return found


def disturbed(point: Point) -> bool:
    """Whether other jobs of its sweep may have run at the same time on the same machine."""
    return point.run is not None and point.run.side_by_side > 1


def _metrics(quantity: Quantity, points: Sequence[Point]) -> list[str]:
    """Names of the metrics that the points have; a star stands for an arm."""
    benches = filter(None, (point.bench(quantity.bench) for point in points))
    names = dict.fromkeys(
        name for bench in benches for name in bench.metrics if name not in _NOT_AN_ARM
    )
    return [
        name for name in names for pattern in quantity.metrics if _arm(pattern, name) is not None
    ]


def _arm(pattern: str, name: str) -> str | None:
    """What stands in the place of the star; None if the name is not of that pattern."""
    head, star, tail = pattern.partition("*")
    if not star:
        return "" if name == pattern else None
    matches = name.startswith(head) and name.endswith(tail) and len(name) > len(head) + len(tail)
    return name[len(head) : len(name) - len(tail)] if matches else None


def _series(quantity: Quantity, metric: str) -> str:
    pattern, *others = quantity.metrics
    if others:
        return {"candidate_ppl": "model", "baseline_ppl": "baseline"}.get(metric, metric)
    return _arm(pattern, metric) or ""


def drawn(
    quantity: Quantity, key: str, found: list[Line], floor: tuple[str, float], note: str = ""
) -> Picture:
    """One quantity over the axis of that key; floor: the precision of drifts, and what its rounding makes of them."""
    shown = _selected(found)
    with rc_context(RC):
        made, panels = figure(height=3.0 + 0.17 * len(shown))
        panel = panels[0]
        looks = {place: i for i, place in enumerate(dict.fromkeys(map(_place, shown)))}
        for line in shown:
            _line(
                panel,
                line,
                looks[_place(line)],
                _fitted(quantity, key, line, floor),
                _ORDERED.get(_last(key), ""),
            )
        if quantity.log and all(dot.low > 0 for line in shown for dot in line.dots):
            y_log(panel)
            low, high = panel.get_ylim()
            if quantity.ordered and low < floor[1]:
                panel.axhspan(low, min(floor[1], high), color="0.92", zorder=0)
                panel.set_ylim(low, high)
        else:
            panel.ticklabel_format(
                axis="y", useOffset=False
            )  # a tick is the value, not its distance from another
        x_scale(panel, [dot.x for line in shown for dot in line.dots])
        panel.set_xlabel(label(key) + (" (units of H's time)" if _last(key) == "dt" else ""))
        panel.set_ylabel(quantity.title)
        legend(made, panel)
    caption = f"{_caption(quantity, key, found, shown, floor)} {note}".rstrip()
    return picture(f"{quantity.name}_over_{_file(key)}", caption, made)


def _fitted(quantity: Quantity, key: str, line: Line, floor: tuple[str, float]) -> Fit | None:
    """The order, over the step size or the number of steps."""
    return fit(line.dots, floor[1]) if quantity.ordered and _last(key) in _ORDERED else None


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _line(panel: Axes, line: Line, i: int, fitted: Fit | None, word: str) -> None:
    text = [line.label, fitted.text(word) if fitted else ""]
    x, y = [dot.x for dot in line.dots], [dot.y for dot in line.dots]
    spans = [[dot.y - dot.low for dot in line.dots], [dot.high - dot.y for dot in line.dots]]
    style: dict[str, Any] = look(i) | {"linestyle": "--" if line.predicted else "-"}
    words = ", ".join(label(word) for word in text if word) or None
    panel.errorbar(
        x, y, yerr=spans if any(map(any, spans)) else None, capsize=2, label=words, **style
    )
    bounds = [dot for dot in line.dots if dot.at_least]
    panel.plot(
        [d.x for d in bounds],
        [d.y for d in bounds],
        "^",
        ms=9,
        mfc="none",
        mec=style["color"],
        ls="none",
    )
    if fitted:
        ends = [fitted.dots[0].x, fitted.dots[-1].x]
        panel.plot(ends, [fitted.at(x) for x in ends], color=style["color"], ls=":", lw=0.8)


def _caption(
    quantity: Quantity, key: str, found: list[Line], shown: list[Line], floor: tuple[str, float]
) -> str:
    parts = [f"{quantity.title[0].upper()}{quantity.title[1:]} over {key}."]
    if len(shown) < len(found):
        parts.append(f"{len(shown)} of {len(found)} lines are shown.")
    if any(dot.high > dot.low for line in shown for dot in line.dots):
        parts.append("Bars reach from the smallest to the largest of repeats.")
    if any(line.predicted for line in shown):
        parts.append("Dashed: predicted, not measured.")
    if any(dot.at_least for line in shown for dot in line.dots):
        parts.append("Open triangles: only a lower bound is known.")
    if any(_fitted(quantity, key, line, floor) for line in shown):
        parts.append(
            f"The {_ORDERED[_last(key)]} is that of log drift over log {key} with its standard error, of the "
            f"dots above {floor[1]:g}; below (grey), rounding to {floor[0]} decides."
        )
    if quantity.metrics == (DURATION,):
        parts.append("Of points whose weights were not trained in that run.")
    return " ".join(parts)


def _place(line: Line) -> tuple[str, str]:
    """What a prediction shares with its measurement."""
    return line.series, line.setting


def _selected(found: list[Line]) -> list[Line]:
    """Lines of at most `SHOWN` looks: every series (an arm, say) at as many of the settings as there is room for."""
    if len(set(map(_place, found))) <= SHOWN:
        return found
    settings, series = (
        list(dict.fromkeys(line.setting for line in found)),
        {line.series for line in found},
    )
    count = min(len(settings), max(1, SHOWN // len(series)))
    kept = {settings[round(i * (len(settings) - 1) / max(1, count - 1))] for i in range(count)}
    places = list(dict.fromkeys(_place(line) for line in found if line.setting in kept))[:SHOWN]
    return [line for line in found if _place(line) in places]


def _file(key: str) -> str:
    """A key as part of a file's name."""
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in key)[:60]
