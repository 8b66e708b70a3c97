"""Intervals, lines and tests, against numbers of former releases and of published tables."""

from __future__ import annotations

import math
import random
import subprocess
import sys

import pytest

from phasebench.results.stats import (
    interval,
    linear_regression,
    quantile,
    ratio_interval,
    welch_p,
)

# intervals


@pytest.mark.parametrize(
    ("df", "t"),  # of the usual tables, two-sided
    [(1, 12.706), (2, 4.303), (5, 2.571), (10, 2.228), (30, 2.042)],
)
def test_quantiles_are_those_of_the_tables(df: int, t: float) -> None:
    assert quantile(df) == pytest.approx(t, rel=3e-4)


def test_numbers_are_those_of_former_releases() -> None:
    """Computed by the continued fraction and the bisection that scipy has replaced."""
    base = [-0.547222894883683, 1.5700980692509843, 1.2187546621490257, -0.1926480623964424]
    new = [1.7464207316729972, -2.363851647091586, 3.2235436843899263, 3.159022410257168]
    assert quantile(8) == pytest.approx(2.3060041352041654, rel=1e-12)
    assert quantile(2) == pytest.approx(4.302652729749464, rel=1e-12)
    assert welch_p(base, new) == pytest.approx(0.5473237304423556, rel=1e-12)
    line = linear_regression(range(4), new)
    assert (line.slope, line.intercept, line.error) == pytest.approx(
        (0.9825200367234025, -0.03249626027797725, 1.259861596908277), rel=1e-12
    )


def test_an_interval_of_three_covers_the_mean_as_often_as_it_says() -> None:
    draw = random.Random(0).gauss
    found = [interval([draw(5.0, 2.0) for _ in range(3)]) for _ in range(2000)]
    covered = sum(i.low <= 5.0 <= i.high for i in found if i) / len(found)
    assert 0.935 < covered < 0.965


def test_a_single_value_has_no_interval() -> None:
    assert interval([1.0]) is None
    assert ratio_interval([0.1]) is None


def test_a_ratio_s_interval_holds_its_geometric_mean() -> None:
    found = ratio_interval([math.log(0.5), math.log(2.0)])
    assert found
    assert found.mean == pytest.approx(1.0)
    assert found.low == pytest.approx(1 / found.high)


# lines


def test_a_line_is_fitted_with_its_error() -> None:
    line = linear_regression([0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 1.0, 2.0])
    assert (line.slope, line.intercept, line.error) == pytest.approx((0.6, 0.1, 0.02**0.5))


def test_two_points_have_a_line_without_an_error() -> None:
    line = linear_regression([1.0, 3.0], [2.0, 6.0])
    assert (line.slope, line.intercept, line.error) == pytest.approx((2.0, 0.0, 0.0))


def test_points_of_one_x_have_no_line() -> None:
    with pytest.raises(ValueError, match="identical"):
        linear_regression([1.0, 1.0], [0.0, 1.0])


# Welch's test


def test_false_alarms_are_as_rare_as_promised() -> None:
    generator = random.Random(1)

    def sample(n: int) -> list[float]:
        return [generator.gauss(0, 1) for _ in range(n)]

    alarms = sum((welch_p(sample(4), sample(6)) or 0) < 0.05 for _ in range(1000))
    assert 22 < alarms < 78  # 50, within four standard deviations


@pytest.mark.parametrize("sides", [([1.0], [2.0, 3.0]), ([1.0, 1.0], [2.0, 2.0]), ([], [1.0])])
def test_no_test_is_no_p(sides: tuple[list[float], list[float]]) -> None:
    assert welch_p(*sides) is None


def test_tiny_and_large_spreads() -> None:
    base, new = [1.0, 2.0, 3.0], [2.0, 3.0, 4.5]
    p = welch_p(base, new)
    assert p is not None
    for factor in (1e-150, 1e100):
        assert welch_p([x * factor for x in base], [x * factor for x in new]) == pytest.approx(p)
    far = welch_p([0.0, 1e-9], [1.0, 1.0 + 1e-9])
    assert far is not None
    assert 0 <= far < 1e-6
    assert math.isclose(welch_p(base, base) or 0, 1)


# what reading results costs


def test_reading_results_loads_neither_torch_nor_scipy() -> None:
    code = (
        "import sys, phasebench.results.file, phasebench.results.stats;"
        "print([m for m in ('torch', 'scipy', 'numpy', 'jsonschema') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
