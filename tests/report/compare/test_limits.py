from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phasebench.config import ConfigError
from phasebench.report.compare.verdict import Limit


@pytest.mark.parametrize(
    ("text", "base", "worst", "too_far"),
    [
        ("x:+2%", 100.0, 102.0, 102.01),
        ("x:-5%", 100.0, 95.0, 94.99),
        ("x:+0.1", 1.0, 1.1, 1.1001),
        ("x:-0.1", 1.0, 0.9, 0.8999),
        ("x:+1e-6", 0.0, 1e-6, 1.1e-6),
        ("x:+0%", 3.0, 3.0, 3.0001),
        ("x:+2%", -100.0, -98.0, -97.9),
        ("energy.x:+2%", 1.0, 1.02, 1.03),
    ],
)
def test_a_limit(text: str, base: float, worst: float, too_far: float) -> None:
    limit = Limit.parse(text)
    assert limit.exceeded(base, worst) is False
    assert limit.exceeded(base, too_far) is True
    assert limit.exceeded(base, base) is False


def test_a_percentage_of_nothing_cannot_be_judged() -> None:
    limit = Limit.parse("x:+2%")
    assert limit.exceeded(0.0, 1e-9) is None
    assert limit.exceeded(0.0, 0.0) is False
    assert limit.exceeded(0.0, -1.0) is False


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "x:",
        "x:2%",
        "x:+",
        "x:+%",
        "x:+2%%",
        ":+2",
        "x:+-2",
        "x:+1.2.3",
        "x:+1e999",
        "x:+nan",
    ],
)
def test_what_is_no_limit(text: str) -> None:
    with pytest.raises(ConfigError, match="fix: METRIC") as caught:
        Limit.parse(text)
    assert caught.value.key == "--fail"


@given(st.floats(0, 1e6, allow_subnormal=False), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_the_two_directions_mirror_each_other(size: float, base: float, new: float) -> None:
    up, down = Limit("", "x", 1, size, False), Limit("", "x", -1, size, False)
    assert up.exceeded(base, new) == down.exceeded(-base, -new)
    assert not (up.exceeded(base, new) and down.exceeded(base, new))
