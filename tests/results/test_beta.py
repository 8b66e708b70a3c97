from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasebench.results.beta import incomplete_beta


@pytest.mark.parametrize(
    ("t", "degrees", "p"),  # of the usual tables of Student's t, two-sided
    [
        (12.706, 1, 0.05),
        (4.303, 2, 0.05),
        (2.228, 10, 0.05),
        (2.764, 10, 0.02),
        (2.042, 30, 0.05),
        (31.821, 1, 0.02),
    ],
)
def test_students_t(t: float, degrees: int, p: float) -> None:
    assert incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t)) == pytest.approx(
        p, rel=1e-3
    )


@given(
    st.floats(0.1, 50), st.floats(0.1, 50), st.floats(1e-4, 0.9999)
)  # beyond, 1 - x itself is rounded
def test_incomplete_beta_is_a_distribution(a: float, b: float, x: float) -> None:
    value = incomplete_beta(a, b, x)
    assert -1e-12 <= value <= 1 + 1e-12
    assert value + incomplete_beta(b, a, 1 - x) == pytest.approx(1, abs=1e-9)
    assert value <= incomplete_beta(a, b, min(1, x + 0.01)) + 1e-12
