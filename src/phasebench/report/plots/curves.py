"""A quantity over a swept axis: one line for each setting of the other axes, repeats as their mean and range.

    y = C x^order

is fitted by least squares of log y on log x; the error is that of the slope (`phasebench.results.regression`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from phasebench.report.axes import SEED, Axis, short
from phasebench.report.collect import Point
from phasebench.report.summary import number
from phasebench.report.table import is_number
from phasebench.results.gate import Metric
from phasebench.results.regression import linear_regression


@dataclass(frozen=True)
class Dot:
    """The repeats at one x: their mean and range."""

    x: float
    y: float
    low: float
    high: float
    at_least: bool = False  # a lower bound: memory ran out


@dataclass(frozen=True)
class Line:
    """Dots by rising x, all of one kind."""

    series: str
    setting: str  # of the other axes
    dots: tuple[Dot, ...]
    predicted: bool = False

    @property
    def label(self) -> str:
        """For a legend."""
        return ", ".join(
            filter(None, (self.series, self.setting, "predicted" if self.predicted else ""))
        )


@dataclass(frozen=True)
class Fit:
    """The power of x with which y grows; `error` is None for two points, through which a line always goes."""

    order: float
    error: float | None
    dots: tuple[Dot, ...]
    start: float  # log C

    def at(self, x: float) -> float:
        """The fitted y at one x."""
        return math.exp(self.start + self.order * math.log(x))

    def text(self, word: str = "order") -> str:
        """For a legend."""
        error = "" if self.error is None else f" ± {self.error:.2f}"
        return f"{word} {self.order:.2f}{error} ({len(self.dots)} points)"


def lines(
    points: Sequence[Point],
    axes: Sequence[Axis],
    x: Axis,
    bench: str,
    find: Callable[[Point], Metric | None],
    series: str,
) -> list[Line]:
    """A line for each setting of the other axes that concern the bench; seeds are repeats, not lines."""
    others = [axis for axis in axes if axis is not x and axis.key != SEED and axis.concerns(bench)]
    names = short(axis.key for axis in axes)
    groups: dict[tuple[str, bool], dict[float, list[Metric]]] = {}
    for i, point in enumerate(points):
        metric = find(point)
        if metric is None or not is_number(metric.value) or not is_number(x.values[i]):
            continue
        setting = (said(names[a.key], a.values[i]) for a in others if a.values[i] is not None)
        key = (", ".join(setting), metric.kind == "predicted")
        groups.setdefault(key, {}).setdefault(float(x.values[i]), []).append(metric)
    return [
        Line(series, text, _dots(found), predicted) for (text, predicted), found in groups.items()
    ]


def said(key: str, value: Any) -> str:
    """A setting for people: a name says by itself what it is a name of, a number does not.

    Example:
        >>> said("ode.dt", 0.1), said("ode.integrator", "leapfrog"), said("energy.dts", "null")
        ('dt 0.1', 'leapfrog', 'dts null')
    """
    named = isinstance(value, str) and value != "null" and value[:1].isalpha()
    return value if named else f"{key.rpartition('.')[2]} {number(value)}"


def merged(found: Sequence[Line]) -> list[Line]:
    """The lines, where a series is the same at every setting as one line without a setting.

    Example:
        >>> dots = (Dot(0.1, 3, 3, 3), Dot(0.2, 3, 3, 3))
        >>> [line.label for line in merged([Line("baseline", "steps 2", dots), Line("baseline", "steps 5", dots)])]
        ['baseline']
    """
    groups: dict[tuple[str, bool], list[Line]] = {}
    for line in found:
        groups.setdefault((line.series, line.predicted), []).append(line)
    same = {
        key
        for key, group in groups.items()
        if len(group) > 1 and len({line.dots for line in group}) == 1
    }
    kept: dict[tuple[Any, ...], Line] = {}
    for line in found:
        key = line.series, line.predicted
        kept.setdefault(
            key if key in same else (*key, line.setting),
            replace(line, setting="") if key in same else line,
        )
    return list(kept.values())


def fit(dots: Iterable[Dot], above: float = 0.0) -> Fit | None:
    """The power law through the dots whose y is above a limit; None for fewer than two different x.

    Example:
        >>> square = [Dot(x, 3 * x**2, 0, 0) for x in (0.1, 0.2, 0.4)]
        >>> fit(square).text()
        'order 2.00 ± 0.00 (3 points)'
    """
    used = tuple(dot for dot in dots if dot.x > 0 and dot.y > above and not dot.at_least)
    if len({dot.x for dot in used}) < 2:
        return None
    x, y = [math.log(dot.x) for dot in used], [math.log(dot.y) for dot in used]
    line = linear_regression(x, y)
    return Fit(line.slope, line.error if len(used) > 2 else None, used, line.intercept)


def _dots(found: dict[float, list[Metric]]) -> tuple[Dot, ...]:
    dots = []
    for x, metrics in sorted(found.items()):
        values = [float(metric.value) for metric in metrics]  # type: ignore[arg-type]
        mean = statistics.fmean(values)
        low, high = min(values), max(values)
        mean = min(max(mean, low), high)  # rounding puts the mean of equal numbers beside them
        dots.append(Dot(x, mean, low, high, any(metric.is_bound for metric in metrics)))
    return tuple(dots)
