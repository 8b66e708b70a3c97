"""Which points no other point beats in everything: perplexity, drift and force evaluations, all of them costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from phasebench.report.collect import Point
from phasebench.report.derived import PER_TIME
from phasebench.report.table import is_number


@dataclass(frozen=True)
class Trade:
    """What one point costs; `perplexity` is None where it was not measured."""

    point: Point
    perplexity: float | None
    drift: float
    evaluations: float  # a layer and unit of H's time

    @property
    def costs(self) -> tuple[float, ...]:
        """Smaller is better, in each."""
        known = () if self.perplexity is None else (self.perplexity,)
        return (*known, self.drift, self.evaluations)


def trades(points: Sequence[Point]) -> list[Trade]:
    """The points with drift and force evaluations; where any has a perplexity too, those that have all three."""
    found = []
    for point in points:
        drift, evaluations = _value(point, "energy", "max_drift"), _value(point, "energy", PER_TIME)
        if drift is not None and evaluations is not None:
            found.append(Trade(point, _value(point, "ppl", "candidate_ppl"), drift, evaluations))
    complete = [trade for trade in found if trade.perplexity is not None]
    return complete or found


def front(costs: Sequence[tuple[float, ...]]) -> list[bool]:
    """For each tuple of costs whether no other is at least as small in all of them and smaller in one.

    Example:
        >>> front([(1, 3), (2, 2), (3, 3), (1, 3)])
        [True, True, False, True]
    """
    distinct = sorted(set(costs))
    best: list[tuple[float, ...]] = []
    for cost in distinct:  # whatever beats it comes before it in this order
        if not any(all(a <= b for a, b in zip(other, cost, strict=True)) for other in best):
            best.append(cost)
    kept = set(best)
    return [cost in kept for cost in costs]


def _value(point: Point, bench: str, name: str) -> float | None:
    metric = point.metric(bench, name)
    return float(metric.value) if metric and is_number(metric.value) else None  # type: ignore[arg-type]
