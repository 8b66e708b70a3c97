"""Perplexity over the budget of a training, and the ratio of two models at equal budgets.

Legend: a budget is counted in tokens read, in FLOPs, or in seconds on this device (`Axis`).
Between two budgets ln(ppl) is linear in ln(budget); beyond the smallest and the largest one
nothing is claimed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Axis = Literal["tokens", "flops", "seconds"]
AXES: tuple[Axis, ...] = ("tokens", "flops", "seconds")


class NotComparable(ValueError):
    """Two curves have no budget in common at which both were measured; the message says why."""


@dataclass(frozen=True)
class Point:
    """One finished training.

    Attributes:
        tokens: tokens read in training.
        flops: floating-point operations of training.
        seconds: time of training on this device.
        valid: nats a token on the validation split.
        test: nats a token on the split that is reported.
    """

    tokens: float
    flops: float
    seconds: float
    valid: float
    test: float


@dataclass(frozen=True)
class Curve:
    """One model of one seed, trained at several budgets, in increasing order.

    Examples:
        >>> short = Point(1e6, 1e12, 10.0, valid=5.0, test=5.0)
        >>> long = Point(4e6, 4e12, 40.0, valid=4.0, test=4.0)
        >>> Curve((short, long)).at("tokens", 2e6)
        4.5
    """

    points: tuple[Point, ...]

    def span(self, axis: Axis) -> tuple[float, float]:
        """Return the smallest and the largest budget."""
        budgets = [getattr(point, axis) for point in self.points]
        return min(budgets), max(budgets)

    def at(self, axis: Axis, budget: float) -> float:
        """Interpolate the nats a token of the reported split, linearly in the log of the budget.

        Raises `NotComparable` outside the measured budgets.
        """
        low, high = self.span(axis)
        if not low <= budget <= high:
            raise NotComparable(
                f"{budget:.3g} {axis} is outside the measured {low:.3g} to {high:.3g}"
            )
        budgets = np.log([getattr(point, axis) for point in self.points])
        return float(np.interp(np.log(budget), budgets, [point.test for point in self.points]))

    def best(self) -> Point:
        """Return the training with the lowest validation loss."""
        return min(self.points, key=lambda point: point.valid)


def log_ratio(ours: Curve, theirs: Curve, axis: Axis) -> float:
    """Compute ln(ppl / ppl) at the largest budget that both curves reach.

    Raises `NotComparable` where one curve begins beyond the end of the other, or is empty.
    """
    if not ours.points or not theirs.points:
        raise NotComparable("no training of one of the models ended well")
    budget = min(ours.span(axis)[1], theirs.span(axis)[1])
    return ours.at(axis, budget) - theirs.at(axis, budget)


def log_ratio_best(ours: Curve, theirs: Curve) -> float:
    """Compute ln(ppl / ppl) of the reported split, each model at its best validation.

    Raises `NotComparable` where a curve is empty.
    """
    if not ours.points or not theirs.points:
        raise NotComparable("no training of one of the models ended well")
    return ours.best().test - theirs.best().test
