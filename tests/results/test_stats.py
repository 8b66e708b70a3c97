from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from phasebench.results.stats import interval, quantile, ratio_interval, within


@pytest.mark.parametrize("df", [1, 2, 3, 4, 5, 17, 18, 60])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
def test_quantiles_are_scipy_s(df: int, confidence: float) -> None:
    assert quantile(df, confidence) == pytest.approx(
        stats.t.ppf((1 + confidence) / 2, df), rel=1e-9
    )


@given(st.floats(0.0, 50.0), st.integers(1, 80))
def test_probabilities_are_scipy_s(t: float, df: int) -> None:
    assert within(t, df) == pytest.approx(1 - 2 * stats.t.sf(t, df), abs=1e-10)


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
    assert (found.n, found.confidence) == (2, 0.95)
