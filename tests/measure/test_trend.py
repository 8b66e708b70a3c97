from __future__ import annotations

import math

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
    assert trend([ROUNDING * t / 50 for t in STEPS]).monotonic


def test_euler_is_caught() -> None:
    """Explicit Euler multiplies the oscillator's energy by 1 + h^2 a step."""
    assert trend([(1 + 0.1**2) ** t - 1 for t in STEPS]).monotonic


@given(st.floats(-1e-3, 1e-3), st.integers(3, 500))
def test_a_line_is_fitted_exactly(slope: float, n: int) -> None:
    found = trend([slope * t for t in range(n)])
    stride = -(-n // 300)
    assert found.change / stride == pytest.approx(slope * ((n - 1) // stride), rel=1e-6, abs=1e-12)
    assert found.oscillation == pytest.approx(0, abs=1e-12)


def test_ranks_survive_ties() -> None:
    assert trend([0.0, 0.0, 1.0, 1.0, 2.0, 2.0]).rank_correlation == pytest.approx(0.956, abs=1e-3)
