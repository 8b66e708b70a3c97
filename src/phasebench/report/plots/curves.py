"""Group values into lines over an axis, repeats as their mean and range, and fit their order.

    y = C x^order

is fitted by least squares of log y on log x; the error is that of the slope.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from phasebench.results.stats import linear_regression

# of one value: `setting` is that of the other axes, `bound` says that y is only a lower bound
COLUMNS = ["series", "setting", "predicted", "x", "y", "bound"]


@dataclass(frozen=True)
class Line:
    """The values of a series at one setting of the other axes, all measured or all predicted.

    `dots` has one row for each x, which is its index: the mean y of the repeats, their smallest
    and largest (`low`, `high`), and whether one of them is only a lower `bound`.
    """

    series: str
    setting: str
    predicted: bool
    dots: pd.DataFrame

    @property
    def label(self) -> str:
        """Name it for a legend."""
        return ", ".join(filter(None, (self.series, self.setting, "predicted" * self.predicted)))

    @property
    def place(self) -> tuple[str, str]:
        """Give what a prediction shares with its measurement."""
        return self.series, self.setting


@dataclass(frozen=True)
class Fit:
    """The power of x with which y grows; `error` is None for two dots, as a line fits both."""

    order: float
    error: float | None
    dots: pd.DataFrame  # those that were used
    start: float  # log C

    def at(self, x: float) -> float:
        """Compute the fitted y at one x."""
        return math.exp(self.start + self.order * math.log(x))

    @property
    def label(self) -> str:
        """Write it for a legend."""
        error = "" if self.error is None else f" ± {self.error:.2f}"
        return f"order {self.order:.2f}{error} ({len(self.dots)} points)"


def lines(values: Sequence[Sequence[Any]]) -> list[Line]:
    """Make a line of each series at each setting, or one line where no setting changes it.

    values: rows of `COLUMNS`.

    Example:
        >>> values = [("baseline", f"steps {n}", False, 0.1, 3.0, False) for n in (2, 5)]
        >>> [line.label for line in lines(values)]
        ['baseline']
    """
    found = []
    frame: Any = pd.DataFrame(values, columns=COLUMNS)  # its columns have no types
    for (series, predicted), own in frame.groupby(["series", "predicted"], sort=False):
        settings = {}
        for setting, group in own.groupby("setting", sort=False):
            at = group.groupby("x")
            low, high = at.y.min(), at.y.max()
            # rounding puts the mean of equal numbers beside them
            mean = at.y.mean().clip(low, high)
            settings[setting] = pd.DataFrame(
                {"y": mean, "low": low, "high": high, "bound": at.bound.any()}
            )
        first, *others = settings.values()
        if others and all(dots.equals(first) for dots in others):
            settings = {"": first}
        found += [Line(series, setting, predicted, dots) for setting, dots in settings.items()]
    return found


def fit(dots: pd.DataFrame, above: float = 0.0) -> Fit | None:
    """Fit a power law through the dots whose y is above a limit; None for fewer than two.

    Example:
        >>> dots = pd.DataFrame({"y": [0.03, 0.12, 0.48], "bound": False}, index=[0.1, 0.2, 0.4])
        >>> fit(dots).label
        'order 2.00 ± 0.00 (3 points)'
    """
    used: Any = dots[(dots.index > 0) & (dots.y > above) & ~dots.bound]
    if len(used) < 2:
        return None
    line = linear_regression([*np.log(used.index)], [*np.log(used.y)])
    return Fit(line.slope, line.error if len(used) > 2 else None, used, line.intercept)
