"""Does a series rise or fall for good, or does it oscillate or settle?

The energy of a symplectic integrator oscillates, or settles once the states leave the region where the force varies;
that of another integrator keeps rising or falling.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

ROUNDING = 1e-6  # a float32 trajectory's energy wanders by about this much of itself in 100 steps
RANK_LIMIT = 0.9
POINTS = 300


@dataclass(frozen=True)
class Trend:
    """How a series changes, in its own unit.

    Attributes:
        rank_correlation: Spearman's, between value and time: 1 rises, -1 falls, near 0 oscillates.
        change: from the first tenth to the last, means of each.
        late_change: from the tenth at the middle to the last.
    """

    rank_correlation: float
    change: float
    late_change: float

    @property
    def monotonic(self) -> bool:
        """Whether the series is ordered in time and, in its second half, still moves by more than rounding.

        A slow oscillation of which the series shows no more than a quarter of a period counts too: a longer series
        tells the two apart.
        """
        return abs(self.rank_correlation) > RANK_LIMIT and abs(self.late_change) > ROUNDING


def trend(series: Sequence[float]) -> Trend:
    """Look at a series of at least eight finite values; of more than `POINTS`, at that many evenly spaced ones.

    Raises ValueError for a value that is not finite.

    Example:
        >>> rising, swinging = [1e-3 * t for t in range(20)], [(-1.0) ** t for t in range(20)]
        >>> trend(rising).monotonic, trend(swinging).monotonic
        (True, False)
    """
    if not all(math.isfinite(x) for x in series):
        raise ValueError("a series with a value that is not finite has no trend")
    series = series[:: -(-len(series) // POINTS)]
    n, tenth = len(series), max(1, len(series) // 10)
    first, last = statistics.fmean(series[:tenth]), statistics.fmean(series[-tenth:])
    middle = statistics.fmean(series[n // 2 : n // 2 + tenth])
    constant = max(series) == min(series)
    correlation = 0.0 if constant else statistics.correlation(range(n), _ranks(series))
    return Trend(correlation, last - first, last - middle)


def _ranks(series: Sequence[float]) -> list[float]:
    """Ranks, ties sharing their mean."""
    return [sum((y < x) + (y <= x) for y in series) / 2 for x in series]
