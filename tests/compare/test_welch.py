from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasebench.compare.welch import incomplete_beta, welch_p


@pytest.mark.parametrize(
    ("t", "degrees", "p"),  # of the usual tables of Student's t, two-sided
    [(12.706, 1, 0.05), (4.303, 2, 0.05), (2.228, 10, 0.05), (2.764, 10, 0.02), (2.042, 30, 0.05), (31.821, 1, 0.02)],
)
def test_students_t(t: float, degrees: int, p: float) -> None:
    assert incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t)) == pytest.approx(p, rel=1e-3)


@given(st.floats(0.1, 50), st.floats(0.1, 50), st.floats(1e-4, 0.9999))  # beyond, 1 - x itself is rounded
def test_incomplete_beta_is_a_distribution(a: float, b: float, x: float) -> None:
    value = incomplete_beta(a, b, x)
    assert -1e-12 <= value <= 1 + 1e-12
    assert value + incomplete_beta(b, a, 1 - x) == pytest.approx(1, abs=1e-9)
    assert value <= incomplete_beta(a, b, min(1, x + 0.01)) + 1e-12


def test_against_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    generator = random.Random(0)
    for _ in range(200):
        base, new = ([generator.gauss(mean, generator.uniform(0.01, 3)) for _ in range(generator.randint(2, 9))]
                     for mean in (1, 2))  # fmt: skip
        expected = stats.ttest_ind(base, new, equal_var=False).pvalue
        assert welch_p(base, new) == pytest.approx(float(expected), rel=1e-9)


def test_false_alarms_are_as_rare_as_promised() -> None:
    generator = random.Random(1)

    def sample(n: int) -> list[float]:
        return [generator.gauss(0, 1) for _ in range(n)]

    alarms = sum((welch_p(sample(4), sample(6)) or 0) < 0.05 for _ in range(2000))
    assert 60 < alarms < 140  # 100, within four standard deviations


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
