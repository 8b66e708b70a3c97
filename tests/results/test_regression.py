"""The line of least squares and its error, against numpy's covariance."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasebench.results.regression import linear_regression


@given(st.lists(st.floats(-10, 10), min_size=4, max_size=12))
def test_line_and_error_are_numpy_s(y: list[float]) -> None:
    x = [0.5 * i**1.5 for i in range(len(y))]
    found = linear_regression(x, y)
    (slope, intercept), covariance = np.polyfit(x, y, 1, cov=True)
    assert (found.slope, found.intercept) == pytest.approx((slope, intercept), abs=1e-9)
    assert found.error == pytest.approx(math.sqrt(covariance[0, 0]), abs=1e-9)
    assert sum(found.residuals) == pytest.approx(0, abs=1e-9)


def test_two_points_have_a_line_without_an_error() -> None:
    found = linear_regression([1.0, 3.0], [2.0, 6.0])
    assert (found.slope, found.intercept, found.residuals) == (2.0, 0.0, (0.0, 0.0))
    with pytest.raises(ZeroDivisionError):
        _ = found.error


def test_points_of_one_x_have_no_line() -> None:
    with pytest.raises(statistics.StatisticsError):
        linear_regression([1.0, 1.0], [0.0, 1.0])
