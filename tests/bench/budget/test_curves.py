"""Ratios on curves that are made up, with known answers."""

from __future__ import annotations

import math

import pytest

from phasebench.bench.budget.curves import (
    AXES,
    Curve,
    NotComparable,
    Point,
    log_ratio,
    log_ratio_best,
)


def curve(*points: tuple[float, float], flops: float = 1.0, speed: float = 1.0) -> Curve:
    """Perplexities by tokens; `flops` a token, `speed` in tokens a second."""
    return Curve(
        tuple(Point(t, flops * t, t / speed, math.log(ppl), math.log(ppl)) for t, ppl in points)
    )


FAST = curve((100, 90), (400, 70), (1600, 60))


def test_equal_curves_have_ratio_one() -> None:
    assert [log_ratio(FAST, FAST, axis) for axis in AXES] == [0.0, 0.0, 0.0]
    assert log_ratio_best(FAST, FAST) == 0.0


def test_tokens_are_compared_at_the_largest_common_budget() -> None:
    ours = curve((100, 80), (400, 50))
    assert math.exp(log_ratio(ours, FAST, "tokens")) == pytest.approx(50 / 70)


def test_time_is_interpolated_in_logarithms() -> None:
    slow = curve((100, 80), (400, 60), (1600, 40), speed=0.5)  # has read 800 tokens at FAST's end
    expected = math.exp((math.log(60) + math.log(40)) / 2) / 60
    assert math.exp(log_ratio(slow, FAST, "seconds")) == pytest.approx(expected)
    assert math.exp(log_ratio(slow, FAST, "tokens")) == pytest.approx(40 / 60)


def test_curves_that_cross_change_their_order() -> None:
    ours = curve((100, 50), (1600, 65))
    assert log_ratio(ours, curve((100, 90)), "tokens") < 0 < log_ratio(ours, FAST, "tokens")


def test_nothing_is_extrapolated() -> None:
    late = curve((2000, 50), (4000, 40))
    with pytest.raises(NotComparable, match="outside the measured"):
        log_ratio(late, FAST, "tokens")
    with pytest.raises(NotComparable, match="ended well"):
        log_ratio(Curve(()), FAST, "flops")
    with pytest.raises(NotComparable, match="ended well"):
        log_ratio_best(FAST, Curve(()))


def test_one_point_is_compared_where_both_have_it() -> None:
    one, other = curve((400, 66)), curve((400, 60))
    assert math.exp(log_ratio(one, other, "tokens")) == pytest.approx(1.1)
    with pytest.raises(NotComparable):
        log_ratio(one, curve((400, 60), flops=3.0), "flops")


def test_convergence_takes_each_model_s_best_validation_and_scores_it_on_test() -> None:
    overfit = Curve((Point(1, 1, 1, valid=4.0, test=4.1), Point(2, 2, 2, valid=4.2, test=4.0)))
    assert log_ratio_best(overfit, FAST) == pytest.approx(4.1 - math.log(60))
