"""Does a series rise or fall monotonically, or does it oscillate?"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

ROUNDING = 1e-6  # a float32 trajectory's energy wanders by about this much of itself in 100 steps
RANK_LIMIT = 0.9
POINTS = 300


@dataclass(frozen=True)
class Trend:
    """How a series changes over its whole length, in the series' own unit.

    Attributes:
        rank_correlation: Spearman's, between value and time: 1 rises, -1 falls, near 0 oscillates.
        change: fitted (Theil-Sen) slope times length.
        oscillation: peak to peak of what the fit leaves.
    """

    rank_correlation: float
    change: float
    oscillation: float

    @property
    def monotonic(self) -> bool:
        """Whether the series rises or falls: ordered in time, by more than it oscillates and more than rounding."""
        ordered = abs(self.rank_correlation) > RANK_LIMIT
        return ordered and abs(self.change) > max(self.oscillation, ROUNDING)


def trend(series: Sequence[float]) -> Trend:
    """Fit a series of at least three values (Theil 1950, Sen 1968: the median of all pairs' slopes).

    Of a series longer than `POINTS` values, that many evenly spaced ones are used: the fit looks at all pairs.

    Example:
        >>> trend([0.0, 1.0, 2.0, 3.0]).monotonic, trend([0.0, 1.0, 0.0, 1.0, 0.0]).monotonic
        (True, False)
    """
    series = series[:: -(-len(series) // POINTS)]
    n = len(series)
    slope = statistics.median((series[j] - series[i]) / (j - i) for i in range(n) for j in range(i + 1, n))
    rest = [x - slope * t for t, x in enumerate(series)]
    constant = max(series) == min(series)
    correlation = 0.0 if constant else statistics.correlation(range(n), _ranks(series))
    return Trend(correlation, slope * (n - 1), max(rest) - min(rest))


def _ranks(series: Sequence[float]) -> list[float]:
    """Ranks, ties sharing their mean."""
    return [sum((y < x) + (y <= x) for y in series) / 2 for x in series]
