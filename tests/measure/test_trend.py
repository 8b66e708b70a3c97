from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasebench.measure.trend import ROUNDING, trend

STEPS = range(101)
OSCILLATION = [1e-4 * math.sin(t / 5) for t in STEPS]


@pytest.mark.parametrize("slope", [1e-5, -1e-5])
def test_a_drifting_series_is_monotonic(slope: float) -> None:
    assert trend([slope * t for t in STEPS]).monotonic
    assert trend([5 * slope * t + x for t, x in zip(STEPS, OSCILLATION, strict=True)]).monotonic


def test_an_oscillating_series_is_not() -> None:
    assert not trend(OSCILLATION).monotonic
    assert not trend([x + 1e-7 * t for t, x in zip(STEPS, OSCILLATION, strict=True)]).monotonic


def test_a_constant_series_and_one_within_rounding_are_not() -> None:
    assert not trend([0.0] * 101).monotonic
    assert not trend([ROUNDING * t / 200 for t in STEPS]).monotonic
    assert trend([ROUNDING * t / 20 for t in STEPS]).monotonic


def test_euler_is_caught() -> None:
    """Explicit Euler multiplies the oscillator's energy by 1 + h^2 a step."""
    assert trend([(1 + 0.1**2) ** t - 1 for t in STEPS]).monotonic


@pytest.mark.parametrize(
    "shape",
    [lambda t: math.exp(t / 20), lambda t: math.exp(t / 5), math.log1p, math.sqrt, lambda t: -(t**2)],
    ids=["exp", "fast exp", "log", "sqrt", "square"],
)
def test_growth_of_any_shape_is_caught(shape: Callable[[float], float]) -> None:
    assert trend([1e-3 * shape(t) for t in STEPS]).monotonic


def test_a_series_that_settles_is_not() -> None:
    settled = trend([1e-3 * (1 - math.exp(-t / 5)) for t in STEPS])
    assert settled.rank_correlation == pytest.approx(1.0)
    assert not settled.monotonic


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_series_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        trend([0.0] * 50 + [bad])


@given(st.floats(-1e-3, 1e-3), st.integers(20, 900))
def test_a_line_is_monotonic_if_it_is_steep_enough(slope: float, n: int) -> None:
    found = trend([slope * t for t in range(n)])
    assert found.late_change == pytest.approx(found.change / 2, rel=0.35, abs=1e-12)
    assert found.monotonic == (abs(found.late_change) > ROUNDING)


def test_ranks_survive_ties() -> None:
    assert trend([0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0]).rank_correlation == pytest.approx(0.976, abs=1e-3)
