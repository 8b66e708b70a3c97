"""Student's t: probabilities, quantiles, and the interval of a mean or a ratio from a few paired values; no torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from phasebench.results.beta import incomplete_beta

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with its two-sided confidence interval."""

    mean: float
    low: float
    high: float
    confidence: float
    n: int


def within(t: float, df: float) -> float:
    """P(|T| <= t) of Student's t with df degrees of freedom: I_x(1/2, df/2) at x = t^2 / (df + t^2) (DLMF 8.17).

    >>> round(within(4.303, 2), 4), round(within(1.96, 1000), 3)
    (0.95, 0.95)
    """
    return incomplete_beta(0.5, df / 2, t * t / (df + t * t))


def beyond(t: float, df: float) -> float:
    """P(|T| > |t|), the two-sided p-value: 1 - `within`, without its rounding where little is beyond.

    >>> round(beyond(4.303, 2), 4), beyond(1e6, 10) < 1e-50
    (0.05, True)
    """
    return incomplete_beta(df / 2, 0.5, df / (df + t * t))


def quantile(df: float, confidence: float = CONFIDENCE) -> float:
    """The t beyond which, on both sides together, 1 - confidence lies; by bisection.

    >>> round(quantile(2), 3), round(quantile(18), 3)
    (4.303, 2.101)
    """
    low, high = 0.0, 1.0
    while within(high, df) < confidence:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle, df) < confidence else (low, middle)
    return high


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """Of the mean of independent normal values: mean +- t s / sqrt(n), n - 1 degrees of freedom; None for one value."""
    n = len(values)
    if n < 2:
        return None
    mean = statistics.fmean(values)
    half = quantile(n - 1, confidence) * statistics.stdev(values) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, confidence, n)


def ratio_interval(logs: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """Of a ratio, from the logarithm of the ratio of each pair: `interval` of the logarithms, exponentiated.

    The mean is geometric.  Pairs share what they were made from, such as a seed, so that its effect cancels in each
    ratio (a paired t interval; Student 1908, "The Probable Error of a Mean").

    >>> found = ratio_interval([math.log(0.90), math.log(0.91), math.log(0.89)])
    >>> round(found.low, 3), round(found.mean, 3), round(found.high, 3)
    (0.875, 0.9, 0.925)
    """
    found = interval(logs, confidence)
    if found is None:
        return None
    return Interval(
        math.exp(found.mean), math.exp(found.low), math.exp(found.high), confidence, found.n
    )
