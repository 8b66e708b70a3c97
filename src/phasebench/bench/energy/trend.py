"""Does a series rise or fall for good, or does it oscillate or settle? And how fast does it rise?

The energy of a symplectic integrator oscillates, or settles once the states leave the region where the force varies;
that of another integrator keeps rising or falling.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from phasebench.results.regression import linear_regression
from phasebench.results.stats import quantile

ROUNDING = 1e-6  # a float32 trajectory's energy wanders by about this much of itself in 100 steps
NOISE = {
    "fp32": 2 * ROUNDING,
    "fp64": 1e-13,
}  # drifts below are rounding, at least in part, and have no order
RANK_LIMIT = 0.9
POINTS = 300
BLOCKS = 20


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


@dataclass(frozen=True)
class Slope:
    """A straight line fitted to a series by least squares.

    Attributes:
        slope: change a unit of time.
        error: its standard error, from means over blocks.
        degrees: of freedom of that error: blocks less two.
        block_correlation: r, between the residuals of neighbouring blocks; near 1, the blocks are too short.
        change: slope times the time that the whole series lasts.
        change_error: half width of the change's 95 % interval, by Student's t.
    """

    slope: float
    error: float
    degrees: int
    block_correlation: float
    change: float
    change_error: float


def slope(series: Sequence[float], dt: float) -> Slope:
    """Fit a line to all but the first tenth of a series with the spacing dt, of at least eight finite values.

    Neighbouring values of a trajectory are not independent, so the textbook error of least squares is far too small.
    Means over blocks that are longer than the correlation lasts are nearly independent (Flyvbjerg & Petersen, J. Chem.
    Phys. 91 (1989) 461): the line and its error come from at most `BLOCKS` of them, and what correlation r they still
    have multiplies the error's square by (1 + r) / (1 - r), as for a first-order process.  The first tenth is left out,
    in which a trajectory leaves the surface that it started on.  Raises ValueError for a value that is not finite.

    Example:
        >>> found = slope([3e-4 * t for t in range(1000)], 1.0)
        >>> round(found.slope, 9), round(found.change, 6), found.degrees
        (0.0003, 0.2997, 18)
    """
    if not all(math.isfinite(x) for x in series):
        raise ValueError("a series with a value that is not finite has no slope")
    kept = series[len(series) // 10 :]
    count = min(BLOCKS, len(kept) // 2)
    size = len(kept) // count
    kept = kept[len(kept) - count * size :]
    y = [statistics.fmean(kept[i : i + size]) for i in range(0, len(kept), size)]
    x = [size * dt * i for i in range(count)]
    line = linear_regression(x, y)
    square, pairs = (
        sum(a * a for a in line.residuals),
        sum(a * b for a, b in itertools.pairwise(line.residuals)),
    )
    r, degrees = pairs / square if square else 0.0, count - 2
    error = line.error * math.sqrt((1 + max(r, 0.0)) / (1 - max(r, 0.0)))
    lasts = (len(series) - 1) * dt
    return Slope(
        line.slope, error, degrees, r, line.slope * lasts, quantile(degrees) * error * lasts
    )


def _ranks(series: Sequence[float]) -> list[float]:
    """Ranks, ties sharing their mean."""
    return [sum((y < x) + (y <= x) for y in series) / 2 for x in series]
