"""Group values into lines over an axis, repeats as their mean and range; fit and draw them.

    y = C x^order

is fitted by least squares of log y on log x; the error is that of the slope.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from phasebench.report.plots.style import label, look, x_scale
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


def lines(values: Sequence[Sequence[Any]]) -> list[Line]:
    """Make a line of each series at each setting, or one line where no setting changes it.

    values: rows of `COLUMNS`.

    Examples:
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


def fit(dots: pd.DataFrame, above: float) -> tuple[str, pd.Series] | None:
    """Fit a power law through the dots whose y is above a limit; None for fewer than two.

    Returns the order with its error, which two dots have none of, for a legend; and the fitted y
    by x.

    Examples:
        >>> dots = pd.DataFrame({"y": [0.03, 0.12, 0.48], "bound": False}, index=[0.1, 0.2, 0.4])
        >>> fit(dots, above=0)[0]
        'order 2.00 ± 0.00 (3 points)'
    """
    used: Any = dots[(dots.index > 0) & (dots.y > above) & ~dots.bound]
    if len(used) < 2:
        return None
    x = np.log(used.index)
    line = linear_regression([*x], [*np.log(used.y)])
    error = f" ± {line.error:.2f}" if len(used) > 2 else ""
    y = pd.Series(np.exp(line.intercept + line.slope * x), index=used.index)
    return f"order {line.slope:.2f}{error} ({len(used)} points)", y


def draw_lines(panel: Axes, shown: Sequence[Line], above: float | None = None) -> None:
    """Draw dots with the range of their repeats, open triangles at lower bounds, and, if a limit is
    given, the power law of the dots above it.
    """
    places = list(dict.fromkeys(line.place for line in shown))
    for line in shown:
        style = look(places.index(line.place))
        dots, bounds = line.dots, line.dots[line.dots.bound]
        words = [line.label]
        if above is not None and (fitted := fit(dots, above)):
            words.append(fitted[0])
            panel.plot(fitted[1], color=style["color"], ls=":", lw=0.8)
        panel.errorbar(
            dots.index,
            dots.y,
            yerr=[dots.y - dots.low, dots.high - dots.y] if (dots.high > dots.low).any() else None,
            capsize=2,
            label=", ".join(label(word) for word in words if word) or None,
            linestyle="--" if line.predicted else "-",
            **style,
        )
        panel.plot(bounds.index, bounds.y, "^", ms=9, mfc="none", mec=style["color"])
    x_scale(panel, (x for line in shown for x in line.dots.index))
