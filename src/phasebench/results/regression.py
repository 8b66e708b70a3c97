"""A straight line through points by least squares, with the standard error of its slope. Needs no torch.

    y = intercept + slope x,   error^2 = s^2 / S_xx,   s^2 = RSS / (n - 2)

RSS is the sum of squared residuals, S_xx that of (x - mean x)^2 (Draper & Smith, Applied Regression Analysis, 3rd ed.,
section 1.4).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Regression:
    """What `linear_regression` found."""

    slope: float
    intercept: float
    residuals: tuple[float, ...]  # y less the line's, in the order of the points
    spread: float  # S_xx

    @property
    def error(self) -> float:
        """Standard error of the slope; ZeroDivisionError for two points, through which a line always goes."""
        return math.sqrt(
            sum(r * r for r in self.residuals) / (len(self.residuals) - 2) / self.spread
        )


def linear_regression(x: Sequence[float], y: Sequence[float]) -> Regression:
    """The line through at least two points of different x; statistics.StatisticsError where there is none.

    Example:
        >>> found = linear_regression([0, 1, 2, 3], [0, 1, 1, 2])
        >>> round(found.slope, 3), round(found.intercept, 3), round(found.error, 4)
        (0.6, 0.1, 0.1414)
    """
    slope, intercept = statistics.linear_regression(x, y)
    residuals = tuple(b - intercept - slope * a for a, b in zip(x, y, strict=True))
    return Regression(slope, intercept, residuals, sum((a - statistics.fmean(x)) ** 2 for a in x))
