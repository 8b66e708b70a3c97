from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import made
from phasebench.report.axes import Study
from phasebench.report.collect import collect
from phasebench.report.plots.curves import fit, lines
from phasebench.report.plots.pareto import front, pareto_points
from phasebench.report.plots.quantities import DRIFT, QUANTITIES, values


def dots(x: list[float], y: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"y": y, "bound": False}, index=x)


@settings(deadline=None)  # the first example loads scipy
@given(st.floats(-4, 6), st.floats(1e-6, 1e3))
def test_the_order_of_a_power_law_is_found(order: float, factor: float) -> None:
    x = [0.05, 0.1, 0.2, 0.4]
    found = fit(dots(x, [factor * value**order for value in x]), above=0)
    assert found is not None
    words, y = found
    assert re.fullmatch(rf"order -?{abs(round(order, 2)):.2f} ± 0.00 \(4 points\)", words)
    assert y[0.2] == pytest.approx(factor * 0.2**order, rel=1e-6)


def test_close_steps_do_not_overflow() -> None:
    found = fit(dots([1e5, 1.00001e5], [1e5, 1e-5]), above=0)
    assert found is not None
    assert found[1].tolist() == pytest.approx([1e5, 1e-5])


def test_the_error_is_that_of_least_squares() -> None:
    x, y = [0.05, 0.1, 0.2, 0.4, 0.8], [2.9e-6, 1.0e-5, 4.1e-5, 1.7e-4, 6.9e-4]
    found = fit(dots(x, y), above=0)
    (slope, _), covariance = np.polyfit(np.log(x), np.log(y), 1, cov="unscaled")
    rest = np.log(y) - np.polyval(np.polyfit(np.log(x), np.log(y), 1), np.log(x))
    error = math.sqrt(covariance[0, 0] * (rest @ rest) / 3)
    assert found is not None
    assert found[0] == f"order {slope:.2f} ± {error:.2f} (5 points)"


def test_what_the_fit_leaves_out() -> None:
    found = fit(dots([0.1, 0.2, 0.4, 0.8], [1e-6, 1e-6, 4e-5, 16e-5]), above=2e-6)
    assert found is not None
    assert (found[0], found[1].index.tolist()) == ("order 2.00 (2 points)", [0.4, 0.8])
    assert fit(dots([0.1], [1.0]), above=0) is None
    assert fit(dots([0.1, 0.2], [1.0, 2.0]).assign(bound=[False, True]), above=0) is None


def test_seeds_are_repeats_and_other_axes_are_lines(tmp_path: Path) -> None:
    made.sweep(tmp_path, [0.1, 0.2], ["leapfrog", "yoshida4"], seeds=[0, 1, 2])
    study = Study(collect([tmp_path]).points)
    x = next(axis for axis in study.axes if axis.key == "bench.energy.dt")
    found = lines(values(DRIFT, study, x))
    assert [line.label for line in found] == ["leapfrog", "yoshida4"]
    first = found[0].dots.loc[0.1]
    assert first.y == pytest.approx(1.01e-5)
    assert (first.low, first.high) == (pytest.approx(1e-5), pytest.approx(1.02e-5))
    perplexity = lines(values(QUANTITIES[0], study, x))
    # the energy bench's integrator does not concern it
    assert [line.label for line in perplexity] == ["candidate", "baseline"]


def beats(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), max_size=12))
def test_the_front_is_what_nothing_beats(costs: list[tuple[int, int, int]]) -> None:
    best = [not any(beats(other, cost) for other in costs) for cost in costs]
    assert front(np.array(costs)).tolist() == best


def test_points_of_a_front_are_of_one_kind(tmp_path: Path) -> None:
    made.write(tmp_path / "0", made.content({"bench.energy.dt": 0.2}, benches=["energy"]))
    alone = pareto_points(Study(collect([tmp_path]).points))
    assert list(alone.columns) == ["evaluations", "drift"]
    assert alone.evaluations.tolist() == [pytest.approx(101 / 20)]
    made.write(tmp_path / "1", made.content())
    both = pareto_points(Study(collect([tmp_path]).points))
    assert both.perplexity.tolist() == [pytest.approx(65.7, abs=0.1)]
