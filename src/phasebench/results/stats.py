"""Statistics of a few values: intervals, a line with its error, Welch's test. scipy is loaded when
first needed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

CONFIDENCE = 0.95
ROUNDING = 1e-6  # a float32 trajectory's energy wanders by about this much of itself in 100 steps
# mean drifts below these are rounding, at least in part, and have no order
NOISE = {"fp32": 2 * ROUNDING, "fp64": 1e-13}


class Interval(NamedTuple):
    """A mean with its two-sided interval, of confidence `CONFIDENCE`."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """y = intercept + slope x by least squares; error is the slope's standard error, 0 for two
    points.
    """

    slope: float
    intercept: float
    error: float


def quantile(df: float) -> float:
    """The t of Student's t with df degrees of freedom beyond which, on both sides, 1 - CONFIDENCE
    lies.

    >>> round(quantile(2), 3), round(quantile(18), 3)
    (4.303, 2.101)
    """
    from scipy.special import stdtrit

    return float(stdtrit(df, (1 + CONFIDENCE) / 2))


def interval(values: Sequence[float]) -> Interval | None:
    """The interval of the mean of n independent normal values, mean +- t s / sqrt(n); None for one
    value.
    """
    n = len(values)
    if n < 2:
        return None
    mean = statistics.fmean(values)
    half = quantile(n - 1) * statistics.stdev(values) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half)


def ratio_interval(logs: Sequence[float]) -> Interval | None:
    """The interval of a ratio from the logarithm of each pair's ratio: `interval`, exponentiated.

    The mean is geometric.  Pairs share what they were made from, such as a seed, so that its effect
    cancels in each ratio (a paired t interval; Student 1908, "The Probable Error of a Mean").

    >>> found = ratio_interval([math.log(0.90), math.log(0.91), math.log(0.89)])
    >>> round(found.low, 3), round(found.mean, 3), round(found.high, 3)
    (0.875, 0.9, 0.925)
    """
    found = interval(logs)
    return found and Interval(*map(math.exp, found))


def linear_regression(x: Sequence[float], y: Sequence[float]) -> Line:
    """Fit a line to at least two points of different x; raises ValueError where there is none.

    >>> found = linear_regression([0, 1, 2, 3], [0, 1, 1, 2])
    >>> round(found.slope, 3), round(found.intercept, 3), round(found.error, 4)
    (0.6, 0.1, 0.1414)
    """
    from scipy.stats import linregress

    line: Any = linregress(x, y)  # scipy's result has no types
    error = 0.0 if min(y) == max(y) else float(line.stderr)  # scipy's is NaN for a level line
    return Line(float(line.slope), float(line.intercept), error)


def welch_p(base: Sequence[float], new: Sequence[float]) -> float | None:
    """Test whether two means differ: the two-sided p-value of Welch's t-test (Biometrika 34 (1947)
    28).

    None where there is no test: fewer than two values on a side, or no spread at all.

    >>> round(welch_p([1.0, 2.0, 3.0], [2.0, 3.0, 4.0]), 3)
    0.288
    """
    if min(len(base), len(new)) < 2:
        return None
    # the p-value does not depend on the unit; squares of tiny or huge values would leave the floats
    unit = max(statistics.stdev(base), statistics.stdev(new))
    if not unit or not math.isfinite(unit):
        return None
    from scipy.stats import ttest_ind

    sides = ([(x - base[0]) / unit for x in side] for side in (base, new))
    test: Any = ttest_ind(*sides, equal_var=False)
    return float(test.pvalue)
