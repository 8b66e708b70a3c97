from __future__ import annotations

import math
import random

import pytest

from phasebench.results.welch import welch_p


def test_against_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    generator = random.Random(0)
    for _ in range(200):
        base, new = (
            [
                generator.gauss(mean, generator.uniform(0.01, 3))
                for _ in range(generator.randint(2, 9))
            ]
            for mean in (1, 2)
        )
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
