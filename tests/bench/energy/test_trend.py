from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from phasebench.bench.energy.trend import slope, trend
from phasebench.results.stats import ROUNDING

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
    [
        lambda t: math.exp(t / 20),
        lambda t: math.exp(t / 5),
        math.log1p,
        math.sqrt,
        lambda t: -(t**2),
    ],
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
    assert trend([0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0]).rank_correlation == pytest.approx(
        0.976, abs=1e-3
    )


def test_kind_13_an_oscillation_of_the_spacing_of_looks_is_no_trend() -> None:
    """Every 34th value of an oscillation with a period near 34 steps looks like a trend."""
    series = [1e-3 * math.sin(2 * math.pi * t / (34 + 34 * 34 / 40_000)) for t in range(10_001)]
    looked_at = series[::34]
    assert abs(spearmanr(range(len(looked_at)), looked_at).statistic) > 0.9
    found = trend(series)
    assert abs(found.rank_correlation) < 0.5 or abs(found.late_change) < ROUNDING
    assert not found.monotonic
    assert trend([x + 1e-6 * t for t, x in enumerate(series)]).monotonic


# slopes


def noise(seed: int, n: int, memory: float) -> list[float]:
    """An autoregressive series of unit variance; it forgets within 1 / (1 - memory) values."""
    draw, x, found = random.Random(seed).gauss, 0.0, []
    for _ in range(n):
        x = memory * x + math.sqrt(1 - memory**2) * draw(0.0, 1.0)
        found.append(x)
    return found


@given(st.floats(-1e-3, 1e-3), st.floats(0.01, 2.0), st.integers(9, 2000))
def test_the_slope_of_a_line_is_its_own(steepness: float, dt: float, n: int) -> None:
    found = slope([1.0 + steepness * dt * t for t in range(n)], dt)
    assert found.slope == pytest.approx(steepness, abs=1e-9 / dt)
    assert found.change == pytest.approx(steepness * dt * (n - 1), abs=1e-8 * n)
    assert found.change_error <= 1e-8 * n


@pytest.mark.parametrize("memory", [0.0, 0.9, 0.95])
def test_the_slope_s_error_is_that_of_many_series(memory: float) -> None:
    """Also where neighbouring values are nearly the same, which an error of independent values
    would miss by ten.
    """
    fitted = [
        slope([1e-4 * t + x for t, x in enumerate(noise(seed, 2000, memory))], 1.0)
        for seed in range(60)
    ]
    spread = statistics.stdev(f.slope for f in fitted)
    said = statistics.fmean(f.error for f in fitted)
    assert 0.7 < said / spread < 1.4
    covered = sum(abs(f.change - 1e-4 * 1999) < f.change_error for f in fitted)
    assert covered >= 52
    assert statistics.fmean(f.slope for f in fitted) == pytest.approx(
        1e-4, abs=4 * spread / 60**0.5
    )


def test_kind_13_the_slope_s_interval_holds_for_long_memories_too() -> None:
    """At a correlation of neighbours of 0.99, 95 % intervals missed in 14.5 % before they were
    widened.
    """
    fitted = [slope(noise(seed, 1000, 0.99), 1.0) for seed in range(400)]
    missed = sum(abs(f.change) > f.change_error for f in fitted) / len(fitted)
    assert missed < 0.1


def test_blocks_that_are_too_short_show_it() -> None:
    slow = [math.sin(2 * math.pi * t / 700) for t in range(2000)]
    assert slope(slow, 1.0).block_correlation > 0.5
    assert abs(slope(noise(1, 2000, 0.0), 1.0).block_correlation) < 0.5


def test_an_oscillation_has_no_secular_change_and_euler_has() -> None:
    swinging = slope([1e-4 * math.sin(t / 5) for t in range(10_001)], 0.1)
    assert abs(swinging.change) + swinging.change_error < 1e-5
    growing = slope([1e-4 * math.sin(t / 5) + 1e-7 * t for t in range(10_001)], 0.1)
    assert growing.change == pytest.approx(1e-3, rel=0.02)
    assert growing.change - growing.change_error > 9e-4


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_series_that_is_not_finite_has_no_slope(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        slope([0.0] * 50 + [bad], 1.0)
