"""Group values into lines over an axis, repeats as their mean and range, and fit their order.

    y = C x^order

is fitted by least squares of log y on log x; the error is that of the slope.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy import stats

# one value: series, setting of the other axes, whether predicted, x, y, whether only a lower bound
Value = tuple[str, str, bool, float, float, bool]


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
    """Dots by rising x, all measured or all predicted."""

    series: str
    setting: str  # of the other axes
    dots: tuple[Dot, ...]
    predicted: bool = False

    @property
    def label(self) -> str:
        """Name it for a legend."""
        words = (self.series, self.setting, "predicted" if self.predicted else "")
        return ", ".join(filter(None, words))

    @property
    def place(self) -> tuple[str, str]:
        """What a prediction shares with its measurement."""
        return self.series, self.setting


@dataclass(frozen=True)
class Fit:
    """The power of x with which y grows; `error` is None for two points, as a line fits both."""

    order: float
    error: float | None
    dots: tuple[Dot, ...]
    start: float  # log C

    def at(self, x: float) -> float:
        """Compute the fitted y at one x."""
        return math.exp(self.start + self.order * math.log(x))

    def text(self, word: str = "order") -> str:
        """Write it for a legend."""
        error = "" if self.error is None else f" ± {self.error:.2f}"
        return f"{word} {self.order:.2f}{error} ({len(self.dots)} points)"


def lines(values: Sequence[Value]) -> list[Line]:
    """Make a line of each series at each setting, or one line where no setting changes it.

    Example:
        >>> values = [("baseline", f"steps {n}", False, 0.1, 3.0, False) for n in (2, 5)]
        >>> [line.label for line in lines(values)]
        ['baseline']
    """
    keys = ["series", "setting", "predicted"]
    frame = pd.DataFrame(values, columns=[*keys, "x", "y", "at_least"])
    whole = []
    for key, group in frame.groupby(keys, sort=False):
        series, setting, predicted = cast(tuple[str, str, bool], key)
        at = group.groupby("x")
        low, high = at.y.min(), at.y.max()
        # rounding puts the mean of equal numbers beside them
        columns = at.y.mean().clip(low, high), low, high, at.at_least.any()
        dots = zip(low.index.tolist(), *(column.tolist() for column in columns), strict=True)
        whole.append(Line(series, setting, tuple(Dot(*dot) for dot in dots), predicted))
    kept: dict[Line, None] = {}
    for line in whole:
        alike = [o for o in whole if (o.series, o.predicted) == (line.series, line.predicted)]
        same = len(alike) > 1 and len({other.dots for other in alike}) == 1
        kept[replace(line, setting="") if same else line] = None
    return list(kept)


def fit(dots: Iterable[Dot], above: float = 0.0) -> Fit | None:
    """Fit a power law through the dots whose y is above a limit; None for fewer than two x.

    Example:
        >>> square = [Dot(x, 3 * x**2, 0, 0) for x in (0.1, 0.2, 0.4)]
        >>> fit(square).text()
        'order 2.00 ± 0.00 (3 points)'
    """
    used = tuple(dot for dot in dots if dot.x > 0 and dot.y > above and not dot.at_least)
    if len({dot.x for dot in used}) < 2:
        return None
    line: Any = stats.linregress(
        [math.log(dot.x) for dot in used], [math.log(dot.y) for dot in used]
    )
    error = float(np.nan_to_num(line.stderr)) if len(used) > 2 else None  # NaN: y does not vary
    return Fit(float(line.slope), error, used, float(line.intercept))
