"""Student's t: quantiles, and the interval of a mean or of a ratio from a few paired values. Needs no torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with its two-sided confidence interval."""

    mean: float
    low: float
    high: float
    confidence: float
    n: int


def within(t: float, df: int) -> float:
    """P(|T| <= t) of Student's t with df degrees of freedom, by the finite series of Abramowitz & Stegun 26.7.3-4.

    >>> round(within(4.303, 2), 4), round(within(1.96, 1000), 3)
    (0.95, 0.95)
    """
    theta = math.atan(t / math.sqrt(df))
    cos2, term, total = math.cos(theta) ** 2, 1.0, 0.0
    if df % 2:
        for k in range(1, (df - 1) // 2 + 1):
            total += term
            term *= cos2 * 2 * k / (2 * k + 1)
        return 2 / math.pi * (theta + math.sin(theta) * math.cos(theta) * total)
    for k in range(1, df // 2 + 1):
        total += term
        term *= cos2 * (2 * k - 1) / (2 * k)
    return math.sin(theta) * total


def quantile(df: int, confidence: float = CONFIDENCE) -> float:
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
    return Interval(math.exp(found.mean), math.exp(found.low), math.exp(found.high), confidence, found.n)
